"""The calls about runs. Each decides synchronously what it can, and waits afterwards."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import trio
from quart import Blueprint, Response, abort, current_app, g, json, request

from api.problems import problem
from api.schema import (
    EventsQuery,
    RunsQuery,
    StartOrder,
    StopOrder,
    WaitQuery,
    agent_json,
    event_json,
    parse,
    receipt_json,
    run_json,
    stack_json,
    tree_json,
)
from orchestrator import InvalidInput, RunEnded, RunRecord, StopSource, StoreUnavailable

if TYPE_CHECKING:
    from api.stream import Streams
    from orchestrator import Orchestrator, Run

blueprint = Blueprint("runs", __name__)

Answer = tuple[dict[str, Any], int] | tuple[dict[str, Any], int, dict[str, str]]


def _orchestrator() -> Orchestrator:
    orchestrator: Orchestrator = current_app.extensions["quiesce"]
    return orchestrator


@blueprint.get("/agents")
async def agents() -> dict[str, Any]:
    """List the registered agents."""
    return {"agents": [agent_json(agent) for agent in _orchestrator().agents]}


@blueprint.post("/runs")
async def start() -> Answer:
    """Start a run; the answer comes once that is durable."""
    order = parse(StartOrder, g.body)
    wait_s = parse(WaitQuery, _query()).wait_s
    run = await _orchestrator().start(order.agent, order.input, options=order.options)
    await _wait_for_end(run, wait_s)
    return await _whole_run(run.id), 201, {"Location": f"/runs/{run.id}"}


@blueprint.get("/runs")
async def runs() -> dict[str, Any]:
    """List runs, newest first, without their partial results."""
    query = parse(RunsQuery, _query())
    orchestrator = _orchestrator()
    page = await orchestrator.runs(query.filter(), after=query.after, limit=query.limit)
    shown = [run_json(record, orchestrator.live(record.id)) for record in page.runs]
    return {"runs": shown, "next": page.next}


@blueprint.get("/runs/<run_id>")
async def run(run_id: str) -> Response:
    """Show one run; ``wait_s`` waits for its end; ``If-None-Match`` saves the body."""
    wait_s = parse(WaitQuery, _query()).wait_s
    await _wait_for_end(_orchestrator().live(run_id), wait_s)
    body = json.dumps(await _whole_run(run_id))
    response = Response(body, content_type="application/json")
    response.set_etag(hashlib.sha256(body.encode()).hexdigest()[:20])
    response.headers["Cache-Control"] = "no-cache"
    if request.if_none_match.contains_weak(response.get_etag()[0] or ""):
        response.status_code = 304
        response.set_data(b"")
    return response


@blueprint.get("/runs/<run_id>/tree")
async def tree(run_id: str) -> dict[str, Any]:
    """Show a run with its sub-agents, nested."""
    orchestrator = _orchestrator()
    records = await orchestrator.tree(run_id)
    return tree_json(records, {run.id: run for run in orchestrator.registry})


@blueprint.get("/runs/<run_id>/events")
async def events(run_id: str) -> Response | dict[str, Any]:
    """Stream a run's feed from ``Last-Event-ID`` or ``after``, or show a page of it as JSON."""
    query = parse(EventsQuery, _query() | _last_event_id())
    best = request.accept_mimetypes.best_match(["text/event-stream", "application/json"])
    streams: Streams = current_app.extensions["quiesce.streams"]
    if best != "application/json":
        return streams.respond(await _orchestrator().events(run_id, after=query.after))
    subscription = await _orchestrator().events(run_id, after=query.after, follow=False)
    page = await subscription.at_most(query.limit)
    following = page[-1].seq if len(page) == query.limit else None
    return {"events": [event_json(event) for event in page], "next": following}


@blueprint.post("/runs/<run_id>/stop")
async def stop(run_id: str) -> Answer | Response:
    """Stop a run. It takes effect before this handler first waits; the answer is durable."""
    order = parse(StopOrder, g.body if g.body is not None else {})
    orchestrator = _orchestrator()
    live = orchestrator.live(run_id)
    if live is not None and live.record.status.is_terminal:
        # Its end is being stored; until then nobody knows of it, so neither does this answer.
        await orchestrator.durable(live.ticket)
    elif live is not None:
        ticket = live.request_stop(
            mode=order.mode,
            grace_s=order.grace_s,
            reason=order.reason,
            source=StopSource.USER,
            requested_by="anonymous",
            discard=order.discard,
        )
        try:
            await orchestrator.durable(ticket)
        except StoreUnavailable as error:
            return _not_durable(live, error)
    await _wait_for_end(live, order.wait_s)
    return _stop_answer(await orchestrator.get(run_id), await _whole_run(run_id))


@blueprint.get("/runs/<run_id>/stop")
async def receipt(run_id: str) -> dict[str, Any] | Response:
    """Show the receipt of a stop, settled or so far."""
    orchestrator = _orchestrator()
    shown = run_json(await orchestrator.get(run_id), orchestrator.live(run_id))
    stop: dict[str, Any] | None = shown["stop"]
    if stop is None:
        why = f"no stop of run {run_id} was asked for"
        return problem(404, "never-stopped", why, run_id=run_id, run_status=shown["status"])
    return stop


@blueprint.get("/runs/<run_id>/stack")
async def stack(run_id: str) -> dict[str, Any]:
    """Show where each live task of the run's tree stands."""
    live = _orchestrator().live(run_id)
    if live is not None:
        return stack_json(live.stack())
    await _orchestrator().get(run_id)
    return stack_json([])


@blueprint.get("/runs/<run_id>/partial")
async def partial(run_id: str) -> Response:
    """Show the latest partial result, null if there is none."""
    await _orchestrator().get(run_id)
    value = await _orchestrator().partial(run_id)
    return Response(json.dumps(value), content_type="application/json")


@blueprint.get("/runs/<run_id>/artifacts")
async def artifacts(run_id: str) -> dict[str, Any]:
    """List the files that were kept with a run."""
    await _orchestrator().get(run_id)
    kept = await _orchestrator().artifacts(run_id)
    return {
        "artifacts": [
            {"name": each.name, "media_type": each.media_type, "size": each.size} for each in kept
        ]
    }


@blueprint.get("/runs/<run_id>/artifacts/<name>")
async def artifact(run_id: str, name: str) -> Response:
    """Hand out one of those files."""
    orchestrator = _orchestrator()
    await orchestrator.get(run_id)
    kept = {each.name: each for each in await orchestrator.artifacts(run_id)}
    data = await orchestrator.artifact(run_id, name)
    if data is None:
        abort(404, f"run {run_id} has no artifact {name!r}")
    # An agent made it, perhaps of what a stranger sent: never let a browser run it.
    headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
    return Response(data, content_type=kept[name].media_type, headers=headers)


async def _whole_run(run_id: str) -> dict[str, Any]:
    orchestrator = _orchestrator()
    record = await orchestrator.get(run_id)
    partial = await orchestrator.partial(run_id)
    return run_json(record, orchestrator.live(run_id)) | {"partial": partial}


def _stop_answer(record: RunRecord, shown: dict[str, Any]) -> Answer:
    if record.status.is_terminal and record.stop is None:
        raise RunEnded(record.id, record.status)
    return {"run": shown, "receipt": shown["stop"]}, 200 if record.status.is_terminal else 202


def _not_durable(run: Run, error: StoreUnavailable) -> Response:
    """The stop works, but a crash now could forget it: say both."""
    return problem(
        503,
        "stop-not-durable",
        f"the stop is being carried out but is not durable yet: {error}",
        run_id=run.id,
        run_status=run.status,
        receipt=receipt_json(run.receipt),
    )


async def _wait_for_end(run: Run | None, wait_s: float) -> None:
    if run is not None and wait_s > 0:
        with trio.move_on_after(wait_s):
            await run.ended.wait()


def _query() -> dict[str, str]:
    query = request.args.to_dict(flat=False)
    repeated = [name for name, values in query.items() if len(values) > 1]
    if repeated:
        raise InvalidInput([(name, "is given more than once") for name in repeated])
    return {name: values[0] for name, values in query.items()}


def _last_event_id() -> dict[str, str]:
    last = request.headers.get("Last-Event-ID")
    return {} if last is None else {"after": last}

"""The calls about runs. Each decides synchronously what it can, and waits afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quart import Blueprint, Response, current_app, g, request

from api.auth.guard import caller, check_agent
from api.calls import (
    Answer,
    json_response,
    query,
    tagged,
    the_orchestrator,
    wait_for_end,
    whole_run,
)
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
from orchestrator import RunEnded, RunRecord, StopSource, StoreUnavailable

if TYPE_CHECKING:
    from api.stream import Streams
    from orchestrator import Run, RunFilter

blueprint = Blueprint("runs", __name__)


@blueprint.get("/agents")
async def agents() -> dict[str, Any]:
    """List the registered agents."""
    return {"agents": [agent_json(agent) for agent in the_orchestrator().agents]}


@blueprint.post("/runs")
async def start() -> Answer:
    """Start a run; the answer comes once that is durable."""
    order = parse(StartOrder, g.body)
    wait_s = parse(WaitQuery, query()).wait_s
    check_agent(order.agent)
    run = await the_orchestrator().start(
        order.agent, order.input, options=order.options, owner=caller().principal
    )
    await wait_for_end(run, wait_s)
    return await whole_run(run.id), 201, {"Location": f"/runs/{run.id}"}


@blueprint.get("/runs")
async def runs() -> dict[str, Any]:
    """List runs, newest first, without their partial results."""
    asked = parse(RunsQuery, query())
    orchestrator = the_orchestrator()
    where = _visible(asked.filter())
    if where is None:
        return {"runs": [], "next": None}
    page = await orchestrator.runs(where, after=asked.after, limit=asked.limit)
    shown = [run_json(record, orchestrator.live(record.id)) for record in page.runs]
    return {"runs": shown, "next": page.next}


@blueprint.get("/runs/<run_id>")
async def run(run_id: str) -> Response:
    """Show one run; ``wait_s`` waits for its end; ``If-None-Match`` saves the body."""
    wait_s = parse(WaitQuery, query()).wait_s
    await wait_for_end(the_orchestrator().live(run_id), wait_s)
    return await tagged(json_response(await whole_run(run_id)))


@blueprint.get("/runs/<run_id>/tree")
async def tree(run_id: str) -> dict[str, Any]:
    """Show a run with its sub-agents, nested."""
    orchestrator = the_orchestrator()
    records = await orchestrator.tree(run_id)
    return tree_json(records, {run.id: run for run in orchestrator.registry})


@blueprint.get("/runs/<run_id>/events")
async def events(run_id: str) -> Response | dict[str, Any]:
    """Stream a run's feed from ``Last-Event-ID`` or ``after``, or show a page of it as JSON."""
    asked = parse(EventsQuery, query() | _last_event_id())
    best = request.accept_mimetypes.best_match(["text/event-stream", "application/json"])
    streams: Streams = current_app.extensions["quiesce.streams"]
    if best != "application/json":
        return streams.respond(await the_orchestrator().events(run_id, after=asked.after))
    subscription = await the_orchestrator().events(run_id, after=asked.after, follow=False)
    page = await subscription.at_most(asked.limit)
    following = page[-1].seq if len(page) == asked.limit else None
    return {"events": [event_json(event) for event in page], "next": following}


@blueprint.post("/runs/<run_id>/stop")
async def stop(run_id: str) -> Answer | Response:
    """Stop a run. It takes effect before this handler first waits; the answer is durable."""
    order = parse(StopOrder, g.body if g.body is not None else {})
    orchestrator = the_orchestrator()
    live = orchestrator.live(run_id)
    if live is not None and live.record.status.is_terminal:
        # Its end is being stored; until then nobody knows of it, so neither does this answer.
        await orchestrator.durable(live.ticket)
    elif live is not None:
        ticket = live.request_stop(
            mode=order.mode,
            grace_s=order.grace_s,
            reason=order.reason,
            source=_source(live),
            requested_by=caller().principal,
            discard=order.discard,
        )
        try:
            await orchestrator.durable(ticket)
        except StoreUnavailable as error:
            return _not_durable(live, error)
    await wait_for_end(live, order.wait_s)
    return _stop_answer(await orchestrator.get(run_id), await whole_run(run_id))


@blueprint.get("/runs/<run_id>/stop")
async def receipt(run_id: str) -> dict[str, Any] | Response:
    """Show the receipt of a stop, settled or so far."""
    orchestrator = the_orchestrator()
    shown = run_json(await orchestrator.get(run_id), orchestrator.live(run_id))
    stop: dict[str, Any] | None = shown["stop"]
    if stop is None:
        why = f"no stop of run {run_id} was asked for"
        return problem(404, "never-stopped", why, run_id=run_id, run_status=shown["status"])
    return stop


@blueprint.get("/runs/<run_id>/stack")
async def stack(run_id: str) -> dict[str, Any]:
    """Show where each live task of the run's tree stands."""
    live = the_orchestrator().live(run_id)
    if live is not None:
        return stack_json(live.stack())
    await the_orchestrator().get(run_id)
    return stack_json([])


def _visible(where: RunFilter) -> RunFilter | None:
    """Return the filter for those of the runs that the caller may see; None if it may see none."""
    if caller().sees_all:
        return where
    own = caller().principal
    return replace(where, owner=own) if where.owner in (None, own) else None


def _source(run: Run) -> StopSource:
    # Only an admin may act on somebody else's run; one without an owner is nobody else's.
    own = run.record.owner in ("", caller().principal)
    return StopSource.USER if own else StopSource.ADMIN


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


def _last_event_id() -> dict[str, str]:
    last = request.headers.get("Last-Event-ID")
    return {} if last is None else {"after": last}

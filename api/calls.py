"""What the calls share: the orchestrator, the caller, the query, and how a run is acted upon."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import trio
from quart import Response, current_app, json, request

from api.schema import run_json
from orchestrator import InvalidInput, RunEnded

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator import Orchestrator, Run

Answer = tuple[dict[str, Any], int] | tuple[dict[str, Any], int, dict[str, str]]


def the_orchestrator() -> Orchestrator:
    """Return the orchestrator that the application serves."""
    orchestrator: Orchestrator = current_app.extensions["quiesce"]
    return orchestrator


async def whole_run(run_id: str) -> dict[str, Any]:
    """Return a run as JSON, with its partial result."""
    orchestrator = the_orchestrator()
    record = await orchestrator.get(run_id)
    partial = await orchestrator.partial(run_id)
    return run_json(record, orchestrator.live(run_id)) | {"partial": partial}


async def act(run_id: str, ask: Callable[[Run], int]) -> dict[str, Any]:
    """Ask something of a live run, and return the run once that is durable.

    It takes effect before this first waits. What refuses it is durable too before it is told.

    Args:
        ask: returns the journal's ticket, as the verbs of a run do.

    Raises:
        UnknownRun, RunEnded: there is nothing to act on.
        StoreUnavailable: it is being carried out, but is not durable yet.
    """
    orchestrator = the_orchestrator()
    live = orchestrator.live(run_id)
    if live is None or live.record.status.is_terminal:
        if live is not None:
            await orchestrator.durable(live.ticket)
        record = await orchestrator.get(run_id)
        raise RunEnded(record.id, record.status)
    try:
        ask(live)
    finally:
        await orchestrator.durable(live.ticket)
    return await whole_run(run_id)


async def wait_for_end(run: Run | None, wait_s: float) -> None:
    """Wait for the run's end, but no longer than that."""
    if run is not None and wait_s > 0:
        with trio.move_on_after(wait_s):
            await run.ended.wait()


def query() -> dict[str, str]:
    """Return the query of the request.

    Raises:
        InvalidInput: something is given twice.
    """
    given = request.args.to_dict(flat=False)
    repeated = [name for name, values in given.items() if len(values) > 1]
    if repeated:
        raise InvalidInput([(name, "is given more than once") for name in repeated])
    return {name: values[0] for name, values in given.items()}


def json_response(value: Any) -> Response:
    """Return a response of any JSON value, which may be null."""
    return Response(json.dumps(value), content_type="application/json")


async def tagged(response: Response) -> Response:
    """Give the response an ``ETag``; whoever names it has the content, and gets a 304."""
    content = await response.get_data(as_text=False)
    response.set_etag(hashlib.sha256(content).hexdigest()[:20])
    response.headers["Cache-Control"] = "no-cache"
    if request.if_none_match.contains_weak(response.get_etag()[0] or ""):
        response.status_code = 304
        response.set_data(b"")
    return response

"""Stops of many runs at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from quart import Blueprint, Response, g

from api.acts import Stop
from api.answers import run_json
from api.auth.guard import caller, check_owner
from api.auth.noting import kept, note_refusal
from api.auth.rights import Right
from api.calls import json_response, the_orchestrator
from api.problems import about, document, from_error
from api.schema import BulkStopOrder, parse
from orchestrator import OrchestratorError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from orchestrator import RunFilter

blueprint = Blueprint("bulk", __name__)

# A stop that was asked for, or why it was not.
_Asked = Stop | OrchestratorError


@blueprint.post("/runs/stop")
async def stop_many() -> tuple[Response, int]:
    """Stop runs by their ids, or live ones by a filter, all of them before this first waits."""
    order = parse(BulkStopOrder, g.body)
    where = order.where()
    asked = _ask_all(order.ids or [] if where is None else _live(where), order)
    await _wait([each for each in asked.values() if isinstance(each, Stop)], order.wait_s)
    results = [await _result(run_id, each) for run_id, each in asked.items()]
    await _note_refusals(results, order.reason)
    return await json_response({"results": iter(results)}), 202


def _live(where: RunFilter) -> list[str]:
    """Return the live runs that fit and that the caller may see, parents before children."""
    runs = the_orchestrator().registry
    return [run.id for run in runs if caller().may_see(run.record.owner) and where.fits(run.record)]


def _ask_all(run_ids: Iterable[str], order: BulkStopOrder) -> Mapping[str, _Asked]:
    chosen = dict.fromkeys(run_ids)
    below = {run_id for run_id in chosen if _is_below(run_id, chosen)}
    asked = {run_id: _ask(run_id, order) for run_id in chosen if run_id not in below}
    # What is below another one of them is stopped with that, and by that.
    asked |= {run_id: _ask(run_id, order, ask=False) for run_id in below}
    return {run_id: asked[run_id] for run_id in chosen}


def _is_below(run_id: str, chosen: Container[str]) -> bool:
    live = the_orchestrator().live(run_id)
    above = [] if live is None else [run for run in live.lineage() if run is not live]
    return any(run.id in chosen and not run.record.status.is_terminal for run in above)


def _ask(run_id: str, order: BulkStopOrder, *, ask: bool = True) -> _Asked:
    live = the_orchestrator().live(run_id)
    try:
        if live is not None:
            check_owner(Right.ACT, run_id, live.record.owner)
        return Stop(run_id, order, ask=ask)
    except OrchestratorError as error:
        return error


async def _wait(stops: Iterable[Stop], wait_s: float) -> None:
    """Wait until all are durable, and then for the ends, but no longer than that."""
    try:
        for stop in stops:
            await stop.durable()
    except StoreUnavailable:
        return  # each result says so
    with trio.move_on_after(wait_s):
        for stop in stops:
            await stop.ended()


async def _result(run_id: str, asked: _Asked) -> dict[str, Any]:
    orchestrator = the_orchestrator()
    run = None
    try:
        if isinstance(asked, OrchestratorError):
            raise asked
        await asked.durable()
        record = asked.shown or await orchestrator.get(run_id)
        check_owner(Right.ACT, run_id, record.owner)
        run = run_json(record, orchestrator.live(run_id))
        body, status = asked.receipt_of(run)
    except OrchestratorError as error:
        response = from_error(error, **about(run_id))
        body, status = {"problem": await document(response)}, response.status_code
    return {"run_id": run_id, "status_code": status, "run": run} | body


async def _note_refusals(results: Iterable[dict[str, Any]], reason: str) -> None:
    ticket = 0
    for each in results:
        if "problem" in each:
            kind = each["problem"]["type"].rpartition(":")[2]
            ticket = note_refusal("stop", each["run_id"], reason, kind)
    await kept(ticket)

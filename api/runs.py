"""The calls about runs. Each decides synchronously what it can, and waits afterwards."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from quart import Blueprint, Response, g

from api.acts import Stop
from api.answers import agent_json, brief_json, run_json, stack_json, tree_json
from api.auth.guard import caller
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
from api.schema import RunsQuery, StopOrder, WaitQuery, parse

if TYPE_CHECKING:
    from orchestrator import RunFilter

blueprint = Blueprint("runs", __name__)


@blueprint.get("/agents")
async def agents() -> dict[str, Any]:
    """List the registered agents."""
    return {"agents": [agent_json(agent) for agent in the_orchestrator().agents]}


@blueprint.get("/runs")
async def runs() -> Response:
    """List runs, newest first, without their partial results; ``If-None-Match`` saves the body."""
    asked = parse(RunsQuery, query())
    orchestrator = the_orchestrator()
    where = _visible(asked.filter())
    if where is None:
        return await tagged(await json_response({"runs": [], "next": None}))
    page = await orchestrator.runs(where, after=asked.after, limit=asked.limit, brief=asked.brief)
    shown_as = brief_json if asked.brief else run_json
    shown = (shown_as(record, orchestrator.live(record.id)) for record in page.runs)
    return await tagged(await json_response({"runs": shown, "next": page.next}))


@blueprint.get("/runs/<run_id>")
async def run(run_id: str) -> Response:
    """Show one run; ``wait_s`` waits for its end; ``If-None-Match`` saves the body."""
    wait_s = parse(WaitQuery, query()).wait_s
    await wait_for_end(the_orchestrator().live(run_id), wait_s)
    return await tagged(await json_response(await whole_run(run_id)))


@blueprint.get("/runs/<run_id>/tree")
async def tree(run_id: str) -> Response:
    """Show a run with its sub-agents, nested."""
    orchestrator = the_orchestrator()
    records = await orchestrator.tree(run_id)
    return await json_response(tree_json(records, orchestrator.live))


@blueprint.post("/runs/<run_id>/stop")
async def stop(run_id: str) -> Answer:
    """Stop a run. It takes effect before this handler first waits; the answer is durable."""
    return await Stop(run_id, parse(StopOrder, g.body if g.body is not None else {})).answer()


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
        return stack_json(await live.stack())
    await the_orchestrator().get(run_id)
    return stack_json([])


def _visible(where: RunFilter) -> RunFilter | None:
    """Return the filter for those of the runs that the caller may see; None if it may see none."""
    if caller().sees_all:
        return where
    own = caller().principal
    return replace(where, owner=own) if where.owner in (None, own) else None

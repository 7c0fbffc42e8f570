"""The calls that halt everything, and lift that again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio
from pydantic_core import to_jsonable_python
from quart import Blueprint, Response, g

from api.answers import run_json
from api.auth.guard import caller
from api.auth.noting import done_to_all
from api.calls import json_response, the_orchestrator
from api.orders import HaltOrder
from api.problems import problem
from api.schema import parse
from orchestrator import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator import Run

blueprint = Blueprint("halts", __name__)


@blueprint.post("/halt")
async def halt() -> tuple[Response, int] | Response:
    """Stop every run and refuse starts. It takes effect before this handler first waits."""
    order = parse(HaltOrder, g.body if g.body is not None else {})
    orchestrator = the_orchestrator()
    live = [run for run in orchestrator.registry.roots() if not run.record.status.is_terminal]
    ticket = orchestrator.request_halt(
        mode=order.mode,
        grace_s=order.grace_s,
        reason=order.reason,
        requested_by=caller().principal,
    )
    try:
        await orchestrator.durable(done_to_all("halt", ticket, order.reason))
    except StoreUnavailable as error:
        why = f"the halt is being carried out but is not durable yet: {error}"
        return problem(503, "halt-not-durable", why)
    await _wait_for_ends(live, order.wait_s)
    results = [await _result(run) for run in live]
    stopped = sum(each["receipt"]["runs_stopped"] for each in results)
    settled = all(each["status_code"] == 200 for each in results)
    shown = {"halt": _shown(), "runs_stopped": stopped, "results": iter(results)}
    return await json_response(shown), 200 if settled else 202


@blueprint.get("/halt")
async def show() -> dict[str, Any]:
    """Show the halt that is on, and how many runs are still live."""
    return {"halt": _shown(), "live": len(the_orchestrator().registry)}


@blueprint.delete("/halt")
async def lift() -> tuple[str, int]:
    """Let runs start again; the answer comes once that is durable."""
    orchestrator = the_orchestrator()
    await orchestrator.durable(done_to_all("lift", orchestrator.request_lift()))
    return "", 204


def _shown() -> Any:
    return to_jsonable_python(the_orchestrator().halted)


async def _wait_for_ends(runs: Sequence[Run], wait_s: float) -> None:
    with trio.move_on_after(wait_s):
        for run in runs:
            await run.ended.wait()


async def _result(run: Run) -> dict[str, Any]:
    orchestrator = the_orchestrator()
    record = await orchestrator.get(run.id)
    shown = run_json(record, orchestrator.live(run.id))
    return {
        "run_id": run.id,
        "status_code": 200 if record.status.is_terminal else 202,
        "run": shown,
        "receipt": shown["stop"],
    }

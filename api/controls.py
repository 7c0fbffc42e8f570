"""The calls that act on a run, other than the stop.

Each takes effect before its handler first waits, and is answered once it is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Blueprint, g

from api.auth.guard import caller, check_agent
from api.calls import Answer, act, query, the_orchestrator, wait_for_end, whole_run
from api.schema import AnswerOrder, ChangeOrder, ControlOrder, RerunOrder, WaitQuery, parse

if TYPE_CHECKING:
    from orchestrator import Run

blueprint = Blueprint("controls", __name__)


@blueprint.post("/runs/<run_id>/pause")
async def pause(run_id: str) -> Answer:
    """Let nothing new start in the run and below it; what is in flight finishes."""
    reason = parse(ControlOrder, _body()).reason
    by = caller().principal
    return await act(run_id, lambda run: run.request_pause(requested_by=by, reason=reason)), 202


@blueprint.post("/runs/<run_id>/resume")
async def resume(run_id: str) -> Answer:
    """Let a paused run, and everything below it, go on."""
    parse(ControlOrder, _body())
    return await act(run_id, lambda run: run.request_resume(requested_by=caller().principal)), 202


@blueprint.post("/runs/<run_id>/step")
async def step(run_id: str) -> Answer:
    """Let one task of a paused tree through its gate."""
    parse(ControlOrder, _body())
    return await act(run_id, lambda run: run.request_step(requested_by=caller().principal)), 202


@blueprint.post("/runs/<run_id>/answer")
async def answer(run_id: str) -> Answer:
    """Answer a question that the run asks."""
    order = parse(AnswerOrder, g.body)

    def give(run: Run) -> int:
        return run.answer(order.question_id, order.answer, answered_by=caller().principal)

    return await act(run_id, give), 202


@blueprint.patch("/runs/<run_id>")
async def change(run_id: str) -> dict[str, Any]:
    """Move the run's deadline."""
    deadline_s = parse(ChangeOrder, g.body).deadline_s
    by = caller().principal
    return await act(run_id, lambda run: run.move_deadline(deadline_s, requested_by=by))


@blueprint.post("/runs/<run_id>/rerun")
async def rerun(run_id: str) -> Answer:
    """Start a new run with the input of one that has ended."""
    order = parse(RerunOrder, _body())
    wait_s = parse(WaitQuery, query()).wait_s
    check_agent((await the_orchestrator().get(run_id)).agent)
    run = await the_orchestrator().rerun(run_id, from_step=order.from_step)
    await wait_for_end(run, wait_s)
    return await whole_run(run.id), 201, {"Location": f"/runs/{run.id}"}


def _body() -> Any:
    return g.body if g.body is not None else {}

"""The calls that act on a run, other than the stop.

Each takes effect before its handler first waits, and is answered once it is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Blueprint, Response, g

from api import acts
from api.acts import Act
from api.auth.guard import caller
from api.auth.noting import done_to_all
from api.calls import the_orchestrator
from api.schema import AnswerOrder, ChangeOrder, ControlOrder, parse

if TYPE_CHECKING:
    from api.calls import Answer
    from orchestrator import Run

blueprint = Blueprint("controls", __name__)


@blueprint.post("/runs/<run_id>/pause")
async def pause(run_id: str) -> Answer:
    """Let nothing new start in the run and below it; what is in flight finishes."""
    return await acts.pause(run_id, parse(ControlOrder, _body())).answer()


@blueprint.post("/runs/<run_id>/resume")
async def resume(run_id: str) -> Answer:
    """Let a paused run, and everything below it, go on."""
    return await acts.resume(run_id, parse(ControlOrder, _body())).answer()


@blueprint.post("/runs/<run_id>/step")
async def step(run_id: str) -> Answer:
    """Let one task of a paused tree through its gate."""
    return await acts.step(run_id, parse(ControlOrder, _body())).answer()


@blueprint.post("/runs/<run_id>/answer")
async def answer(run_id: str) -> Answer:
    """Answer a question that the run asks."""
    order = parse(AnswerOrder, g.body)

    def give(run: Run) -> int:
        return run.answer(order.question_id, order.answer, answered_by=caller().principal)

    return await Act("answer", run_id, give).answer()


@blueprint.delete("/runs/<run_id>")
async def delete(run_id: str) -> Response:
    """Remove a run that has ended, with everything below it and all that they left behind."""
    orchestrator = the_orchestrator()
    ticket = await orchestrator.request_forget(run_id)
    await orchestrator.durable(done_to_all("delete", ticket, run_id=run_id))
    return Response(b"", status=204)


@blueprint.patch("/runs/<run_id>")
async def change(run_id: str) -> Answer:
    """Move the run's deadline, give it other tags, or both."""
    changes = parse(ChangeOrder, g.body).model_dump(exclude_unset=True)
    if changes.get("tags") is None:
        changes.pop("tags", None)

    def alter(run: Run) -> int:
        return run.change(**changes, requested_by=caller().principal)

    return await Act("change", run_id, alter, status=200).answer()


def _body() -> Any:
    return g.body if g.body is not None else {}

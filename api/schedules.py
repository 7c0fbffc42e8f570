"""The calls about recurring starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_jsonable_python
from quart import Blueprint, g

from api.auth.guard import caller, check_start
from api.auth.noting import done_to_all
from api.auth.rights import Right, permits, refusal
from api.calls import Answer, the_orchestrator
from api.orders import ScheduleOrder
from api.schema import parse
from orchestrator import UnknownSchedule

if TYPE_CHECKING:
    from orchestrator import Schedule

blueprint = Blueprint("schedules", __name__)


@blueprint.post("/schedules")
async def create() -> Answer:
    """Make a schedule; the answer comes once it is durable."""
    order = parse(ScheduleOrder, g.body)
    check_start(order.agent, order.input)
    schedule = the_orchestrator().schedules.create(
        order.agent,
        order.input,
        cron=order.cron,
        zone=order.zone,
        schedule_id=order.id,
        options=order.options,
        missed=order.missed,
        overlap=order.overlap,
        owner=caller().principal,
    )
    await _durable("schedule", schedule.id)
    return _json(schedule), 201, {"Location": f"/schedules/{schedule.id}"}


@blueprint.get("/schedules")
async def schedules() -> dict[str, Any]:
    """List the schedules that the caller may see."""
    found = the_orchestrator().schedules.shown()
    return {"schedules": [_json(each) for each in found if caller().may_see(each.owner)]}


@blueprint.get("/schedules/<schedule_id>")
async def show(schedule_id: str) -> dict[str, Any]:
    """Show one schedule."""
    return _json(_visible(schedule_id))


@blueprint.post("/schedules/<schedule_id>/pause")
async def pause(schedule_id: str) -> dict[str, Any]:
    """Fire no more until it is resumed."""
    _check(schedule_id)
    paused = the_orchestrator().schedules.pause(schedule_id)
    await _durable("pause-schedule", schedule_id)
    return _json(paused)


@blueprint.post("/schedules/<schedule_id>/resume")
async def resume(schedule_id: str) -> dict[str, Any]:
    """Fire again from now on."""
    _check(schedule_id)
    resumed = the_orchestrator().schedules.resume(schedule_id)
    await _durable("resume-schedule", schedule_id)
    return _json(resumed)


@blueprint.delete("/schedules/<schedule_id>")
async def delete(schedule_id: str) -> tuple[str, int]:
    """Forget a schedule; its runs go on."""
    _check(schedule_id)
    the_orchestrator().schedules.delete(schedule_id)
    await _durable("unschedule", schedule_id)
    return "", 204


def _json(schedule: Schedule) -> dict[str, Any]:
    shown: dict[str, Any] = to_jsonable_python(schedule)
    del shown["dealt_until"]
    return shown


def _visible(schedule_id: str) -> Schedule:
    schedule = the_orchestrator().schedules.get(schedule_id)
    if not caller().may_see(schedule.owner):
        raise UnknownSchedule(schedule_id)
    return schedule


def _check(schedule_id: str) -> None:
    """Refuse what the caller may not do with a schedule of somebody else's.

    Raises:
        UnknownSchedule: there is none, or they may not see it.
        Forbidden: they may see it, and not more.
    """
    owner = _visible(schedule_id).owner
    if not permits(caller(), Right.ACT, owner):
        raise refusal(caller(), Right.ACT, owner)


async def _durable(action: str, schedule_id: str) -> None:
    orchestrator = the_orchestrator()
    await orchestrator.durable(done_to_all(action, orchestrator.schedules.ticket, schedule_id))

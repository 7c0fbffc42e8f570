"""Which call needs which right, and who has it. Nowhere else is anything permitted.

A call that is not in the table is for admins only, and fails a test.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, assert_never

from api.auth.identity import Forbidden, Role

if TYPE_CHECKING:
    from api.auth.identity import Identity


class Right(Enum):
    """What a call needs."""

    OPEN = "nothing: probes, and what is needed to say who one is"
    READ = "to be known; of runs, only those that one may see"
    START = "to be an operator"
    ACT = "to be an operator whose own run it is, or an admin"
    RULE = "to be an admin"


class Call(NamedTuple):
    """What a call needs, and what it is called in the audit; empty for what changes nothing."""

    right: Right
    action: str = ""


CALLS = {
    "GET /healthz": Call(Right.OPEN),
    "GET /readyz": Call(Right.OPEN),
    # They say what there is, and nothing of what is done with it.
    "GET /openapi.json": Call(Right.OPEN),
    "GET /docs": Call(Right.OPEN),
    "GET /session": Call(Right.READ),
    "POST /session": Call(Right.OPEN),
    "POST /session/challenge": Call(Right.OPEN),
    "DELETE /session": Call(Right.OPEN),
    "GET /audit": Call(Right.RULE),
    "GET /metrics": Call(Right.READ),
    "POST /halt": Call(Right.RULE, "halt"),
    "GET /halt": Call(Right.READ),
    "DELETE /halt": Call(Right.RULE, "lift"),
    "GET /webhooks/deliveries": Call(Right.RULE),  # their URLs may be secrets
    "POST /webhooks/deliveries/<delivery_id>/retry": Call(Right.RULE, "retry delivery"),
    # Pages are shells: what is in them is read by the calls below.
    "GET /": Call(Right.OPEN),
    "GET /dashboard/runs/<run_id>": Call(Right.OPEN),
    "GET /dashboard/schedules": Call(Right.OPEN),
    "GET /dashboard/login": Call(Right.OPEN),
    "GET /dashboard/assets/<version>/<name>": Call(Right.OPEN),
    # Whose schedule it is, is looked at by the calls themselves.
    "POST /schedules": Call(Right.START, "schedule"),
    "GET /schedules": Call(Right.READ),
    "GET /schedules/<schedule_id>": Call(Right.READ),
    "DELETE /schedules/<schedule_id>": Call(Right.ACT, "unschedule"),
    "POST /schedules/<schedule_id>/pause": Call(Right.ACT, "pause-schedule"),
    "POST /schedules/<schedule_id>/resume": Call(Right.ACT, "resume-schedule"),
    "GET /agents": Call(Right.READ),
    "GET /events": Call(Right.READ),  # of runs that one may see
    "WS /ws": Call(Right.READ),  # each command is checked for itself
    "POST /runs": Call(Right.START, "start"),
    "POST /runs/stop": Call(Right.START, "stop"),  # each run is checked for itself
    "GET /runs": Call(Right.READ),
    "GET /runs/<run_id>": Call(Right.READ),
    "PATCH /runs/<run_id>": Call(Right.ACT, "change"),
    "DELETE /runs/<run_id>": Call(Right.ACT, "delete"),
    "GET /runs/<run_id>/tree": Call(Right.READ),
    "GET /runs/<run_id>/events": Call(Right.READ),
    "POST /runs/<run_id>/stop": Call(Right.ACT, "stop"),
    "GET /runs/<run_id>/stop": Call(Right.READ),
    "GET /runs/<run_id>/stack": Call(Right.READ),
    "POST /runs/<run_id>/pause": Call(Right.ACT, "pause"),
    "POST /runs/<run_id>/resume": Call(Right.ACT, "resume"),
    "POST /runs/<run_id>/step": Call(Right.ACT, "step"),
    "POST /runs/<run_id>/answer": Call(Right.ACT, "answer"),
    "POST /runs/<run_id>/rerun": Call(Right.ACT, "rerun"),
    "GET /runs/<run_id>/partial": Call(Right.READ),
    "GET /runs/<run_id>/artifacts": Call(Right.READ),
    "GET /runs/<run_id>/artifacts/<name>": Call(Right.READ),
    "GET /runs/<run_id>/view": Call(Right.READ),
}
# Those of the dialects, which are there only if they are asked for.
CALLS_OF_DIALECTS = {
    "POST /api/knowledge-items/crawl": Call(Right.START, "start"),
    "POST /api/documents/upload": Call(Right.START, "start"),
    "GET /api/crawl-progress/<run_id>": Call(Right.READ),
    "GET /api/progress/<run_id>": Call(Right.READ),
    "POST /api/knowledge-items/stop/<run_id>": Call(Right.ACT, "stop"),
    "GET /api/knowledge-items": Call(Right.READ),  # of runs that one may see
    # Who it is, is looked at when a client connects; and each of its events for itself.
    "GET /socket.io/": Call(Right.OPEN),
    "POST /socket.io/": Call(Right.OPEN),
    "WS /socket.io/": Call(Right.OPEN),
    "POST /api/executions": Call(Right.START, "start"),
    "GET /api/executions/<run_id>": Call(Right.READ),
    "GET /api/executions/<run_id>/view": Call(Right.READ),
    "POST /api/executions/<run_id>/cancel": Call(Right.ACT, "stop"),
    "POST /api/executions/<run_id>/pause": Call(Right.ACT, "pause"),
    "POST /api/executions/<run_id>/resume": Call(Right.ACT, "resume"),
    "POST /api/executions/<run_id>/step": Call(Right.ACT, "step"),
    "WS /api/ws/executions/<run_id>": Call(Right.READ),
    "POST /api/v1/jobs": Call(Right.START, "start"),
    "GET /api/v1/jobs/<run_id>": Call(Right.READ),
    "POST /api/v1/jobs/<run_id>/cancel": Call(Right.ACT, "stop"),
    "POST /api/v1/jobs/<run_id>/executions/<execution_id>/cancel": Call(Right.ACT, "stop"),
}
UNLISTED = Call(Right.RULE)
# What the audit calls what was done; ``token`` is one that was no good.
ACTIONS = sorted({each.action for each in CALLS.values()} - {""} | {"token"})
# The actions of which one may do only so many in a time.
STARTS = ("start", "rerun")


def permits(identity: Identity, right: Right, owner: str | None = None) -> bool:
    """Whether somebody has a right.

    Args:
        owner: of the run that it is about, which they may see; None if it is about none.
    """
    match right:
        case Right.OPEN | Right.READ:
            return True
        case Right.START:
            return identity.role.rank >= Role.OPERATOR.rank
        case Right.ACT:
            own = owner is None or owner == identity.principal
            return identity.role is Role.ADMIN or (identity.role is Role.OPERATOR and own)
        case Right.RULE:
            return identity.role is Role.ADMIN
    assert_never(right)


def depends_on_owner(identity: Identity, right: Right) -> bool:
    """Whether it must be known whose run it is, to say whether they may."""
    return not identity.sees_all or (right is Right.ACT and identity.role is not Role.ADMIN)


def refusal(identity: Identity, right: Right, owner: str | None = None) -> Forbidden:
    """Return the error that says why they may not, to somebody who may see the run."""
    who = f"{identity.principal} ({identity.role})"
    if right is Right.RULE:
        return Forbidden(f"{who} may not do this: it takes an admin")
    if identity.role is Role.VIEWER or owner is None:
        return Forbidden(f"{who} may look only: this takes an operator")
    return Forbidden(f"{who} may act on runs of their own only; this one belongs to {owner!r}")

"""What the dialects share: whose words are whose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.calls import the_orchestrator
from orchestrator import InvalidInput, RunStatus, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator import RunRecord

# How long a cancel waits until everything has ended, before it is answered with `cancelling`.
SETTLE_S = 10.0

STATUSES: Mapping[RunStatus, str] = {
    RunStatus.QUEUED: "pending",
    RunStatus.RUNNING: "running",
    RunStatus.PAUSING: "running",
    RunStatus.PAUSED: "paused",
    RunStatus.STOPPING: "cancelling",
    RunStatus.SUCCEEDED: "completed",
    RunStatus.FAILED: "failed",
    RunStatus.STOPPED: "cancelled",
    RunStatus.TIMED_OUT: "failed",
    # What is not proved to have ended is not called cancelled.
    RunStatus.ABANDONED: "failed",
    RunStatus.LOST: "failed",
}


async def record_of(run_id: str, *agents: str) -> RunRecord:
    """Return the record of a run of one of those agents. Not a checkpoint if the run is live.

    Raises:
        UnknownRun: there is no such run, or it is another agent's.
    """
    orchestrator = the_orchestrator()
    live = orchestrator.live(run_id)
    record = live.record if live is not None else await orchestrator.get(run_id)
    if record.agent not in agents:
        raise UnknownRun(run_id)
    return record


def about_the_body(error: InvalidInput) -> InvalidInput:
    """Return what is wrong with a start as what is wrong with the body that it is from."""

    def there(field: str) -> str:
        return "body" if field == "input" else field.removeprefix("input.").removeprefix("options.")

    return InvalidInput([(there(field), why) for field, why in error.problems])

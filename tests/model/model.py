"""The model of the lifecycle: what must be refused, and what may follow. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, assert_never

from orchestrator import (
    IllegalTransition,
    InvalidInput,
    NobodyAsks,
    ParentIsPaused,
    RunEnded,
    RunStatus,
    StopSource,
)
from tests.model import story as s

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator import Event, RunRecord

Q, R, PG, PD, SG = (
    RunStatus.QUEUED,
    RunStatus.RUNNING,
    RunStatus.PAUSING,
    RunStatus.PAUSED,
    RunStatus.STOPPING,
)
OK, FAIL, STOP = RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.STOPPED
LATE, GONE, LOST = RunStatus.TIMED_OUT, RunStatus.ABANDONED, RunStatus.LOST

# The table of the lifecycle, written down once more.
FOLLOWS: dict[RunStatus, set[RunStatus]] = {
    Q: {R, STOP, LATE},
    R: {PG, SG, OK, FAIL, LOST},
    PG: {PD, R, SG, OK, FAIL, LOST},
    PD: {R, SG, LOST},
    SG: {STOP, LATE, OK, GONE, LOST},
    OK: set(),
    FAIL: set(),
    STOP: set(),
    LATE: set(),
    GONE: set(),
    LOST: set(),
}
TERMINAL = {status for status, following in FOLLOWS.items() if not following}
HELD = {PG, PD}


def reachable(status: RunStatus) -> set[RunStatus]:
    """Return what a status may have become by the next look, itself included."""
    found, todo = {status}, [status]
    while todo:
        new = FOLLOWS[todo.pop()] - found
        found |= new
        todo.extend(new)
    return found


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides about a deed: how its target, and the target's parent, stand."""

    status: RunStatus
    above: RunStatus | None
    asks: bool
    is_root: bool
    steps: tuple[str, ...] = ()


def refusal(deed: s.Deed, facts: Facts) -> type[Exception] | None:
    """Return the error with which a deed must be refused, None if it must be taken."""
    status, below_a_pause = facts.status, facts.above in HELD
    match deed:
        case s.Pause():
            return None if status is R else IllegalTransition
        case s.Resume():
            if status not in HELD:
                return IllegalTransition
            return ParentIsPaused if below_a_pause else None
        case s.DebugStep():
            if status is not PD:
                return IllegalTransition
            return ParentIsPaused if below_a_pause else None
        case s.Stop():
            return RunEnded if status in TERMINAL else None
        case s.Answer():
            return None if facts.asks else NobodyAsks
        case s.Deadline():
            if status in TERMINAL:
                return RunEnded
            return IllegalTransition if status is SG else None
        case s.Rerun(_, from_step):
            return _refused_rerun(from_step, facts)
        case s.Start() | s.Outage() | s.Crash():
            return None
        case _:
            assert_never(deed)


def _refused_rerun(from_step: int | str | None, facts: Facts) -> type[Exception] | None:
    if facts.status not in TERMINAL:
        return IllegalTransition
    if from_step is None or (facts.is_root and from_step == "last"):
        return None
    known = facts.is_root and isinstance(from_step, int) and from_step < len(facts.steps)
    return None if known else InvalidInput


def afterwards(deed: s.Deed, status: RunStatus) -> set[RunStatus]:
    """Return the statuses in which a run may be right after a deed that it took."""
    match deed:
        case s.Pause():
            return HELD
        case s.Resume():
            return {R}
        case s.DebugStep():
            return HELD
        case s.Stop():
            return {STOP} if status is Q else {SG}
        case _:
            return {status}


def below(deed: s.Deed, status: RunStatus) -> set[RunStatus]:
    """Return the same for a run below the one that the deed was for."""
    match deed:
        case s.Pause() if status is R:
            return HELD
        case s.Resume() if status in HELD:
            return {R}
        case s.DebugStep() if status is PD:
            return HELD
        case s.Stop() if status not in TERMINAL:
            return {STOP} if status is Q else {SG}
        case _:
            return {status}


def fate(before: RunRecord, stopped: bool) -> tuple[set[RunStatus], bool]:
    """Return how a run may end after a crash, and whether it starts again.

    Args:
        before: as it was stored when the process died.
        stopped: it, or a run above it, was being stopped.
    """
    if before.status in TERMINAL:
        return {before.status}, False
    if stopped:
        return {STOP}, False
    if before.parent_id is not None:
        return {STOP if before.status is Q else LOST}, False
    options = before.options
    again = options.on_crash == "restart" and before.attempt < options.max_attempts
    if before.status is Q or again:
        return TERMINAL - {LOST}, True
    return {LOST}, False


_SHOWS = {
    "run.queued": Q,
    "run.started": R,
    "run.pausing": PG,
    "run.paused": PD,
    "run.resumed": R,
    "run.stopping": SG,
} | {f"run.{status}": status for status in TERMINAL}


def path(events: Iterable[Event]) -> list[RunStatus]:
    """Return the statuses of one run in the order of its events.

    A run that was paused when its process died is so when it starts again.
    """
    found: list[RunStatus] = []
    for event in events:
        if event.type in _SHOWS:
            again = event.type == "run.started" and event.data["attempt"] > 1
            found.append(found[-1] if again else _SHOWS[event.type])
    return found


def wrong_moves(events: list[Event]) -> list[str]:
    """Return the moves of one run that its events tell of and the table does not have."""
    moves = path(events)
    starts_again = [event for event in events if event.type == "run.started"][1:]
    found = [
        f"{events[0].run_id} went from {one} to {two}"
        for one, two in pairwise(moves)
        if two not in FOLLOWS[one] and not (starts_again and one is two and one not in TERMINAL)
    ]
    if moves[0] is not Q or moves[-1] not in TERMINAL:
        found.append(f"{events[0].run_id} went {moves}")
    return found


def final_status(returned: bool, raised: bool, source: StopSource | None) -> set[RunStatus]:
    """Return how a run may end whose code has exited, by how it exited and who stopped it."""
    if source is None:
        return {OK} if returned else {FAIL} if raised else set()
    ended = LATE if source is StopSource.DEADLINE else STOP
    # A result that has come too late for the stop is none; see ``Swallow``.
    return {OK, ended} if returned else {ended}

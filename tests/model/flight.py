"""Operations in flight, what holds stops back from them, and the two clocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trio

from orchestrator import Run

if TYPE_CHECKING:
    from orchestrator import Context
    from orchestrator.model import StopRequest

EPSILON_S = 1e-4
EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


def wall(seconds: float) -> str:
    """Return the wall clock so many seconds from now: Trio's clock in another form."""
    at = EPOCH + timedelta(seconds=trio.current_time() + seconds)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def virtual(at: str) -> float:
    """Return the time on Trio's clock that a stamp says."""
    return (datetime.fromisoformat(at) - EPOCH).total_seconds()


@dataclass(frozen=True, slots=True)
class Hold:
    """What holds a stop back, and until when: a compensation, if ``undoes``."""

    until: float
    undoes: bool = False

    @classmethod
    def within(cls, outer: Hold | None, seconds: float) -> Hold:
        """Return the hold of a critical section in another one."""
        until = trio.current_time() + seconds
        return cls(until) if outer is None else cls(min(until, outer.until), outer.undoes)


@dataclass(eq=False, slots=True)
class Flight:
    """An operation or critical section in flight.

    Attributes:
        exposed: something else than a stop may cancel it.
        parks: it began while its run was held, so that nothing can start in it.
    """

    run: Run
    where: str
    hold: Hold | None
    exposed: bool
    critical: bool = False
    began: float = field(default_factory=trio.current_time)
    parks: bool = False


def requests_for(run: Run) -> list[StopRequest]:
    """Return every stop that was asked for a run, or for one above it."""
    found = []
    for each in run.lineage():
        if (stop := each.ladder.stop) is not None:
            found += [stop.request, *stop.also]
    return found


def run_of(ctx: Context) -> Run:
    """Return the run behind a context."""
    assert isinstance(ctx._run, Run)
    return ctx._run


def is_cancelled(error: BaseException) -> bool:
    """Return whether an error is, or has in it, Trio's cancellation."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)

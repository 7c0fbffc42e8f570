"""What a sweep found: plain values, and an error whose text can be read at three in the morning."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.model import StopMode
    from orchestrator.testing.places import Place


class Fault(StrEnum):
    """What an agent did wrong."""

    FAILS = "it fails by itself"
    UNSETTLED = "the stop was not settled"
    SWALLOWED = "the stop was swallowed"
    LATE_OPERATION = "an operation after the stop"
    CUT_CLEANUP = "a cleanup was cut short"
    RAISED = "an error while stopping"
    COMPENSATION = "a compensation did not run exactly once"
    LEFT_OPEN = "something was left open"
    LEFT_RUNNING = "a task was left running"
    LEFT_TO_COLLECT = "something was left to the garbage collector"
    FEED = "the feed is not in order"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault as one round saw it.

    Attributes:
        place: the line to look at; None if it has none.
    """

    fault: Fault
    says: str
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One fault, with the first scheduling point at which it was seen.

    Attributes:
        place: the line to look at; None if it has none.
        mode: of the stop.
        point: where the stop was asked for; 0 is before the agent's first step.
        stopped_at: where the agent stood then; None if it had not begun.
        untouched: no stop came at a point of that round: it had ended before, or does not end.
        times: the number of rounds in which the fault was seen.
        reproduce: a line to type or paste that plays that round again.
    """

    fault: Fault
    says: str
    place: Place | None
    mode: StopMode
    point: int
    stopped_at: Place | None
    untouched: bool
    times: int
    reproduce: str

    def __str__(self) -> str:
        stood = f"while it stood at {self.stopped_at}" if self.stopped_at else "before it began"
        when = f"stopped ({self.mode}) at point {self.point}, {stood}"
        if self.untouched:
            when = "in a run that was not stopped before its end"
        rounds = "" if self.times == 1 else f"; seen in {self.times} rounds"
        return (
            f"{self.fault}: {self.says}\n"
            f"  where: {self.place or 'not known'}\n"
            f"  when: {when}{rounds}\n"
            f"  reproduce: {self.reproduce}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepReport:
    """What was swept, and what was found.

    Attributes:
        points: by mode, the number of scheduling points at which the stop was asked for.
        of_points: by mode, how many there are; more than ``points`` if the budget ran out.
        places: the distinct lines at which the agent stood when it was stopped.
        seconds: real time.
    """

    agent: str
    seed: int
    points: dict[StopMode, int]
    of_points: dict[StopMode, int]
    places: tuple[Place, ...]
    seconds: float
    violations: tuple[Violation, ...]

    @property
    def complete(self) -> bool:
        """Whether every point was swept."""
        return self.points == self.of_points

    def __str__(self) -> str:
        swept = ", ".join(
            f"{mode} {self.points[mode]} of {self.of_points[mode]}" for mode in self.points
        )
        return (
            f"{self.agent}: stopped at points: {swept}; {len(self.places)} lines"
            f" (seed {self.seed}, {self.seconds:.1f} s)"
        )


class SweepFailed(AssertionError):
    """A sweep found faults. ``report`` has them as values."""

    def __init__(self, report: SweepReport) -> None:
        self.report = report
        found = "\n\n".join(
            f"{number}. {violation}" for number, violation in enumerate(report.violations, 1)
        )
        super().__init__(f"{report.agent!r} does not stop cleanly.\n\n{found}\n\n{report}")

"""The account of one run's stop while it is under way, and the receipt that it becomes."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, TypedDict, TypeVar

import trio
from pydantic_core import to_jsonable_python

from orchestrator.errors import InvalidInput, check_text
from orchestrator.events import RunEnded
from orchestrator.faults import check_names, check_seconds
from orchestrator.model import (
    OperationCounts,
    Receipt,
    RunError,
    RunId,
    RunRecord,
    RunStatus,
    Standing,
    StopMode,
    StopOutcome,
    StopRequest,
    StopSource,
)

if TYPE_CHECKING:
    from collections.abc import Collection

# What an in-process run gets to exit once it is killed: its sockets are closed from outside, and
# code that waited on one ends by that. Then it is let go. Also what cleanup steps get then.
KILL_S = 0.5
# So many killed processes a receipt names; a fork bomb has thousands.
PIDS = 100

_Word = TypeVar("_Word", bound=StrEnum)


class StopArguments(TypedDict, total=False):
    """What a stop request may say; all of it may be left out.

    Attributes:
        mode: ``graceful`` if left out.
        grace_s: seconds that operations in flight may still take; the run's own ``grace_s`` if
            None; ignored unless the mode is graceful.
        discard: remove the tree's partial results and artifacts once it has stopped.
    """

    mode: StopMode | str
    grace_s: float | None
    reason: str
    source: StopSource
    requested_by: str
    discard: bool


def stop_request(asked: StopArguments, own_grace_s: float, now: str) -> StopRequest:
    """Return the request that these arguments mean, made now.

    Raises:
        InvalidInput: there is no such argument, mode or source, or the grace is not a duration.
    """
    check_names(asked, StopArguments.__annotations__)
    mode = _one_of(StopMode, "mode", asked.get("mode", StopMode.GRACEFUL))
    grace_s = asked.get("grace_s")
    grace_s = own_grace_s if grace_s is None else check_seconds("grace_s", grace_s)
    return StopRequest(
        mode=mode,
        grace_s=grace_s if mode is StopMode.GRACEFUL else 0,
        source=_one_of(StopSource, "source", asked.get("source", StopSource.USER)),
        requested_by=check_text("requested_by", asked.get("requested_by", "")),
        requested_at=now,
        reason=check_text("reason", asked.get("reason", "")),
        discard=bool(asked.get("discard", False)),
    )


def _one_of(kind: type[_Word], field: str, given: str) -> _Word:
    if given not in list(kind):
        raise InvalidInput([(field, f"{given!r} is not one of {', '.join(kind)}")])
    return kind(given)


@dataclass(slots=True, kw_only=True)
class Stop:
    """One run's stop: what was asked for, and what has been seen of it so far.

    Attributes:
        request: the first request; its source and reason stay.
        mode: the strictest mode that was asked for.
        until: the end of the grace, on Trio's clock.
        began: when it was asked for, on Trio's clock.
    """

    request: StopRequest
    previous_status: RunStatus
    until: float
    runs_stopped: int
    began: float = field(default_factory=trio.current_time)
    mode: StopMode = StopMode.GRACEFUL
    finished: int = 0
    cut: int = 0
    critical_cut: bool = False
    refused: int = 0
    clients_closed: int = 0
    killed: dict[int, None] = field(default_factory=dict)
    critical_s: float = 0.0
    cleanup_errors: list[str] = field(default_factory=list)
    detached: list[RunId] = field(default_factory=list)
    also: list[StopRequest] = field(default_factory=list)

    def tighten(self, request: StopRequest, until: float) -> bool:
        """Take a later request. It may raise the mode and shorten the grace, never the reverse.

        Returns:
            whether it changed anything.
        """
        self.also.append(request)
        stricter = request.mode.rank > self.mode.rank or until < self.until
        self.mode = max(self.mode, request.mode, key=lambda mode: mode.rank)
        self.until = min(self.until, until)
        return stricter

    def note_killed(self, pids: Collection[int]) -> None:
        """These processes of the tree were killed. Each counts once, whoever says it."""
        self.killed.update(dict.fromkeys(sorted(pids)))

    def receipt(
        self,
        outcome: StopOutcome = StopOutcome.STOPPING,
        *,
        settled_at: str | None = None,
        error: RunError | None = None,
        still_running: tuple[Standing, ...] = (),
    ) -> Receipt:
        """Return the account as it stands now."""
        seconds = None if settled_at is None else round(trio.current_time() - self.began, 6)
        return Receipt(
            mode=self.mode,
            reached=self._reached(outcome),
            requested_at=self.request.requested_at,
            requested_by=self.request.requested_by,
            source=self.request.source,
            reason=self.request.reason,
            previous_status=self.previous_status,
            settled_at=settled_at,
            seconds=seconds,
            outcome=outcome,
            runs_stopped=self.runs_stopped,
            operations=OperationCounts(finished=self.finished, cut=self.cut, refused=self.refused),
            clients_closed=self.clients_closed,
            processes_killed=len(self.killed),
            killed_pids=tuple(islice(self.killed, PIDS)),
            cleanup_errors=tuple(self.cleanup_errors),
            critical_s=round(self.critical_s, 6),
            still_running=still_running,
            error=error,
            detached=tuple(self.detached),
            also=tuple(self.also),
            discard=self.request.discard,
        )

    def _reached(self, outcome: StopOutcome) -> StopMode:
        if outcome is StopOutcome.ABANDONED or self.killed:
            return StopMode.KILL
        return StopMode.NOW if self.cut or self.critical_cut else StopMode.GRACEFUL


def discards(stop: Receipt) -> bool:
    """Return whether any of its requests wants gone what the run leaves behind."""
    return stop.discard or any(later.discard for later in stop.also)


def in_words(request: StopRequest) -> str:
    """Return what code that is cancelled by the request finds as the reason."""
    return f"stopped by {request.source}: {request.reason}"


def outcome_of(status: RunStatus) -> StopOutcome:
    """Return what a stop came to, given the status in which its run is or ended."""
    match status:
        case RunStatus.SUCCEEDED | RunStatus.FAILED:
            return StopOutcome.FINISHED_FIRST
        case RunStatus.STOPPED | RunStatus.TIMED_OUT:
            return StopOutcome.STOPPED
        case RunStatus.ABANDONED:
            return StopOutcome.ABANDONED
        case RunStatus.LOST:
            return StopOutcome.LOST
        case _:
            return StopOutcome.STOPPING


def ending_of(record: RunRecord) -> RunEnded:
    """Return the last event of a run with that record."""
    return RunEnded(
        record.status,
        record.result,
        to_jsonable_python(record.error),
        to_jsonable_python(record.stop),
    )

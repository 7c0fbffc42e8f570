"""The limits of one run: its deadline and its idle limit, as callers of the same stop."""

from __future__ import annotations

from datetime import datetime
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.events import RunDeadline
from orchestrator.model import StopSource
from orchestrator.part import Part

if TYPE_CHECKING:
    from orchestrator.run import Run
    from orchestrator.timers import Timer


class Limits(Part["Run"]):
    """When a run stops by itself."""

    __slots__ = ("_active", "_deadline", "_due", "_idle", "_start")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._deadline: Timer | None = None
        # When it is, on Trio's clock, if it was given in this process: the wall clock may be set.
        self._due: float | None = None
        self._idle: Timer | None = None
        self._start: Timer | None = None
        self._active = trio.current_time()

    @property
    def deadline(self) -> float:
        """When the deadline is, on Trio's clock; ``inf`` for never."""
        return self._deadline.when if self._deadline is not None else inf

    def await_start(self, waited_s: float) -> None:
        """Begin to count how long the run may still wait for its start.

        Args:
            waited_s: how long it has waited already.
        """
        # One that was set while it waited, before a crash.
        self._set_deadline()
        limit_s = self._run.record.options.start_by_s
        if limit_s is not None:
            self._start = self._run.timer(self._stop_late_start)
            self._start.set(trio.current_time() + limit_s - waited_s)

    def stop_if_overdue(self) -> bool:
        """End a run that should have started, or ended, by now: its alarm is about to ring.

        Returns:
            whether it was.
        """
        for timer, ring in (
            (self._start, self._stop_late_start),
            (self._deadline, self._deadline_is_over),
        ):
            if timer is not None and timer.when <= trio.current_time():
                ring()
                return True
        return False

    def _stop_late_start(self) -> None:
        """End the run, which has not started in time."""
        limit_s = self._run.record.options.start_by_s
        reason = f"it had not started within {limit_s:g} s"
        self._run.request_stop(source=StopSource.DEADLINE, reason=reason)

    def arm(self) -> None:
        """Begin to count: the run starts."""
        record, now = self._run.record, trio.current_time()
        options = record.options
        self._set_deadline()
        if options.idle_timeout_s is not None:
            self._active = now
            self._idle = self._run.timer(self._look_whether_idle)
            self._idle.set(now + options.idle_timeout_s)

    def move_deadline(self, deadline_s: float | None, requested_by: str) -> None:
        """Let the deadline be so many seconds from now; see ``Run.move_deadline``."""
        at = None if deadline_s is None else self._run.services.now(deadline_s)
        self._due = None if deadline_s is None else trio.current_time() + deadline_s
        told = RunDeadline(at, requested_by)
        self._run.ledger.save(payload=told, deadline_at=at, deadline_moved=True, urgent=True)
        self._set_deadline()
        if self._run.gate.changed is not None:
            self._run.gate.changed()

    def note_activity(self) -> None:
        """Something happened in the run, and so in those above it."""
        run: Run | None = self._run
        while run is not None:
            if run.limits._idle is not None:
                run.limits._active = trio.current_time()
            run = run.parent

    def disarm(self) -> None:
        """Count no more: the run starts now, or has ended."""
        for timer in (self._deadline, self._idle, self._start):
            if timer is not None:
                timer.unset()
        self._deadline = self._idle = self._start = None

    def _set_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.unset()
        at = self._run.record.deadline_at
        if at is not None:
            left = datetime.fromisoformat(at) - datetime.fromisoformat(self._run.services.now(0))
            due = trio.current_time() + left.total_seconds()
            self._deadline = self._run.timer(self._deadline_is_over)
            self._deadline.set(due if self._due is None else self._due)

    def _deadline_is_over(self) -> None:
        reason = f"its deadline, {self._run.record.deadline_at}, is over"
        self._run.request_stop(source=StopSource.DEADLINE, reason=reason)

    def _look_whether_idle(self) -> None:
        limit_s = self._run.record.options.idle_timeout_s
        assert limit_s is not None
        assert self._idle is not None
        if self._may_be_idle():
            self._active = trio.current_time()
        if trio.current_time() < self._active + limit_s:
            self._idle.set(self._active + limit_s)
        else:
            reason = f"nothing happened in it for {limit_s:g} s"
            self._run.request_stop(source=StopSource.IDLE, reason=reason)

    def _may_be_idle(self) -> bool:
        """Whether it waits for people: paused, or for an answer to a question below it."""
        return self._run.gate.held or any(run.record.waiting_for for run in self._run.subtree())

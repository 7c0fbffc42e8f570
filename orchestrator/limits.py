"""The limits of one run: its deadline and its idle limit, as callers of the same stop."""

from __future__ import annotations

from datetime import datetime
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.model import StopSource

if TYPE_CHECKING:
    from orchestrator.run import Run
    from orchestrator.timers import Timer


class Limits:
    """When a run stops by itself."""

    __slots__ = ("_active", "_deadline", "_idle", "_run")

    def __init__(self, run: Run) -> None:
        self._run = run
        self._deadline: Timer | None = None
        self._idle: Timer | None = None
        self._active = trio.current_time()

    @property
    def deadline(self) -> float:
        """When the deadline is, on Trio's clock; ``inf`` for never."""
        return self._deadline.when if self._deadline is not None else inf

    def arm(self) -> None:
        """Begin to count: the run starts."""
        record, now = self._run.record, trio.current_time()
        options = record.options
        if record.deadline_at is not None:
            at, started = map(
                datetime.fromisoformat, (record.deadline_at, self._run.services.now(0))
            )
            self._deadline = self._run.timer(self._deadline_is_over)
            self._deadline.set(now + (at - started).total_seconds())
        if options.idle_timeout_s is not None:
            self._active = now
            self._idle = self._run.timer(self._look_whether_idle)
            self._idle.set(now + options.idle_timeout_s)

    def note_activity(self) -> None:
        """Something happened in the run or below it."""
        if self._idle is not None:
            self._active = trio.current_time()

    def disarm(self) -> None:
        """Count no more: the run has ended."""
        for timer in (self._deadline, self._idle):
            if timer is not None:
                timer.unset()

    def _deadline_is_over(self) -> None:
        limit_s = self._run.record.options.deadline_s
        reason = f"its deadline of {limit_s:g} s is over"
        self._run.request_stop(source=StopSource.DEADLINE, reason=reason)

    def _look_whether_idle(self) -> None:
        limit_s = self._run.record.options.idle_timeout_s
        assert limit_s is not None
        assert self._idle is not None
        if trio.current_time() < self._active + limit_s:
            self._idle.set(self._active + limit_s)
        else:
            reason = f"nothing happened in it for {limit_s:g} s"
            self._run.request_stop(source=StopSource.IDLE, reason=reason)

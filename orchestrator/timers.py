"""One task that keeps every alarm of the orchestrator: deadlines, idle limits, the stop ladder.

A task for each alarm would cost 6 KiB a run; and lowering an alarm must be a plain assignment,
since escalation is the lowering of a deadline.
"""

from __future__ import annotations

import heapq
import itertools
import logging
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded

if TYPE_CHECKING:
    from collections.abc import Callable

_log = logging.getLogger("quiesce.timers")


@dataclass(order=True, slots=True)
class _Alarm:
    when: float
    number: int
    ring: Callable[[], None] | None = field(compare=False)


class Timer:
    """A callback that is rung once at a time that may be moved; synchronous, never awaited.

    ``when`` is on Trio's clock, ``inf`` while it is not set.
    """

    __slots__ = ("_alarm", "_ring", "_timers")

    def __init__(self, timers: Timers, ring: Callable[[], None]) -> None:
        self._timers = timers
        self._ring = ring
        self._alarm: _Alarm | None = None

    @property
    def when(self) -> float:
        """When it will ring; ``inf`` for never."""
        return self._alarm.when if self._alarm is not None and self._alarm.ring else inf

    def set(self, when: float) -> None:
        """Ring at ``when`` instead of whenever it was set to. ``inf`` unsets it."""
        if when == self.when:
            return
        if self._alarm is not None:
            self._alarm.ring = None
        self._alarm = self._timers.push(when, self._ring) if when < inf else None

    def unset(self) -> None:
        """Never ring. May be called at any time, also twice."""
        self.set(inf)


class Timers:
    """The alarms, and the task that rings them."""

    def __init__(self) -> None:
        self._heap: list[_Alarm] = []
        self._numbers = itertools.count()
        self._nap = trio.CancelScope()
        self._service = bounded(inf)

    def timer(self, ring: Callable[[], None]) -> Timer:
        """Return a timer that is not set yet."""
        return Timer(self, ring)

    def push(self, when: float, ring: Callable[[], None]) -> _Alarm:
        """Add an alarm and make sure that the task wakes for it."""
        alarm = _Alarm(when, next(self._numbers), ring)
        heapq.heappush(self._heap, alarm)
        if when < self._nap.deadline:
            self._nap.deadline = when
        return alarm

    async def run(self) -> None:
        """Ring alarms until ``close``. Shielded: stops must escalate while all is cancelled."""
        with self._service:
            while True:
                self._nap = trio.CancelScope(deadline=self._next())
                with self._nap:
                    await trio.sleep_forever()
                self._ring_due(trio.current_time())

    def close(self) -> None:
        """End ``run``. May be called twice."""
        self._service.cancel()

    def _next(self) -> float:
        while self._heap and self._heap[0].ring is None:
            heapq.heappop(self._heap)
        return self._heap[0].when if self._heap else inf

    def _ring_due(self, now: float) -> None:
        while self._next() <= now:
            alarm = heapq.heappop(self._heap)
            ring, alarm.ring = alarm.ring, None
            assert ring is not None
            try:
                ring()
            except Exception:
                _log.exception("an alarm failed; the others go on")

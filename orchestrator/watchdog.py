"""Notices when code in a task blocks the whole loop, and names the run, the file and the line.

Code that blocks cannot be stopped from within its process, and holds up every other run. All that
can be done is to say who it is, while it happens: from a thread, since the loop cannot.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from orchestrator.context import running_in
from orchestrator.stack import frame_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from orchestrator.model import RunId
    from orchestrator.stack import Frame

_log = logging.getLogger("quiesce.watchdog")


@dataclass(frozen=True, slots=True)
class Blocked:
    """One time that the loop was blocked.

    Attributes:
        run_id: whose code it was; None if no run's.
        at: where the code stood when it was noticed.
        began: on the monotonic clock.
        seconds: how long it lasted, so far if ``over`` is false.
        number: 1 for the first time, 2 for the second, and so on.
    """

    run_id: RunId | None
    at: Frame
    began: float
    seconds: float
    over: bool
    number: int = 1

    @property
    def words(self) -> str:
        """Who blocked the loop, where, and for how long."""
        who = "code of no run" if self.run_id is None else f"run {self.run_id}"
        where = f"{self.at.file}:{self.at.line} in {self.at.function}"
        verb = "blocked" if self.over else "has blocked"
        return f"{who} {verb} every other run for {self.seconds:.1f} s, at {where}"


class Watchdog(trio.abc.Instrument):
    """Watches one loop. Made by ``watching``.

    Attributes:
        last: the last time that the loop was blocked, the present one included.
    """

    def __init__(self, limit_s: float) -> None:
        self.last: Blocked | None = None
        self._limit_s = limit_s
        self._loop = threading.get_ident()
        self._over = threading.Event()
        # The step that is being made, and when it began; one value, so that a reader in another
        # thread never sees the task of one step with the time of another.
        self._step: tuple[trio.lowlevel.Task, float] | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A task begins a step."""
        self._step = (task, time.monotonic())

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It has ended its step."""
        step, self._step = self._step, None
        if step is not None and self.last is not None and self.last.began == step[1]:
            seconds = time.monotonic() - step[1]
            self.last = replace(self.last, seconds=seconds, over=True)
            _log.warning("%s", self.last.words)

    def watch(self) -> None:
        """Look now and then, until ``close``; what the thread does."""
        while not self._over.wait(self._limit_s / 2):
            step, frame = self._step, sys._current_frames().get(self._loop)
            if step is None or frame is None or step is not self._step:
                continue
            seconds = time.monotonic() - step[1]
            if seconds < self._limit_s:
                continue
            last, number = self.last, 1
            if last is not None:
                number = last.number + (last.began != step[1])
            self.last = Blocked(
                _run_of(step[0]), _place_of(frame), step[1], seconds, over=False, number=number
            )
            if last is None or number > last.number:
                _log.error("%s", self.last.words)

    def close(self) -> None:
        """End the thread. May be called twice."""
        self._over.set()


@contextmanager
def watching(limit_s: float) -> Iterator[Watchdog]:
    """Watch the loop that runs this for as long as the body takes.

    Costs about a microsecond for each step of a task.

    Args:
        limit_s: how long a task may run without an await, in seconds.
    """
    watchdog = Watchdog(limit_s)
    thread = threading.Thread(target=watchdog.watch, name="quiesce watchdog", daemon=True)
    trio.lowlevel.add_instrument(watchdog)
    thread.start()
    try:
        yield watchdog
    finally:
        trio.lowlevel.remove_instrument(watchdog)
        watchdog.close()


def _run_of(task: trio.lowlevel.Task) -> RunId | None:
    return next((run.id for run, _ in running_in(task)), None)


def _place_of(innermost: FrameType) -> Frame:
    """Return the innermost frame of an agent's code, or the innermost of all."""
    frame: FrameType | None = innermost
    frames = []
    while frame is not None:
        frames.append(frame_of(frame))
        frame = frame.f_back
    return next((each for each in frames if each.is_agents), frames[0])

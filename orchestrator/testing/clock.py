"""Virtual time: a clock that jumps when everything waits, and not while a thread works.

``trio.testing.MockClock`` with autojump jumps as soon as no task can run, also while a task waits
for a thread: then every deadline around the thread is over before the thread has begun. Here
time stands still as long as a thread is out. Sockets and child processes of the real world are
not waited for: use scripted ones, or a clock that runs (``real_time``).
"""

from __future__ import annotations

from functools import wraps
from math import inf
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from orchestrator.stack import frames_of, task_tree
from orchestrator.testing.leaks import check_loop, place_of, standing_at, tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

# Real seconds without anything to do and without any deadline after which nothing will happen any
# more. Threads that Trio does not know of might still wake a task.
STANDSTILL_S = 0.25

_WAITS = trio.to_thread.run_sync.__code__.co_qualname
_CALLED = trio.to_thread.run_sync.__code__.co_filename, "Run.run_system"


class Standstill(AssertionError):
    """Every task of a test waits, and nothing will ever wake one; the message names them."""


class GivenUp(BaseException):
    """A loop was ended from outside."""


class VirtualTime:
    """A clock for one ``trio.run``, and how to end that run from outside.

    Attributes:
        clock: to be passed to ``trio.run``.
        given_up: why the loop was ended; empty if it was not.
    """

    def __init__(
        self, standstill: Callable[[], bool] | None = None, *, real_time: bool = False
    ) -> None:
        """Make a clock.

        Args:
            standstill: called, in the loop, when every task waits and there is no deadline at
                all; the loop is given up unless it returns true, which says that it gave
                somebody something to do.
            real_time: run as fast as real time, and never jump.
        """
        self.given_up = ""
        self._standstill = standstill or (lambda: False)
        # Trio lets only its own class jump, and that cannot be derived from.
        self.clock = trio.testing.MockClock(rate=1.0 if real_time else 0.0)
        self._jump = self.clock._autojump
        self._time = self.clock.current_time
        self._sleep_time = self.clock.deadline_to_sleep_time
        methods: Any = self.clock
        methods.current_time = self._current_time
        methods.deadline_to_sleep_time = self._deadline_to_sleep_time
        methods._autojump = self._autojump

    def give_up(self, why: str) -> None:
        """End the loop, whatever its tasks do: ``trio.run`` raises ``TrioInternalError``.

        For tasks that nothing else can end. Not a checkpoint.
        """
        self.given_up = why

    def _current_time(self) -> float:
        # The loop asks at each turn, so this is where it can be ended.
        if self.given_up:
            raise GivenUp(self.given_up)
        return self._time()

    def _deadline_to_sleep_time(self, deadline: float) -> float:
        """Say how long to wait, and whether the clock may jump instead: asked for when no task
        can run."""
        if self.clock.rate == 0:
            if trio.testing.active_thread_count() and _threads_work():
                self.clock.autojump_threshold = inf
            else:
                self.clock.autojump_threshold = STANDSTILL_S if deadline == inf else 0
        return self._sleep_time(deadline)

    def _autojump(self) -> None:
        if trio.lowlevel.current_statistics().seconds_to_next_deadline < inf:
            self._jump()
        elif not self._standstill():
            self.give_up("every task waits, and nothing will ever wake one")


def _threads_work() -> bool:
    """Whether a thread is at work, and does not itself wait for the loop by ``from_thread``."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    stacks = [frames_of(task) for task in task_tree(root)]
    waiting = sum(_WAITS in [each.function for each in stack[-3:]] for stack in stacks)
    # What an abandonable thread calls runs in a task of Trio's own; else in the one that waits.
    called = sum((each.file, each.function) == _CALLED for stack in stacks for each in stack[:1])
    return waiting > called


def virtual_time(function: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    """Make a plain test of an async one: it runs in a Trio loop of its own, in virtual time.

    Works with plain ``pytest``; fixtures are passed on. Afterwards no task and no slot of the
    thread pool may be left.

    Raises:
        Leaked: something is.
        Standstill: the test waits for something that will never happen.
    """

    @wraps(function)
    def test(*args: Any, **kwargs: Any) -> Any:
        stands: list[str] = []
        scope = trio.CancelScope()

        def wake() -> bool:
            """Cancel the test once; if that does not help nothing does."""
            if scope.cancel_called:
                return False
            stands.extend(f"task {each.name}{standing_at(place_of(each))}" for each in tasks())
            scope.cancel(reason="nothing will ever happen")
            return True

        async def main() -> Any:
            with scope:
                result = await function(*args, **kwargs)
                await check_loop()
                return result
            raise Standstill("nothing will ever wake a task:\n  " + "\n  ".join(stands))

        return trio.run(main, clock=VirtualTime(wake).clock)

    return test

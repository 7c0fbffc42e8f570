"""Scheduling points: the moments between two steps of tasks, and acting at one of them."""

from __future__ import annotations

from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import trio

from orchestrator.testing.clock import GivenUp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_Given = ParamSpec("_Given")
_Instrument = TypeVar("_Instrument", bound="LoudInstrument")


class LoudInstrument(trio.abc.Instrument):
    """An instrument that keeps what its hooks raise. Trio would go on without it, and only log.

    Attributes:
        failure: the first that was raised; for whoever has installed the instrument to raise.
    """

    failure: BaseException | None = None


def loud(
    hook: Callable[Concatenate[_Instrument, _Given], None],
) -> Callable[Concatenate[_Instrument, _Given], None]:
    """Make a hook of a method that may raise."""

    @wraps(hook)
    def kept(instrument: _Instrument, /, *args: _Given.args, **kwargs: _Given.kwargs) -> None:
        try:
            hook(instrument, *args, **kwargs)
        except GivenUp:
            pass  # the loop ends
        except BaseException as error:
            instrument.failure = instrument.failure or error

    return kept


class Points(LoudInstrument):
    """Counts scheduling points, and calls each action at the point with its number.

    A point is after each step of a task, when it has just parked; and after each wait of the
    loop that woke somebody, before the first of them runs. At all other moments the loop only
    waits, or is where it was at the point before. Tasks of Trio's own do not count.

    Attributes:
        seen: how many points there were so far; the first has the number 1.
        last: the task that the last point is at.
    """

    def __init__(
        self,
        actions: Mapping[int, Callable[[], None]],
        counts: Callable[[], bool] = lambda: True,
    ) -> None:
        self._actions = dict(actions)
        self._counts = counts
        self._idle = False
        self._trios = _trios_own_tasks()
        self.seen = 0
        self.last: trio.lowlevel.Task | None = None

    @property
    def pending(self) -> bool:
        """Whether an action was not called yet."""
        return bool(self._actions)

    def act_at(self, number: int, action: Callable[[], None]) -> None:
        """Call the action at that point too."""
        self._actions[number] = action

    @loud
    def before_io_wait(self, timeout: float) -> None:
        """See whether the loop is about to wait for something to happen."""
        self._idle = trio.lowlevel.current_statistics().tasks_runnable == 0

    @loud
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count the point at which somebody was woken, and nobody runs yet."""
        if self._idle and task not in self._trios:
            self._idle = False
            self._count(task)

    @loud
    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count the point at which a task has parked, or ended."""
        if task not in self._trios:
            self._count(task)

    def _count(self, task: trio.lowlevel.Task) -> None:
        if not self._counts():
            return
        self.seen += 1
        self.last = task
        action = self._actions.pop(self.seen, None)
        if action is not None:
            action()


@contextmanager
def at_points(
    actions: Mapping[int, Callable[[], None]], counts: Callable[[], bool] = lambda: True
) -> Iterator[Points]:
    """Count the points of the body, and act at some.

    Args:
        actions: by the number of the point, the first of which is 1. They are not awaited.
        counts: asked at each point; those at which it returns false are not counted.

    Raises:
        BaseException: what an action, or ``counts``, was the first to raise; after the body.
    """
    points = Points(actions, counts)
    trio.lowlevel.add_instrument(points)
    try:
        yield points
    finally:
        trio.lowlevel.remove_instrument(points)
        if points.failure is not None:
            raise points.failure


def _trios_own_tasks() -> set[trio.lowlevel.Task]:
    """Return the tasks that Trio itself runs around the main one."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    around = {root, *(task for nursery in root.child_nurseries for task in nursery.child_tasks)}
    mine: trio.lowlevel.Task | None = trio.lowlevel.current_task()
    while mine is not None and mine is not root:
        around.discard(mine)
        mine = mine.parent_nursery.parent_task if mine.parent_nursery is not None else None
    return around

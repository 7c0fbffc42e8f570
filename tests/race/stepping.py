"""Act at every scheduling point: after the k-th step of any task, for each k in turn."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class AfterSteps(trio.abc.Instrument):
    """Calls each action once so many task steps were taken, between two steps."""

    def __init__(self, actions: dict[int, Callable[[], None]]) -> None:
        self._actions = dict(actions)
        self._steps = 0

    @property
    def pending(self) -> bool:
        """Whether an action was not called yet."""
        return bool(self._actions)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Count a step."""
        self._steps += 1
        action = self._actions.pop(self._steps, None)
        if action is not None:
            action()


@contextmanager
def after_steps(actions: dict[int, Callable[[], None]]) -> Iterator[AfterSteps]:
    """Count the steps of the body, and act."""
    instrument = AfterSteps(actions)
    trio.lowlevel.add_instrument(instrument)
    try:
        yield instrument
    finally:
        trio.lowlevel.remove_instrument(instrument)

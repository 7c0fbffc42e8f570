"""The tasks that a framework starts, none of which goes on when its run was given up.

Some frameworks cancel their tasks and do not wait for them, and some leave them alone.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Coroutine

# Where the tasks that the code at hand starts are noted. They inherit it.
_started: ContextVar[WeakSet[asyncio.Task[Any]] | None] = ContextVar(
    "quiesce_started", default=None
)


class Tasks:
    """The tasks that are started below the code at hand, from ``note`` to ``forget``."""

    def __init__(self) -> None:
        self._all: WeakSet[asyncio.Task[Any]] = WeakSet()

    def note(self) -> None:
        """Note tasks that are started from now on, at whatever depth. Not a checkpoint."""
        loop = asyncio.get_running_loop()
        if not isinstance(loop.get_task_factory(), _Factory):
            factory: Any = _Factory(loop.get_task_factory())
            loop.set_task_factory(factory)
        self._token = _started.set(self._all)

    def forget(self) -> None:
        """Note no more of them. Not a checkpoint."""
        _started.reset(self._token)

    async def end(self) -> None:
        """Cancel all that still run, and wait until they have ended."""
        while running := {task for task in self._all if not task.done()}:
            # They clean up, and may cancel others as they do; a second time would hurt those.
            if cancelled := {task for task in running if task.cancelling()}:
                await asyncio.wait(cancelled, return_when=asyncio.FIRST_COMPLETED)
            else:
                for task in running:
                    task.cancel()


class _Factory:
    """Makes tasks as ever, and notes them."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **named: Any
    ) -> asyncio.Task[Any]:
        make = self._make or _plain
        task: asyncio.Task[Any] = make(loop, work, **named)
        if (started := _started.get()) is not None:
            started.add(task)
        return task


def _plain(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **named: Any
) -> asyncio.Task[Any]:
    return asyncio.Task(work, loop=loop, **named)


def unnoted(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start a task of our own."""
    token = _started.set(None)
    try:
        return asyncio.create_task(work)
    finally:
        _started.reset(token)

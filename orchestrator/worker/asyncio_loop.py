"""The main thread of a worker whose agent is written for asyncio. The only use of asyncio.

The agent's task is cancelled as ``task.cancel()`` does it. Whether a task that is asked to end is
still unwinding is told by whether its ``CancelledError`` is still alive: code that has swallowed
it is cancelled again. A loop that something blocks is interrupted by the signal.
"""

from __future__ import annotations

import asyncio
import inspect
import signal
import weakref
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.sections import standing_in
from orchestrator.stack import TaskStack, frame_of
from orchestrator.worker.errands import (
    Errand,
    Place,
    call,
    calls_agents_code,
    is_handling,
    standing_at,
)
from orchestrator.worker.face import AsyncioContext
from orchestrator.worker.outside import INTERRUPT, Outside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterator
    from contextlib import AbstractAsyncContextManager
    from types import FrameType

    from orchestrator.worker.remote import RemoteRun

    Manager = Callable[[], AbstractAsyncContextManager[None]]


class AsyncioLoop(Outside):
    """The stage of agents that are written for asyncio."""

    stopped = asyncio.CancelledError

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        # Whether the loop has yet to take a cancellation; it does so at once if nothing blocks it.
        self._untaken = False
        # Tasks that were cancelled and have yet to hear of it.
        self._asked: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        # With what each of them was last told to unwind.
        self._told: weakref.WeakKeyDictionary[asyncio.Task[Any], weakref.ref[BaseException]] = (
            weakref.WeakKeyDictionary()
        )

    def begin(self, run: RemoteRun) -> None:
        """Take the run, in Trio."""
        super().begin(run)
        self.face = AsyncioContext(run.context, self)

    # In Trio

    def interrupt(self, place: Place) -> None:
        """Cancel the task that is in the place; if the loop is blocked, by the signal."""
        if self._untaken:
            signal.pthread_kill(self._main, INTERRUPT)
        else:
            self._untaken = True
            self._loop.call_soon_threadsafe(self._cancel, place)

    def is_gone(self, place: Place) -> bool:
        """Return whether its task has ended."""
        return isinstance(place.whose, asyncio.Task) and place.whose.done()

    def stacks(self) -> list[TaskStack]:
        """Return where the tasks and threads of the agent's code stand."""
        running = asyncio.current_task(self._loop)
        # The main thread itself is of interest when some task keeps it.
        found = [each for each in super().stacks() if running or not _is_loops(each)]
        operations = self.operations()
        for task in asyncio.all_tasks(self._loop) - {running}:
            frames = tuple(map(frame_of, _awaited(task.get_coro())))
            operation = operations.get(task, "")
            found.append(TaskStack(self._run.id, self._run.record.agent, operation, frames))
        return found

    # In the main thread

    def do(self, errand: Errand) -> None:
        """Do an errand, in the loop unless it is a plain one."""
        if errand.plain:
            super().do(errand)
        else:
            errand.do(partial(self._run_loop, errand))
            self.tell_done(errand)

    def finish(self) -> None:
        """End the loop, and the threads that it has started."""
        self._runner.close()

    @calls_agents_code
    def _run_loop(self, errand: Errand) -> Any:
        return self._runner.run(self._see_through(errand), context=errand.context)

    @calls_agents_code
    async def _see_through(self, errand: Errand) -> Any:
        self._place.whose = asyncio.current_task()
        try:
            return await self._attended(errand)
        finally:
            await self._end_others()

    @calls_agents_code
    async def _attended(self, errand: Errand) -> Any:
        self.show_face()
        result = call(errand.work)
        if inspect.iscoroutine(result):
            return await _Attended(result, self._hears)
        return await result if inspect.isawaitable(result) else result

    async def _end_others(self) -> None:
        """Cancel the tasks that the agent has left behind, as ``asyncio.run`` does."""
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        for found in await asyncio.gather(*others, return_exceptions=True):
            if isinstance(found, Exception):
                about = {"message": "a task that was left behind has failed", "exception": found}
                self._loop.call_exception_handler(about)

    def _cancel(self, place: Place) -> None:
        self._untaken = False
        task = place.whose
        if isinstance(task, asyncio.Task) and not task.done() and not self._is_unwinding(task):
            self._asked.add(task)
            task.cancel(self._run.why_stopped)

    def _is_unwinding(self, task: asyncio.Task[Any]) -> bool:
        told = self._told.get(task)
        return task in self._asked or (told is not None and told() is not None)

    def _hears(self, error: BaseException) -> None:
        """The task at hand is told something by its loop, or by a call."""
        task = _current_task()
        # It may be what some code has made of that, such as a task of the agent's own.
        if task is not None and is_handling(self.stopped, error) and self._run.gate.closed:
            self._asked.discard(task)
            self._told[task] = weakref.ref(error)

    def _may_interrupt(self, frame: FrameType | None) -> bool:
        # Between the steps of tasks there is only the loop.
        return self._untaken and _current_task() is not None and super()._may_interrupt(frame)

    def stop_here(self) -> BaseException:
        """Return what unwinds the code at hand."""
        error = super().stop_here()
        self._hears(error)
        return error

    async def cross(
        self, function: Callable[..., Awaitable[Any]], /, *args: Any, **named: Any
    ) -> Any:
        """Return what the function returns; see ``face.Way``. A cancellation is passed on."""
        loop, answers = asyncio.get_running_loop(), asyncio.Queue[Errand | None]()

        def answer(errand: Errand | None) -> None:
            loop.call_soon_threadsafe(answers.put_nowait, errand)

        made = self.new_call(partial(function, *args, **named), answer)
        cancelled: BaseException | None = None
        while True:
            try:
                if (errand := await answers.get()) is None:
                    break
                await self._help(errand, cancelled)
            except asyncio.CancelledError as error:
                cancelled = error
                self._token.run_sync_soon(made.cancel)
        if cancelled is not None:
            raise cancelled
        return self.result_of(made)

    async def _help(self, errand: Errand, cancelled: BaseException | None) -> None:
        """Do an errand for a call, in a task with the errand's context variables; if the call was
        cancelled before that, do nothing."""
        try:
            if cancelled is not None:
                raise cancelled
            task = asyncio.create_task(self._attended(errand), context=errand.context)
            errand.value = await task
        except BaseException as error:
            errand.error = error
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._token.run_sync_soon(errand.over.set)

    def hold(self, manager: Manager) -> AbstractAsyncContextManager[None]:
        """Return a manager for a section; see ``face.Way``."""
        return _Held(self, manager)

    def whose(self) -> object:
        """Return the task at hand."""
        return _current_task()

    def give_up(self, place: Place, error: BaseException) -> None:
        """Leave a place that was entered just when the code was told to unwind."""
        place.error = error
        self._token.run_sync_soon(place.over.set)


class _Held:
    """A section of the gate for ``async with``."""

    def __init__(self, loop: AsyncioLoop, manager: Manager) -> None:
        self._loop = loop
        self._manager = manager
        self._place = Place(trio.Event(), loop.whose())
        self._inside = ExitStack()

    async def __aenter__(self) -> None:
        loop, place = self._loop, self._place
        try:
            section = await loop.cross(loop.enter, self._manager, place)
        except asyncio.CancelledError as error:
            if place.section is not None:
                loop.give_up(place, error)
            raise
        self._inside.enter_context(standing_in(section))
        self._inside.enter_context(standing_at(place))

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._inside.close()
        with standing_at(self._place.outer):
            await self._loop.cross(self._loop.leave, self._place, error)


class _Attended:
    """A coroutine of which we hear what it is told."""

    def __init__(
        self, coroutine: Coroutine[Any, Any, Any], hears: Callable[[BaseException], None]
    ) -> None:
        self.coroutine = coroutine
        self._hears = hears

    @calls_agents_code
    def __await__(self) -> Generator[Any, Any, Any]:
        # While the coroutine waits, nothing here may hold what it was told.
        steps = [partial(self.coroutine.send, None)]
        while True:
            try:
                waits_for = steps.pop()()
            except StopIteration as done:
                return done.value
            try:
                value = yield waits_for
            except BaseException as error:
                self._hears(error)
                steps.append(partial(self.coroutine.throw, error))
            else:
                steps.append(partial(self.coroutine.send, value))


def _is_loops(stack: TaskStack) -> bool:
    return any(frame.file == asyncio.base_events.__file__ for frame in stack.frames)


def _awaited(waiting: Any) -> Iterator[FrameType]:
    """Yield the frames of a coroutine and of what it waits for, the outermost first."""
    while (frame := _part_of(waiting, "frame")) is not None:
        yield frame
        attended = frame.f_code is _Attended.__await__.__code__
        waiting = (
            frame.f_locals["self"].coroutine
            if attended
            else _part_of(waiting, "await", "yieldfrom")
        )


def _part_of(waiting: Any, *names: str) -> Any:
    parts = (
        getattr(waiting, f"{kind}_{name}", None) for kind in ("cr", "gi", "ag") for name in names
    )
    return next((part for part in parts if part is not None), None)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None

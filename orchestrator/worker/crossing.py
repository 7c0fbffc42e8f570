"""Trio's side of code that runs outside of it: errands out, calls in, and the stop.

Each errand and each section of the gate that the code outside is in has a task here that waits
until the code has left. Cancelling that task is how a stop comes to the code: it is interrupted,
and again as long as it swallows that.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.cleanup import bounded
from orchestrator.context import running_in, within
from orchestrator.references import load_reference
from orchestrator.sections import current_section
from orchestrator.stack import task_tree
from orchestrator.supervise import split_cancelled
from orchestrator.worker.errands import Errand, Place, current_call, current_place

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from orchestrator.agent import Agent
    from orchestrator.sections import Section
    from orchestrator.worker.errands import Call
    from orchestrator.worker.face import Face
    from orchestrator.worker.remote import RemoteRun

    Manager = Callable[[], AbstractAsyncContextManager[None]]

# Between two interrupts of code that swallows them, in seconds.
AGAIN_S = 0.5


class Crossing(ABC):
    """A stage (``stage.Stage``) outside of Trio, as far as it is in Trio.

    Attributes:
        stopped: what unwinds the code when it is stopped.
        face: the context that the code is given.
    """

    stopped: type[BaseException]
    face: Face

    def __init__(self) -> None:
        self._run: RemoteRun
        self._token: trio.lowlevel.TrioToken
        self._task: trio.lowlevel.Task
        # Of the errand at hand. Calls from threads that know of no other place belong to it.
        self._place = Place(trio.Event())
        self._entered: set[Place] = set()

    def begin(self, run: RemoteRun) -> None:
        """Take the run. Not a checkpoint."""
        self._run = run
        self._token = trio.lowlevel.current_trio_token()
        self._task = trio.lowlevel.current_task()

    async def load(self, reference: dict[str, str]) -> Agent:
        """Import the agent, in the main thread."""
        agent: Agent = await self._perform(partial(load_reference, reference), plain=True)
        return agent

    async def call(self, agent: Agent, arguments: dict[str, Any]) -> Any:
        """Call the agent's function there and return what it returns."""
        return await self._perform(partial(agent.function, self.face, **arguments))

    async def close(self) -> None:
        """End what the code has left behind there."""
        await self._perform(self.finish, plain=True)

    def operations(self) -> dict[object, str]:
        """Return what each thread or task of the code is in, of those that are in something."""
        found: dict[object, str] = {}
        for task in task_tree(self._task):
            call = task.context.get(current_call)
            if call is not None:
                found.update((call.whose, what) for _, what in running_in(task) if what)
        for place in self._entered:
            assert place.section is not None
            found[place.whose] = f"{place.section.kind} {place.section.label}".rstrip()
        return found

    # Of the main thread, whatever runs there

    @abstractmethod
    def hand_over(self, errand: Errand) -> None:
        """Give an errand to the main thread."""

    @abstractmethod
    def interrupt(self, place: Place) -> None:
        """Raise ``stopped`` in the code that is in that place, unless it is handling it already."""

    @abstractmethod
    def is_gone(self, place: Place) -> bool:
        """Return whether the code that entered a place has ended without leaving it."""

    @abstractmethod
    def finish(self) -> None:
        """End what the code has left behind; called in the main thread."""

    # Errands

    def there(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return an async function for Trio that calls this one outside."""
        if not callable(function):
            return function

        async def call(*arguments: Any) -> Any:
            work = partial(function, *arguments)
            asked = current_call.get()
            return await (self._perform(work) if asked is None else self._ask_back(asked, work))

        call.__qualname__ = getattr(function, "__qualname__", type(function).__name__)
        return call

    async def _perform(self, work: Callable[[], Any], *, plain: bool = False) -> Any:
        """Have the main thread do something, and stop it there if this is cancelled.

        Ends only when it has, with all calls that came from it.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        errand = Errand(work, plain=plain)
        place = self._place = Place(errand.over)
        errand.context.run(current_place.set, place)
        async with trio.open_nursery() as place.nursery:
            self.hand_over(errand)
            # A compensation is in flight itself, so it waits for nothing in flight.
            await self._see_off(place, patient=current_section() is None)
            for entered in filter(self.is_gone, list(self._entered)):
                entered.over.set()
        return await self._result(errand)

    async def _ask_back(self, call: Call, work: Callable[[], Any]) -> Any:
        """Have whoever made a call do something, before it is answered."""
        errand = Errand(work)
        call.answer(errand)
        # A stop reaches the code itself, and this by what comes of it.
        with bounded(inf):
            await errand.over.wait()
        return await self._result(errand)

    async def _result(self, errand: Errand) -> Any:
        if isinstance(errand.error, self.stopped):
            await trio.lowlevel.checkpoint_if_cancelled()
        if errand.error is not None:
            raise errand.error
        if inspect.iscoroutine(errand.value):
            errand.value.close()
            raise TypeError("a plain function returned a coroutine, which nobody awaits here")
        return errand.value

    async def _see_off(self, place: Place, *, patient: bool = False) -> None:
        """Wait until the code has left; when cancelled, make it leave."""
        try:
            await place.over.wait()
        except trio.Cancelled:
            # Nothing bounds this but the end of the process, which the orchestrator sees to.
            with bounded(inf):
                await self._insist(place, patient)

    async def _insist(self, place: Place, patient: bool) -> None:
        place.leaving = True
        while not place.over.is_set():
            if patient and self._run.gate.sections:
                await self._run.gate.emptied()
                # What was in flight hears of the stop as it ends.
            else:
                self.interrupt(place)
            with trio.move_on_after(AGAIN_S):
                await place.over.wait()

    # Calls

    def admit(self, call: Call) -> None:
        """Take a call from outside. Not a checkpoint."""
        place = call.context.get(current_place)
        if place is None or place.over.is_set():
            place = self._place
        if place.nursery is None or place.over.is_set():
            # It comes from a thread that outlives what it belonged to.
            call.stopped = True
            call.answer(None)
        else:
            call.context.run(place.nursery.start_soon, self._answer, call)

    async def _answer(self, call: Call) -> None:
        call.scope, call.stopped = trio.CancelScope(), True
        current_call.set(call)
        try:
            with within(self._run.context), call.scope, self._within(call):
                call.value = await call.function()
                call.stopped = False
        except BaseException as error:
            # The caller hears of a cancellation; raised here it would take the errand with it.
            _, call.error = split_cancelled(error)
            call.stopped = call.error is None
        finally:
            # A loop that is closed has nobody who waits.
            with suppress(RuntimeError):
                call.answer(None)

    def _within(self, call: Call) -> trio.CancelScope:
        return bounded(self._run.cleanup_left_s) if call.cleaning else trio.CancelScope()

    # Sections

    async def enter(self, manager: Manager, place: Place) -> Section:
        """Enter a section on behalf of the code that calls this, to be there until ``leave``."""
        nursery = trio.lowlevel.current_task().parent_nursery
        assert nursery is not None
        place.outer = Place(trio.Event())
        place.outer.nursery = nursery
        nursery.start_soon(self._stay, manager, place)
        try:
            await place.entered.wait()
        except trio.Cancelled:
            # It may be entered all the same, but nobody will be in it.
            place.error = self.stopped()
            place.over.set()
            raise
        if place.section is None:
            await trio.lowlevel.checkpoint_if_cancelled()
            raise place.failure or self.stopped()
        return place.section

    async def leave(self, place: Place, error: BaseException | None) -> None:
        """Leave a section, with what the body raised; raise what its end adds to that."""
        place.error = error
        place.over.set()
        with bounded(inf):
            await place.settled.wait()
        # What cut the body in the name of the stop may be an error that the code can handle.
        cut = place.leaving and isinstance(error, self.stopped)
        if place.failure is not None and (error is None or cut):
            raise place.failure
        if place.stopped and error is None:
            await trio.lowlevel.checkpoint_if_cancelled()

    async def _stay(self, manager: Manager, place: Place) -> None:
        try:
            await self._be_in(manager, place)
        except BaseException as error:
            cancelled, place.failure = split_cancelled(error)
            place.stopped = cancelled is not None
        finally:
            self._entered.discard(place)
            place.entered.set()
            place.settled.set()

    async def _be_in(self, manager: Manager, place: Place) -> None:
        asked = current_call.get()
        assert asked is not None
        with self._within(asked) as entering:
            async with manager():
                # From here on the section says itself how long a stop has to wait.
                entering.shield, entering.deadline = False, inf
                async with trio.open_nursery() as place.nursery:
                    self._entered.add(place)
                    place.section = current_section()
                    place.entered.set()
                    await self._see_off(place)
                await self._end_as_the_body_did(place)

    async def _end_as_the_body_did(self, place: Place) -> None:
        if isinstance(place.error, self.stopped):
            assert place.section is not None
            place.section.scope.cancel(reason="its body was stopped")
        await trio.lowlevel.checkpoint_if_cancelled()
        if place.error is not None:
            raise place.error

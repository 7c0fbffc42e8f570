"""The main thread of a worker whose agent is not written for Trio; here, for plain functions.

The worker's Trio loop is in a second thread. Interrupts are signals, so that they reach code that
sleeps, waits for a socket or spins; their handler decides, where the code stands, whether it is
to unwind. Left alone are our own code, what is in flight within its grace, and clean-up, that is,
code that runs while a stop is being handled.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, suppress
from functools import partial
from itertools import dropwhile
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.context import make_current
from orchestrator.errors import StopRequested
from orchestrator.sections import standing_in
from orchestrator.stack import TaskStack, frame_of
from orchestrator.worker.crossing import Crossing
from orchestrator.worker.errands import (
    CALLERS,
    Call,
    Errand,
    Place,
    call,
    current_place,
    is_handling,
    standing_at,
)
from orchestrator.worker.face import SyncContext

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import FrameType

    from orchestrator.stack import Frame
    from orchestrator.worker.remote import RemoteRun

    Manager = Callable[[], AbstractAsyncContextManager[None]]

# Ignored by a process that has no handler for it, and used by hardly any program.
INTERRUPT = signal.SIGURG
_OURS = f"{Path(__file__).parent}{os.sep}"


class Outside(Crossing):
    """The main thread beside the Trio loop, for code of any kind."""

    def __init__(self) -> None:
        super().__init__()
        self._errands: SimpleQueue[Errand | None] = SimpleQueue()
        self._main = threading.get_ident()
        self._pid = os.getpid()
        self._crash: BaseException | None = None

    def hand_over(self, errand: Errand) -> None:
        """Give an errand to the main thread."""
        self._errands.put(errand)

    def stacks(self) -> list[TaskStack]:
        """Return where the threads of the agent's code stand, its main thread first."""
        frames, operations = sys._current_frames(), self.operations()
        trio_thread = threading.get_ident()
        return [
            TaskStack(self._run.id, self._run.record.agent, operations.get(thread.ident, ""), own)
            for thread in threading.enumerate()
            if thread.ident != trio_thread and thread.ident in frames
            if (own := self._frames_of(thread, frames[thread.ident]))
        ]

    def _frames_of(self, thread: threading.Thread, innermost: FrameType) -> tuple[Frame, ...]:
        """Return the frames of a thread, the outermost first; of the main thread those only that
        are above what calls the agent's code."""
        frames = list(_outwards(innermost))[::-1]
        if thread.ident == self._main:
            frames = list(dropwhile(lambda each: each.f_code is not call.__code__, frames))[1:]
        return tuple(map(frame_of, frames))

    # In the main thread

    def attend(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run Trio in a second thread and do its errands here, until it has ended."""
        threading.excepthook = partial(_report, threading.excepthook)
        threading.Thread(target=self._run_trio, args=(work,), name="trio", daemon=True).start()
        errand = self._errands.get()
        # Only now there is somebody to tell of a signal; before, SIGTERM does what it always does.
        self._take_signals()
        while errand is not None:
            self.do(errand)
            errand = self._errands.get()
        if self._crash is not None:
            raise self._crash

    def do(self, errand: Errand) -> None:
        """Do an errand, and tell Trio so."""
        errand.context.run(self.show_face)
        errand.do(partial(errand.context.run, errand.work))
        self.tell_done(errand)

    def tell_done(self, errand: Errand) -> None:
        """Tell Trio that an errand is done."""
        if os.getpid() != self._pid:
            # A process that the agent's code has forked comes to its end here, and has no Trio.
            raise errand.error or SystemExit
        self._token.run_sync_soon(errand.over.set)

    def show_face(self) -> None:
        """Let the context of the code at hand be the one that it was given."""
        make_current(self.face)  # type: ignore[arg-type]  # what it has of a context

    def finish(self) -> None:
        """Nothing: threads that the code has left end with the process."""

    def _take_signals(self) -> None:
        signal.signal(INTERRUPT, self._on_interrupt)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        os.register_at_fork(after_in_child=_forget_signals)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._may_interrupt(frame):
            raise self.stop_here()

    def _may_interrupt(self, frame: FrameType | None) -> bool:
        place = current_place.get()
        return (
            place is not None
            and place.leaving
            and _is_agents(frame)
            and not is_handling(self.stopped, sys.exception())
        )

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        # Or the loop has ended, and this process is about to.
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._run.last_warning)

    # In any thread but Trio's

    def stop_here(self) -> BaseException:
        """Return what unwinds the code at hand."""
        return self.stopped(self._run.why_stopped)

    def new_call(
        self, function: Callable[[], Awaitable[Any]], answer: Callable[[Errand | None], object]
    ) -> Call:
        """Make a call into Trio from where the code at hand stands."""
        cleaning = self._run.gate.closed and is_handling(self.stopped, sys.exception())
        made = Call(function, answer, self.whose(), cleaning=cleaning)
        self._token.run_sync_soon(self.admit, made)
        return made

    def result_of(self, made: Call) -> Any:
        """Return what a call came to, or raise it."""
        if made.stopped:
            raise self.stop_here()
        if made.error is not None:
            raise made.error
        return made.value

    def wait_for(self, function: Callable[..., Awaitable[Any]], /, *args: Any, **named: Any) -> Any:
        """Make a call into Trio and block until it is answered."""
        answers: SimpleQueue[Errand | None] = SimpleQueue()
        made = self.new_call(partial(function, *args, **named), answers.put)
        while (errand := answers.get()) is not None:
            self.do(errand)
        return self.result_of(made)

    def at_once(self, function: Callable[..., Any], *args: Any) -> Any:
        """Return what a function returns that does not wait; see ``face.Way``."""
        done: SimpleQueue[Errand] = SimpleQueue()
        errand = Errand(partial(function, *args))

        def do() -> None:
            errand.do(errand.work)
            done.put(errand)

        self._token.run_sync_soon(do)
        done.get()
        if errand.error is not None:
            raise errand.error
        return errand.value

    def hold_at_once(self, manager: Manager) -> AbstractContextManager[None]:
        """Return a manager that blocks as it enters and leaves a section; see ``face.Way``."""
        return _Held(self, manager)

    def whose(self) -> object:
        """Return what tells the thread or task at hand from others."""
        return threading.get_ident()

    def _run_trio(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            trio.run(work)
        except BaseException as error:
            self._crash = error
        finally:
            self._errands.put(None)


class MainThread(Outside):
    """The stage of agents that are plain functions."""

    stopped = StopRequested

    def begin(self, run: RemoteRun) -> None:
        """Take the run, in Trio."""
        super().begin(run)
        self.face = SyncContext(run.context, self)

    def cross(self, function: Callable[..., Awaitable[Any]], /, *args: Any, **named: Any) -> Any:
        """Return what the function returns; see ``face.Way``."""
        return self.wait_for(function, *args, **named)

    def hold(self, manager: Manager) -> AbstractContextManager[None]:
        """Return a manager for a section; see ``face.Way``."""
        return self.hold_at_once(manager)

    def interrupt(self, place: Place) -> None:
        """Send the main thread the signal; no other thread can be interrupted."""
        if place.whose in (None, self._main):
            signal.pthread_kill(self._main, INTERRUPT)

    def is_gone(self, place: Place) -> bool:
        """Return whether it is a place of the main thread's, which has done its errand."""
        return place.whose == self._main


class _Held:
    """A section of the gate for ``with``."""

    def __init__(self, outside: Outside, manager: Manager) -> None:
        self._outside = outside
        self._manager = manager
        self._place = Place(trio.Event(), outside.whose())
        self._inside = ExitStack()

    def __enter__(self) -> None:
        outside, place = self._outside, self._place
        section = outside.wait_for(outside.enter, self._manager, place)
        self._inside.enter_context(standing_in(section))
        self._inside.enter_context(standing_at(place))

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._inside.close()
        with standing_at(self._place.outer):
            self._outside.wait_for(self._outside.leave, self._place, error)


def _is_agents(frame: FrameType | None) -> bool:
    """Return whether the frame is the agent's code, or of a library that this has called."""
    for each in _outwards(frame):
        if each.f_code.co_filename.startswith(_OURS):
            return each.f_code in CALLERS if each is not frame else each.f_code is call.__code__
    return False


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def _forget_signals() -> None:
    """A process that the agent's code forks is none of ours: it dies of a SIGTERM at once."""
    for number in (INTERRUPT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _report(
    report: Callable[[threading.ExceptHookArgs], object], found: threading.ExceptHookArgs
) -> None:
    """Let a thread that a stop has ended go without a word."""
    if not issubclass(found.exc_type, StopRequested):
        report(found)

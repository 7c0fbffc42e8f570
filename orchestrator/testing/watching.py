"""How a stop arrives in an agent's tasks, and what they do then.

Trio's instruments see each task before it steps. A task to which the stop's ``Cancelled`` is
delivered a second time has awaited, unshielded, after it began to unwind: in a ``finally`` if
that second exception has the first in its context, since Python chains what is raised while
another is handled; and else after an ``except`` that swallowed the first. A task that waits for the
children of a nursery is sent nothing: the stop comes to it as the exception of a child.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import outcome
import trio

from orchestrator.context import Context, current_context, running_in
from orchestrator.model import RunStatus
from orchestrator.run import Run
from orchestrator.stack import frames_of
from orchestrator.testing.places import (
    ORCHESTRATOR,
    calling_place,
    caught_place,
    innermost,
    is_own_code,
)
from orchestrator.testing.points import LoudInstrument, loud
from orchestrator.testing.report import Fault, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.ports import RunPort
    from orchestrator.testing.places import Place

# How the closers of libraries are called: by Trio's convention they close although cancelled.
_CLOSERS = ("aclose", "__aexit__")
# Whose code may stand between a line that waits for a nursery and the nursery.
_WAITING = (ORCHESTRATOR, f"{Path(trio.__file__).parent}{os.sep}")


@dataclass(slots=True)
class _Undo:
    """A registered compensation."""

    run: RunPort
    name: str
    place: Place | None
    calls: int = 0


@dataclass(slots=True)
class _First:
    """The stop as it first arrives in a task.

    Attributes:
        nursery: the line that waits for children, if it arrives in one of those.
    """

    run: RunPort
    error: trio.Cancelled
    nursery: Place | None = None


@dataclass(slots=True)
class _Again:
    """The stop as it arrives once more in a task."""

    task: trio.lowlevel.Task
    error: trio.Cancelled
    place: Place | None
    closes: bool


class Watch(LoudInstrument):
    """Watches how the tasks of one round take the stop.

    Attributes:
        findings: what was wrong, in the order in which it was seen.
        spawned: the line of an agent that started a task.
    """

    def __init__(self, token: str, is_ours: Callable[[], bool]) -> None:
        """Watch a round.

        Args:
            token: what the reason of its stop contains.
            is_ours: whether the code at hand works for the run of the round.
        """
        self.is_ours = is_ours
        self.findings: list[Finding] = []
        self.spawned: dict[trio.lowlevel.Task, Place] = {}
        self._token = token
        self._first: dict[trio.lowlevel.Task, _First] = {}
        self._again: _Again | None = None
        self._undos: list[_Undo] = []

    @loud
    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Note which line started the task."""
        place = calling_place(past=ORCHESTRATOR) if self.is_ours() else None
        if place is not None:
            self.spawned[task] = place

    @loud
    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """See whether the step begins with the stop's ``Cancelled``."""
        # Not public: what the task will be sent.
        sent = task._next_send
        if not isinstance(sent, outcome.Error) or not isinstance(sent.error, trio.Cancelled):
            return
        if self._token not in (sent.error.reason or ""):
            return
        if task in self._first:
            place, called = innermost(frames_of(task))
            closes = any(each.function.rpartition(".")[2] in _CLOSERS for each in called)
            self._again = _Again(task, sent.error, place, closes)
        for run, _ in running_in(task):
            self._first.setdefault(task, _First(run, sent.error))
        self._reaches_those_who_wait_for(task, sent.error)

    @loud
    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Judge a second arrival, now that Python has set its context."""
        again, self._again = self._again, None
        if again is None:
            return
        handled = again.error.__context__
        if not _is_unwinding(handled):
            self._swallowed(task)
        elif not again.closes and _handled_in_own_code(handled):
            says = "it awaits, unshielded, in a `finally` or `except`; use `with ctx.cleanup():`"
            self.findings.append(Finding(Fault.CUT_CLEANUP, says, again.place))

    def refused(self) -> None:
        """Judge a refused operation: it is a fault unless the stop reached the task just now."""
        task = trio.lowlevel.current_task()
        handled = sys.exception()
        if self._again is not None and handled is self._again.error:
            handled = handled.__context__
        elif task not in self._first or (handled and not is_own_code(handled.__traceback__)):
            return
        self._again = None
        if _is_unwinding(handled):
            says = "one was asked for in a `finally` or `except`; use `ctx.on_stop`"
            self.findings.append(Finding(Fault.LATE_OPERATION, says, calling_place()))
        else:
            self._swallowed(task)

    def registers(self, run: RunPort, callback: Callable[..., Any]) -> Callable[..., Any]:
        """Count the calls of a compensation that the run registers."""
        name = getattr(callback, "__qualname__", type(callback).__name__)
        undo = _Undo(run, name, calling_place())
        self._undos.append(undo)

        def counted(*args: Any) -> Any:
            undo.calls += 1
            return callback(*args)

        counted.__qualname__ = name
        return counted

    def judge_ends(self) -> None:
        """Judge what can be told only once the runs have ended."""
        for task, first in self._first.items():
            if first.run.record.status is RunStatus.SUCCEEDED:
                self._swallowed(task, succeeded=True)
        for undo in self._undos:
            due = 0 if undo.run.record.status in (RunStatus.SUCCEEDED, RunStatus.FAILED) else 1
            if undo.calls != due:
                says = f"{undo.name} ran {undo.calls} times, not {due}"
                self.findings.append(Finding(Fault.COMPENSATION, says, undo.place))

    def place_named_in(self, words: str) -> Place | None:
        """Return where the compensation that a receipt's words begin with was registered."""
        return next((undo.place for undo in self._undos if f"{undo.name}:" in words), None)

    @property
    def has_compensations(self) -> bool:
        """Whether one was registered."""
        return bool(self._undos)

    def forget(self) -> None:
        """Let go of tasks and errors, which would keep all that they refer to."""
        self.spawned.clear()
        self._first.clear()
        self._undos.clear()
        self._again = None

    def _reaches_those_who_wait_for(self, task: trio.lowlevel.Task, error: trio.Cancelled) -> None:
        """Note the tasks that the end of this one ends as well: those that only wait for it."""
        # Not public: whether the body of the nursery is over.
        while (nursery := task.parent_nursery) and nursery._parent_waiting_in_aexit:
            task = nursery.parent_task
            place, called = innermost(frames_of(task))
            if place is None or not all(each.file.startswith(_WAITING) for each in called):
                return  # a library is in between, which may do what it must before it raises
            for run, _ in running_in(task):
                self._first.setdefault(task, _First(run, error, place))

    def _swallowed(self, task: trio.lowlevel.Task, *, succeeded: bool = False) -> None:
        first = self._first[task]
        place, error = first.nursery or caught_place(first.error), first.error
        if not (first.nursery or succeeded or is_own_code(error.__traceback__)):
            return  # a library caught it, and will raise it on when it has done what it must
        if place is None:
            return
        says = "`Cancelled` arrived here and was not raised on; catch `Exception` at most"
        self.findings.append(Finding(Fault.SWALLOWED, says, place))


@contextmanager
def watching(watch: Watch) -> Iterator[None]:
    """Let the watch see refused operations and registered compensations."""
    refuse, on_stop = Run.operation_refused, Context.on_stop

    @wraps(refuse)
    def refused(run: Run) -> None:
        if watch.is_ours():
            watch.refused()
        refuse(run)

    @wraps(on_stop)
    def registering(context: Context, callback: Callable[..., Any], *args: Any) -> None:
        ours = watch.is_ours() and callable(callback)
        on_stop(context, watch.registers(context._run, callback) if ours else callback, *args)

    with replaced(Run, "operation_refused", refused), replaced(Context, "on_stop", registering):
        yield


@contextmanager
def replaced(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a method of a class for the body."""
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)


def root_at_hand() -> str | None:
    """Return the id of the root run that the code at hand works for, also in its threads."""
    try:
        return current_context()._run.record.root_id
    except LookupError:
        return None


def _is_unwinding(error: BaseException | None) -> bool:
    """Whether whoever handles that error is being cancelled."""
    while error is not None:
        group = error if isinstance(error, BaseExceptionGroup) else None
        if isinstance(error, trio.Cancelled) or (group and group.subgroup(trio.Cancelled)):
            return True
        error = error.__context__
    return False


def _handled_in_own_code(error: BaseException | None) -> bool:
    """Whether the frame that handles the error is an agent's, and not that of a library."""
    return error is not None and is_own_code(error.__traceback__)

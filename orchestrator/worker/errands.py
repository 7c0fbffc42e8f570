"""What goes back and forth between a worker's Trio loop and code that runs outside of it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import CodeType

    from orchestrator.sections import Section

_F = TypeVar("_F", bound="Callable[..., Any]")

# Functions of ours that call the agent's code: what is above their frames is the agent's.
CALLERS: set[CodeType] = set()


def calls_agents_code(function: _F) -> _F:
    """Mark a function whose calls of functions that are not ours are calls of the agent's."""
    CALLERS.add(function.__code__)
    return function


@calls_agents_code
def call(work: Callable[[], Any]) -> Any:
    """Call the agent's code, and do nothing else, so that an interrupt may come here too."""
    return work()


class Errand:
    """Something that a task of Trio wants done outside, with the context variables of the task.

    Attributes:
        plain: it is no business of any other loop; done by the main thread as it stands.
        over: set in Trio once it is done; then ``error`` or else ``value`` is what it came to.
    """

    def __init__(self, work: Callable[[], Any], *, plain: bool = False) -> None:
        self.work = work
        self.plain = plain
        self.context = copy_context()
        self.over = trio.Event()
        self.value: Any = None
        self.error: BaseException | None = None

    def do(self, work: Callable[[], Any]) -> None:
        """Do the work and keep what it comes to, whatever that is."""
        try:
            self.value = call(work)
        except BaseException as error:
            self.error = error


class Call:
    """A call from outside into Trio, with the context variables of the caller.

    Attributes:
        answer: tells the caller of an errand to do meanwhile, or of the end by None.
        whose: which of the code's threads or tasks made it.
        cleaning: the caller is cleaning up after a stop, which therefore must not reach it.
        stopped: a stop ended it; otherwise ``error`` or else ``value`` is what it came to.
    """

    def __init__(
        self,
        function: Callable[[], Awaitable[Any]],
        answer: Callable[[Errand | None], object],
        whose: object,
        *,
        cleaning: bool,
    ) -> None:
        self.function = function
        self.answer = answer
        self.whose = whose
        self.cleaning = cleaning
        self.context = copy_context()
        self.scope: trio.CancelScope | None = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.stopped = False

    def cancel(self) -> None:
        """Cancel it, in Trio, on behalf of the caller."""
        if self.scope is not None:
            self.scope.cancel(reason="cancelled by its caller")


class Place:
    """Where in Trio the code outside is: in an errand, or in a section of the gate.

    Attributes:
        nursery: of the calls that the code makes there.
        over: set once the code has left.
        leaving: the code is to leave at once.
        whose: which of the code's threads or tasks came here.
        outer: where a section is left from: it is there for as long as the section is.
        error: what the code left a section with.
        entered: set once the section has been entered, or was refused.
        section: the section; None in an errand, and if it was refused.
        settled: set once the section is over in Trio too; then ``failure`` is what its end raised,
            and ``stopped`` whether a stop ended it.
    """

    def __init__(self, over: trio.Event, whose: object = None) -> None:
        self.nursery: trio.Nursery | None = None
        self.over = over
        self.leaving = False
        self.whose = whose
        self.outer: Place | None = None
        self.error: BaseException | None = None
        self.entered = trio.Event()
        self.section: Section | None = None
        self.settled = trio.Event()
        self.failure: BaseException | None = None
        self.stopped = False


# Where the code at hand is. Known in Trio too, from the context variables of a call.
current_place: ContextVar[Place | None] = ContextVar("quiesce_place", default=None)
# In Trio: the call from outside that the task at hand answers.
current_call: ContextVar[Call | None] = ContextVar("quiesce_call", default=None)


@contextmanager
def standing_at(place: Place | None) -> Iterator[None]:
    """Let the body be at that place."""
    token = current_place.set(place)
    try:
        yield
    finally:
        current_place.reset(token)


def is_handling(kind: type[BaseException], error: BaseException | None) -> bool:
    """Return whether the error that is being handled is of that kind, or came up in such a one's
    handling."""
    while error is not None and not isinstance(error, kind):
        error = error.__context__
    return error is not None

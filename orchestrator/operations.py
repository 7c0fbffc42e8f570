"""The gate before every operation, and the shield around those in flight.

Until a stop is asked for, a section (an operation, a critical section, a compensation) is an
ordinary scope: the agent's own limits and cancellations work in it as anywhere. ``Gate.close``
is the moment of the stop: in one step without an ``await`` the gate refuses whatever is new, and
each section in flight becomes shielded with a deadline. From then on escalation is the lowering
of those deadlines, and nothing else.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar, copy_context
from math import inf
from typing import TYPE_CHECKING, Protocol

import trio

from orchestrator.errors import (
    OperationCut,
    OperationRefused,
    OperationsAreLeaves,
    check_text,
    in_words,
)
from orchestrator.events import (
    OperationCut as OperationWasCut,
)
from orchestrator.events import (
    OperationFinished,
    OperationStarted,
    OperationWasRefused,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextvars import Context

    from orchestrator.events import Payload

# Refusals of one run that are told one by one; beyond that they are only counted, since code
# that swallows the stop in a loop would otherwise fill the disk.
TOLD_REFUSALS = 100

# The innermost section that the code at hand runs in. Copied into tasks started in it, so a
# section that is over must be recognised as such: see ``Section.open``.
_section: ContextVar[Section | None] = ContextVar("quiesce_section", default=None)


class Section:
    """A stretch of code that a stop treats with care.

    Attributes:
        scope: not shielded until the gate closes.
        holds: a critical section or a compensation: operations may start in it after the stop.
        own_bound: the end of the innermost section around (or of this one) that holds the stop
            back; no grace shortens it. None if there is none.
        bound: when a stop ends this at the latest, on Trio's clock; ``inf`` before the stop.
        open: False once it has been left or revoked.
    """

    __slots__ = (
        "bound",
        "holds",
        "kind",
        "label",
        "number",
        "open",
        "own_bound",
        "scope",
        "started",
    )

    def __init__(self, kind: str, label: str, number: int, holds_s: float | None = None) -> None:
        outer = current_section()
        self.kind = kind
        self.label = label
        self.number = number
        self.scope = trio.CancelScope()
        self.started = trio.current_time()
        self.holds = holds_s is not None
        self.own_bound: float | None = outer.own_bound if outer is not None else None
        if holds_s is not None:
            # Within another one that holds the stop back, this one can end before it only.
            self.own_bound = min(self.started + holds_s, self.own_bound or inf)
        self.bound = inf
        self.open = True

    def hold(self, until: float) -> None:
        """Shield the section from the stop, until then at the longest. Only ever shortens."""
        self.bound = min(self.bound, until)
        self.scope.deadline = min(self.scope.deadline, self.bound)
        self.scope.shield = True


class Owner(Protocol):
    """What a gate needs of its run."""

    def tell(self, payload: Payload) -> None:
        """Append an event to the feed."""

    def section_ended(self, section: Section, *, cut: bool) -> None:
        """An operation or critical section is over."""

    def operation_refused(self) -> None:
        """An operation was refused since a stop had been asked for."""


class Gate:
    """One run's gate: what may start, and what is in flight.

    Attributes:
        closed: a stop was asked for. Never opens again.
        sections: operations and critical sections in flight.
        outer: the section of the parent's that the run is called in, if any: it holds the stop
            back for whatever runs in it.
    """

    __slots__ = ("_number", "_owner", "_refusals", "closed", "outer", "sections", "until")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.outer: Section | None = None
        self._number = 0
        self._refusals = 0
        self.closed = False
        self.until = inf
        self.sections: set[Section] = set()

    def close(self, until: float) -> None:
        """Refuse what is new, and give what is in flight until then. A later call only tightens.

        Args:
            until: on Trio's clock. Critical sections keep the bound that they named.
        """
        self.closed = True
        self.until = min(self.until, until)
        for section in self.sections:
            section.hold(self.until if section.own_bound is None else section.own_bound)

    def revoke(self) -> None:
        """End all that is in flight now, critical sections too; nothing may start in them."""
        self.closed = True
        self.until = trio.current_time()
        for section in self.sections:
            section.hold(self.until)
            section.open = False

    def bound(self) -> float:
        """Return when the last of what is in flight ends at the latest; now if nothing is."""
        bound = max((s.bound for s in self.sections), default=trio.current_time())
        outer = self.outer
        if outer is not None and outer.open and outer.own_bound is not None:
            bound = max(bound, outer.own_bound)
        return bound

    @property
    def may_send(self) -> bool:
        """Whether the code at hand may cause effects: no stop, or inside a section still open."""
        return not self.closed or current_section() is not None

    async def admit(self, kind: str, label: str) -> None:
        """Pass the gate. A checkpoint.

        Raises:
            trio.Cancelled: a stop was asked for.
            OperationRefused: the same, where ``Cancelled`` cannot arrive.
        """
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            if self.closed:
                self._refuse(kind, label)
            raise
        if self.closed and not _in_holding_section():
            self._refuse(kind, label)
            raise OperationRefused(kind, label)

    @asynccontextmanager
    async def operation(self, kind: str, label: str) -> AsyncIterator[None]:
        """Guard the awaits in the body as one operation; see ``Context.operation``."""
        check_text("kind", kind)
        forbid_inside_operation(f"{kind} {check_text('label', label)}".rstrip())
        await self.admit(kind, label)
        section = self._begin(kind, label)
        self._owner.tell(OperationStarted(section.number, kind, label))
        error: BaseException | None = None
        try:
            with _inside(section), section.scope:
                yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._end(section, error)
        if self.closed:
            await trio.lowlevel.checkpoint_if_cancelled()
        if section.scope.cancelled_caught:
            raise OperationCut(kind, label)

    @contextmanager
    def critical(self, label: str, max_seconds: float) -> Iterator[None]:
        """Hold a stop back for the body; see ``Context.critical``."""
        forbid_inside_operation(f"critical section {check_text('label', label)!r}")
        if self.closed and not _in_holding_section():
            self._refuse("critical", label)
            raise OperationRefused("critical", label)
        section = self._begin("critical", label, max_seconds)
        try:
            with _inside(section), section.scope:
                yield
        finally:
            self.sections.discard(section)
            self._owner.section_ended(section, cut=section.scope.cancelled_caught)
        if section.scope.cancelled_caught:
            raise OperationCut("critical", label)

    @contextmanager
    def compensation(self, label: str, max_seconds: float) -> Iterator[trio.CancelScope]:
        """Let a compensation act after the stop, shielded, for that long.

        Yields:
            the scope; it has caught a cancellation if the time ran out.
        """
        assert self.closed, "compensations run only after a stop"
        section = self._begin("compensation", label, max_seconds)
        try:
            with _inside(section), section.scope as scope:
                yield scope
        finally:
            self.sections.discard(section)

    def _begin(self, kind: str, label: str, holds_s: float | None = None) -> Section:
        self._number += 1
        section = Section(kind, label, self._number, holds_s)
        self.sections.add(section)
        if self.closed and section.own_bound is not None:
            section.hold(section.own_bound)
        return section

    def _end(self, section: Section, error: BaseException | None) -> None:
        self.sections.discard(section)
        seconds = round(trio.current_time() - section.started, 6)
        cut = section.scope.cancelled_caught or _is_cancelled(error)
        words = None if error is None or cut else f"{type(error).__name__}: {in_words(error)}"
        told = (section.number, section.kind, section.label, seconds)
        self._owner.tell(OperationWasCut(*told) if cut else OperationFinished(*told, words))
        self._owner.section_ended(section, cut=cut)

    def _refuse(self, kind: str, label: str) -> None:
        self._refusals += 1
        self._owner.operation_refused()
        if self._refusals <= TOLD_REFUSALS:
            self._owner.tell(OperationWasRefused(kind, label))


def forbid_inside_operation(what: str) -> None:
    """Refuse what is a step of its own inside an operation.

    Raises:
        OperationsAreLeaves: the code at hand runs in an operation.
    """
    section = current_section()
    if section is not None and not section.holds:
        raise OperationsAreLeaves(f"{section.kind} {section.label}".rstrip(), what)


def current_section() -> Section | None:
    """Return the section that the code at hand runs in, if it is still open."""
    section = _section.get()
    return section if section is not None and section.open else None


def outside_sections(call: Callable[..., None], *args: object) -> None:
    """Make a call that starts a task which is not to be part of the section at hand."""
    context = copy_context()
    context.run(_section.set, None)
    context.run(call, *args)


def section_in(context: Context) -> Section | None:
    """Return the section that a task with these context variables runs in, if still open."""
    section = context.get(_section)
    return section if section is not None and section.open else None


@contextmanager
def _inside(section: Section) -> Iterator[None]:
    token = _section.set(section)
    try:
        yield
    finally:
        section.open = False
        _section.reset(token)


def _in_holding_section() -> bool:
    section = current_section()
    return section is not None and section.holds


def _is_cancelled(error: BaseException | None) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(trio.Cancelled) is not None
    return isinstance(error, trio.Cancelled)

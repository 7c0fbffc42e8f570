"""The gate before every operation, and the account of those in flight.

``Gate.close`` is the moment of the stop: in one step without an ``await`` the gate refuses
whatever is new, and each section in flight becomes shielded with a deadline. From then on
escalation is the lowering of those deadlines, and nothing else.

``Gate.hold`` is the moment of a pause: whoever comes to the gate or to a checkpoint parks there,
and what is in flight finishes.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.allowance import Allowance
from orchestrator.cleanup import is_cancelled
from orchestrator.errors import OperationCut, OperationRefused, check_text, in_words
from orchestrator.events import OperationCut as OperationWasCut
from orchestrator.events import OperationFinished, OperationStarted, OperationWasRefused
from orchestrator.faults import check_seconds
from orchestrator.part import Part
from orchestrator.sections import (
    Section,
    current_section,
    forbid_inside_operation,
    in_holding_section,
    inside,
    is_settling,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from orchestrator.ports import GateOwner

# The kind of a critical section.
CRITICAL = "critical"

# Refusals of one run that are told one by one; beyond that they are only counted, since code
# that swallows the stop in a loop would otherwise fill the disk.
TOLD_REFUSALS = 100


class Gate(Part["GateOwner"]):
    """One run's gate: what may start, and what is in flight.

    Attributes:
        closed: a stop was asked for, or the run has ended. Never opens again.
        held: a pause was asked for; never true together with ``closed``.
        allowance: what may pass nevertheless, by a debug step.
        left: the agent's code is over, so a pause finds nobody to park.
        changed: called after a stop or pause took effect; for code that is elsewhere.
        sections: operations and critical sections in flight.
        outer: the section of the parent's that the run is called in, if any: it holds the stop
            back for whatever runs in it.
    """

    __slots__ = (
        "_closing",
        "_lot",
        "_number",
        "_refusals",
        "allowance",
        "changed",
        "closed",
        "held",
        "left",
        "outer",
        "sections",
        "until",
    )

    def __init__(self, run: GateOwner) -> None:
        super().__init__(run)
        self.outer: Section | None = None
        self._number = 0
        self._refusals = 0
        self.allowance = Allowance()
        self._lot: trio.lowlevel.ParkingLot | None = None
        self._closing: trio.Event | None = None
        self.closed = False
        self.held = False
        self.left = False
        self.changed: Callable[[], None] | None = None
        self.until = inf
        self.sections: set[Section] = set()

    def close(self, until: float) -> None:
        """Refuse what is new, and give what is in flight until then. A later call only tightens.

        Args:
            until: on Trio's clock. Critical sections keep the bound that they named.
        """
        self._shut()
        self.until = min(self.until, until)
        for section in self.sections:
            section.hold(self.until if section.own_bound is None else section.own_bound)
        self._say_changed()

    def revoke(self) -> None:
        """End all that is in flight now, critical sections too; nothing may start in them."""
        self._shut()
        self.until = trio.current_time()
        for section in self.sections:
            section.hold(self.until)
            section.open = False
        self._say_changed()

    def bound(self) -> float:
        """Return when the last of what is in flight ends at the latest; now if nothing is."""
        bound = max((s.bound for s in self.sections), default=trio.current_time())
        if (outer := self.outer) is not None and outer.open and outer.own_bound is not None:
            bound = max(bound, outer.own_bound)
        return bound

    @property
    def over(self) -> bool:
        """Whether a stop has cut all that is in flight: nothing here or around it holds it back."""
        around = [] if self.outer is None else [self.outer]
        held = any(each.open and each.own_bound is not None for each in [*self.sections, *around])
        return self.until <= trio.current_time() and not held

    @property
    def closing(self) -> trio.Event:
        """Set once the gate is closed: what waits within an operation need not wait longer."""
        if self._closing is None:
            self._closing = trio.Event()
            if self.closed:
                self._closing.set()
        return self._closing

    def hold(self) -> None:
        """Let nobody pass from now on; what is in flight goes on. May be called twice."""
        self.held = not self.closed
        self.allowance.withdraw()
        self._say_changed()

    def release(self) -> None:
        """Let everybody pass again. May be called twice."""
        self.held = False
        self._wake()
        self._say_changed()

    def step(self) -> None:
        """Let one operation or sub-agent through, and all checkpoints before it."""
        self.allowance.grant()
        self._wake()

    @property
    def quiet(self) -> bool:
        """Whether nothing is in flight, and nothing was let through to be."""
        busy = self.allowance or self.left
        return not busy and all(section.parks for section in self.sections)

    @property
    def sheltered(self) -> bool:
        """Whether the run is part of a section above it that a pause lets finish."""
        return self.outer is not None and self.outer.open and not self.outer.parks

    @property
    def has_parked(self) -> bool:
        """Whether a task is parked here."""
        return bool(self._lot)

    async def park(self, *, gate: bool = False) -> None:
        """Wait while the run is held, unless the code at hand is in a section in flight.

        A checkpoint only if the run is held.

        Args:
            gate: something is about to start, so this takes up a step.
        """
        while self.held and ((section := current_section()) is None or section.parks):
            if self.allowance.take(gate=gate):
                return
            if self._lot is None:
                self._lot = trio.lowlevel.ParkingLot()
            self._run.parked()
            await self._lot.park()

    @property
    def may_send(self) -> bool:
        """Whether the code at hand may cause effects: the gate is open, or a section around it."""
        return not self.closed or current_section() is not None

    async def admit(self, kind: str, label: str) -> None:
        """Pass the gate. A checkpoint.

        Raises:
            trio.Cancelled: a stop was asked for.
            OperationRefused: the same, where ``Cancelled`` cannot arrive.
        """
        try:
            await trio.lowlevel.checkpoint()
            await self.park(gate=True)
        except trio.Cancelled:
            if self.closed:
                self._refuse(kind, label)
            raise
        if self.closed and not in_holding_section():
            self._refuse(kind, label)
            raise OperationRefused(kind, label)

    async def enter(self, kind: str, label: str, effect: str = "") -> Section:
        """Pass the gate and begin an operation, in one step; errors as for ``admit``."""
        await self.admit(kind, label)
        section = self.begin(kind, label)
        section.effect = effect
        self._run.tell(OperationStarted(section.number, kind, label))
        return section

    def leave(self, section: Section, *, cut: bool, error: str | None) -> None:
        """End an operation; the end of its run may have done so before. Not a checkpoint.

        Args:
            error: what it raised, in words, if it was not cut.
        """
        if section not in self.sections:
            return
        seconds = round(trio.current_time() - section.started, 6)
        told = (section.number, section.kind, section.label, seconds)
        self.sections.discard(section)
        self._run.tell(
            OperationWasCut(*told, section.effect) if cut else OperationFinished(*told, error)
        )
        self._run.section_ended(section, cut=cut)

    def begin(self, kind: str, label: str, holds_s: float | None = None) -> Section:
        """Begin a section without asking the gate; ``holds_s`` as for ``Section``."""
        self._number += 1
        section = Section(kind, label, self._number, holds_s)
        self.sections.add(section)
        if self.closed and section.own_bound is not None:
            section.hold(section.own_bound)
        return section

    def end(self, section: Section, *, cut: bool) -> None:
        """End a critical section or compensation. Not a checkpoint."""
        self.sections.discard(section)
        if section.kind == CRITICAL:
            self._run.section_ended(section, cut=cut)

    # Both hold the run: code elsewhere that works for it may have nothing else of it.
    def operation(
        self, kind: str, label: str, effect: str = ""
    ) -> AbstractAsyncContextManager[None]:
        """Guard the awaits in the body as one operation; see ``Context.operation``."""
        return self._operation(self._run, kind, label, effect)

    def critical(self, label: str, max_seconds: float) -> AbstractContextManager[None]:
        """Hold a stop back for the body; see ``Context.critical``."""
        return self._critical(self._run, label, max_seconds)

    @asynccontextmanager
    async def _operation(
        self, run: GateOwner, kind: str, label: str, effect: str
    ) -> AsyncIterator[None]:
        check_text("kind", kind)
        forbid_inside_operation(f"{kind} {check_text('label', label)}".rstrip())
        section = await self.enter(kind, label, check_text("effect", effect))
        cut, words = False, None
        try:
            with inside(section), section.scope:
                yield
        except BaseException as error:
            cut = is_cancelled(error)
            words = None if cut else f"{type(error).__name__}: {in_words(error)}"
            raise
        finally:
            self.leave(section, cut=cut or section.scope.cancelled_caught, error=words)
        if self.closed and (section.scope.cancelled_caught or not is_settling()):
            await trio.lowlevel.checkpoint_if_cancelled()
        if section.scope.cancelled_caught:
            raise OperationCut(kind, label)

    @contextmanager
    def _critical(self, run: GateOwner, label: str, max_seconds: float) -> Iterator[None]:
        forbid_inside_operation(f"critical section {check_text('label', label)!r}")
        if self.closed and not in_holding_section():
            self._refuse(CRITICAL, label)
            raise OperationRefused(CRITICAL, label)
        section = self.begin(CRITICAL, label, check_seconds("max_seconds", max_seconds))
        section.parks = self.held and ((outer := current_section()) is None or outer.parks)
        try:
            with inside(section), section.scope:
                yield
        finally:
            self.end(section, cut=section.scope.cancelled_caught)
        if section.scope.cancelled_caught:
            raise OperationCut(CRITICAL, label)

    @contextmanager
    def compensation(self, label: str, max_seconds: float) -> Iterator[trio.CancelScope]:
        """Let a compensation act after the stop, shielded, for that long.

        Yields:
            the scope; it has caught a cancellation if the time ran out.
        """
        assert self.closed, "compensations run only after a stop"
        section = self.begin("compensation", label, max_seconds)
        try:
            with inside(section), section.scope as scope:
                yield scope
        finally:
            self.end(section, cut=section.scope.cancelled_caught)

    def _shut(self) -> None:
        self.closed, self.held = True, False
        self._wake()
        if self._closing is not None:
            self._closing.set()

    def _say_changed(self) -> None:
        if self.changed is not None:
            self.changed()

    def _wake(self) -> None:
        if self._lot is not None:
            self._lot.unpark_all()

    def _refuse(self, kind: str, label: str) -> None:
        self._refusals += 1
        self._run.operation_refused()
        if self._refusals <= TOLD_REFUSALS:
            self._run.tell(OperationWasRefused(kind, label))

"""Stretches of code that a stop treats with care: operations, critical sections, compensations.

Until a stop is asked for, a section is an ordinary scope: the agent's own limits and
cancellations work in it as anywhere. When the gate closes it becomes shielded, with a deadline.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.errors import OperationsAreLeaves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

# The innermost section that the code at hand runs in. Copied into tasks started in it, so a
# section that is over must be recognised as such: see ``Section.open``.
_section: ContextVar[Section | None] = ContextVar("quiesce_section", default=None)

# Whether the code at hand is a durable step, which may return what its last operation brought
# although a stop was asked for meanwhile.
_settling: ContextVar[bool] = ContextVar("quiesce_settling", default=False)


class Section:
    """A stretch of code that a stop treats with care.

    Attributes:
        scope: not shielded until the gate closes.
        holds: a critical section or a compensation: operations may start in it after the stop.
        own_bound: the end of the innermost section around (or of this one) that holds the stop
            back; no grace shortens it. None if there is none.
        bound: when a stop ends this at the latest, on Trio's clock; ``inf`` before the stop.
        effect: what it does to the other side when this is cut, in words.
        parks: it began while its run was paused, so what is in it waits at the gate too.
        open: False once it has been left or revoked.
    """

    __slots__ = (
        "bound",
        "effect",
        "holds",
        "kind",
        "label",
        "number",
        "open",
        "own_bound",
        "parks",
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
        self.effect = ""
        self.parks = False
        self.open = True

    def hold(self, until: float) -> None:
        """Shield the section from the stop, until then at the longest. Only ever shortens."""
        self.bound = min(self.bound, until)
        self.scope.deadline = min(self.scope.deadline, self.bound)
        self.scope.shield = True


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


@contextmanager
def standing_in(section: Section) -> Iterator[None]:
    """Let the body, which works for code in the section elsewhere, be part of it."""
    token = _section.set(section)
    try:
        yield
    finally:
        _section.reset(token)


@contextmanager
def settling() -> Iterator[None]:
    """Leave operations of the body without ``Cancelled``: it is heard at the next await."""
    token = _settling.set(True)
    try:
        yield
    finally:
        _settling.reset(token)


def is_settling() -> bool:
    """Return whether the code at hand is in ``settling``."""
    return _settling.get()


def section_in(context: Context) -> Section | None:
    """Return the section that a task with these context variables runs in, if still open."""
    section = context.get(_section)
    return section if section is not None and section.open else None


@contextmanager
def inside(section: Section) -> Iterator[None]:
    """Run the body in the section, which is over after it."""
    token = _section.set(section)
    try:
        yield
    finally:
        section.open = False
        _section.reset(token)


def in_holding_section() -> bool:
    """Return whether the code at hand may start operations although a stop was asked for."""
    section = current_section()
    if section is None or not section.holds or section.own_bound is None:
        return False
    return trio.current_time() < section.own_bound

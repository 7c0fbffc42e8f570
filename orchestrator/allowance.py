"""What a debug step allows while its run is held: one gate, and all checkpoints before it.

A durable step and the first gate inside it count as one: when a durable step was let through, the
code in it is lent a pass. Until that code comes to another gate or to its end, the debug step is
under way, and the run is not paused.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True, eq=False)
class _Pass:
    used: bool = False


# The pass that the code at hand was lent; whether it is still good is known to who has lent it.
_pass: ContextVar[_Pass | None] = ContextVar("quiesce_pass", default=None)


class Allowance:
    """Of one gate. Nothing here is a checkpoint."""

    __slots__ = ("_gates", "_lent")

    def __init__(self) -> None:
        self._gates = 0
        self._lent: _Pass | None = None

    def __bool__(self) -> bool:
        """Whether something is allowed that is not over yet."""
        return bool(self._gates) or self._lent is not None

    def grant(self) -> None:
        """Allow one gate."""
        self._gates = 1

    def withdraw(self) -> None:
        """Allow nothing any more."""
        self._gates, self._lent = 0, None

    def take(self, *, gate: bool) -> bool:
        """Return whether the code at hand may pass, and if that is a gate, use that up."""
        lent = self._lent
        if lent is not None and lent is _pass.get():
            if not gate or not lent.used:
                lent.used |= gate
                return True
            self._lent = None
        if not self._gates:
            return False
        self._gates -= gate
        return True

    @contextmanager
    def lending(self, *, held: bool) -> Iterator[None]:
        """Lend the body, a durable step that has passed its gate, a pass for the next one.

        Args:
            held: whether the run is; otherwise there is nothing to lend.
        """
        lent = self._lent = _Pass() if held else None
        token = _pass.set(lent)
        try:
            yield
        finally:
            _pass.reset(token)
            if self._lent is lent:
                self._lent = None

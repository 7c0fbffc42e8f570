"""Who did what, when, from where, why, and what came of it; kept in the store.

What was done is durable in one transaction with its entry. What was refused is written on its own.
What may come in a deluge, bad tokens above all, is counted rather than kept.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

if TYPE_CHECKING:
    from orchestrator import Orchestrator

COLLECTION = "audit"
# Entries that one page looks through at most, so that a filter that fits nothing is cheap too.
MOST_LOOKED_AT = 5_000
LOOK = 500
# What is counted is one entry for all that are alike within such a time.
WINDOW_S = 600.0
MOST_COUNTED = 100
ALL_OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Deed:
    """One entry, without when and where in the order.

    Attributes:
        peer: the address from which it was asked for.
        result: ``ok``, or the kind of the problem that was answered.
        count: of how many alike it tells, at least.
    """

    action: str
    principal: str
    peer: str
    run_id: str | None = None
    reason: str = ""
    result: str = "ok"
    count: int = 1


class _Counted(NamedTuple):
    key: str
    at: str
    seen: int


class Trail:
    """The audit of one server. Nothing here but ``page`` is a checkpoint."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        # Two servers on one store never write the same key.
        self._writer = secrets.token_hex(4)
        self._written = 0
        self._window = trio.current_time()
        self._counted: dict[Deed, _Counted] = {}

    def note(self, deed: Deed, *, along: int | None = None) -> int:
        """Write an entry, and return the ticket once which is durable it may be acknowledged.

        Args:
            along: the ticket of the deed itself, if it was done in this very step.
        """
        key, at = self._next_key()
        return self._write(key, at, deed, along)

    def count(self, deed: Deed) -> None:
        """Count what may come in a deluge. The first of its kind is written at once."""
        if trio.current_time() - self._window > WINDOW_S:
            self._window = trio.current_time()
            self._counted.clear()
        if deed not in self._counted and len(self._counted) >= MOST_COUNTED:
            deed = Deed(deed.action, "", ALL_OTHERS, result=deed.result)
        key, at, seen = self._counted.get(deed) or _Counted(*self._next_key(), 0)
        seen += 1
        self._counted[deed] = _Counted(key, at, seen)
        # At 1, 2, 4, 8, …: a deluge must not keep the store busy.
        if seen.bit_count() == 1:
            self._write(key, at, replace(deed, count=seen), None)

    async def page(
        self, where: dict[str, str], *, after: str | None, limit: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return entries, newest first, and the cursor of the next page.

        A page may be short, or empty, although there is a next one.

        Args:
            where: fields and the values that they must have.
        """
        found: list[dict[str, Any]] = []
        looked_at, last = 0, after or ""
        while looked_at < MOST_LOOKED_AT:
            chunk = await self._orchestrator.kept(COLLECTION, after=last, limit=LOOK, newest=True)
            for last, entry in chunk:
                if all(entry[name] == value for name, value in where.items()):
                    found.append({"id": last, **entry})
                if len(found) == limit:
                    return found, last
            looked_at += len(chunk)
            if len(chunk) < LOOK:
                return found, None
        return found, last

    def _next_key(self) -> tuple[str, str]:
        self._written += 1
        at = self._orchestrator.now()
        return f"{at}-{self._writer}-{self._written:012}", at

    def _write(self, key: str, at: str, deed: Deed, along: int | None) -> int:
        entry = {
            "at": at,
            "action": deed.action,
            "principal": deed.principal,
            "from": deed.peer,
            "run_id": deed.run_id,
            "reason": deed.reason,
            "result": deed.result,
            "count": deed.count,
        }
        return self._orchestrator.keep(COLLECTION, key, entry, along=along)

"""Which rooms a client was in when its connection broke, so that it is in them when it is back."""

from __future__ import annotations

from typing import NamedTuple

import trio

# How long a client may take to come back.
KEPT_S = 120.0
# Of so many clients it is kept; the oldest are forgotten first.
MAX_KEPT = 1_000


class _Kept(NamedTuple):
    principal: str
    rooms: tuple[str, ...]
    until: float


class Recovery:
    """What is kept of clients whose connections broke, by ids that only they know."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, pid: str, principal: str, rooms: tuple[str, ...]) -> None:
        """Keep the rooms of a client for a while. Not a checkpoint."""
        self._kept[pid] = _Kept(principal, rooms, trio.current_time() + KEPT_S)
        while len(self._kept) > MAX_KEPT or self._oldest.until < trio.current_time():
            del self._kept[next(iter(self._kept))]

    def take(self, pid: str, principal: str) -> tuple[str, ...] | None:
        """Return the rooms of a client that is back, once; None if it has none. Not a checkpoint.

        Args:
            principal: who it is now; another one's rooms are not for it.
        """
        kept = self._kept.get(pid)
        if kept is None or kept.principal != principal or kept.until < trio.current_time():
            return None
        del self._kept[pid]
        return kept.rooms

    @property
    def _oldest(self) -> _Kept:
        return next(iter(self._kept.values()))

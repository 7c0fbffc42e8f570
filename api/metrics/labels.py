"""How many values a label may have: each one is a time series, for as long as the process lives."""

from __future__ import annotations

# What stands for every value that came too late.
OTHER = "other"
MOST = 100


class Few:
    """The values of one label: the first hundred stand for themselves, all others are ``other``.

    Agents are named by whoever writes them, and may be many.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: set[str] = set()

    def __call__(self, value: str) -> str:
        """Return what to write for the value. Not a checkpoint."""
        if value in self._known:
            return value
        if len(self._known) == self._most:
            return OTHER
        self._known.add(value)
        return value

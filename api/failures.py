"""Errors that a client may cause as often as it likes: told in bounded lines, if at all."""

from __future__ import annotations

import logging
import traceback
from collections import Counter
from pathlib import Path

_log = logging.getLogger("quiesce.server")

# Places in the code that are told apart: more than there are, unless somebody makes them up.
PLACES = 100

# Whose errors say what a client did to its connection, and nothing about our code.
_WIRE = frozenset(("h11", "h2", "hpack", "hypercorn", "wsproto"))


class Failures:
    """Errors of one kind, counted by the place in the code where they arise.

    Of those of one place the 1st, 2nd, 4th, 8th, … is a line of bounded length at ``error``: nobody
    must be able to fill the log. Each is told at ``debug`` with its traceback.

    Args:
        what: what such an error ends.
        explain: they may be mistakes of ours, so the first of each place comes with its traceback.
    """

    def __init__(self, what: str, *, explain: bool = False) -> None:
        self._what = what
        self._explain = explain
        self._counted: Counter[str] = Counter()

    def note(self, error: BaseException) -> None:
        """Count an error, and perhaps tell of it. Not a checkpoint."""
        first = _first(error)
        place = key = _place_of(first)
        if key not in self._counted and len(self._counted) >= PLACES:
            key = "elsewhere"
        self._counted[key] += 1
        times = self._counted[key]
        _log.debug("%s was ended by an error", self._what, exc_info=error)
        if times.bit_count() == 1:
            explained = error if self._explain and times == 1 and not _of_the_wire(first) else None
            line = "%s was ended by an error, %d times so far: %.300r, at %s"
            _log.error(line, self._what, times, first, place, exc_info=explained)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _of_the_wire(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _WIRE


def _place_of(error: BaseException) -> str:
    """Return the innermost file and line."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "nowhere"
    return f"{'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}"

"""Chance with a seed: Trio shuffles the order of tasks on purpose, here in a repeatable way."""

from __future__ import annotations

import random
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import trio._core._run as trio_run

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Dice(threading.local):
    """Trio's source of randomness, which a thread may replace for its own loop only.

    A sweep may run in a thread beside a loop that draws from the same source.
    """

    def __init__(self, ordinary: random.Random) -> None:
        self.source = ordinary

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let the same seed give the same order of tasks, in loops that this thread runs meanwhile.

    Trio has no public way; this is the one that its integration with Hypothesis uses.
    """
    # Stays on, as it does there: it sorts before it shuffles, and takes away nothing else.
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc]
    if not isinstance(trio_run._r, _Dice):
        trio_run._r = _Dice(trio_run._r)  # type: ignore[assignment]
    dice: Any = trio_run._r
    before, dice.source = dice.source, random.Random(seed)
    try:
        yield
    finally:
        dice.source = before

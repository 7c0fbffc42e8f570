"""How long work learns that nobody waits for it any more."""

from __future__ import annotations

from collections.abc import Callable

# Called between one small piece of work and the next; raises if the work is to end there.
Heed = Callable[[], None]


def heedless() -> None:
    """Go on in any case."""

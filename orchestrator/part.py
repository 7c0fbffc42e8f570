"""What a living run is made of."""

from __future__ import annotations

from typing import Generic, TypeVar
from weakref import ref

Whole = TypeVar("Whole")


class Part(Generic[Whole]):
    """A part of a run, which it knows weakly.

    The run holds its parts. If they held the run too, one that has ended would be freed only when
    the garbage collector next walks through all that lives, and many at once. Whoever may use a
    part after the run has ended, or across an ``await``, holds the run.
    """

    __slots__ = ("_weakly",)

    def __init__(self, run: Whole) -> None:
        self._weakly = ref(run)

    @property
    def _run(self) -> Whole:
        run = self._weakly()
        assert run is not None, "nobody holds the run of this part any more"
        return run

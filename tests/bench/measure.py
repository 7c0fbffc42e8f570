"""How things are measured here: in turns, many times, with the garbage of others taken out.

Machines are noisy, so a subject and its floor take turns, and medians are compared.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much work a benchmark puts in.

    Attributes:
        size: the share of a full benchmark's size.
        turns: the share of its repetitions.
        trace: say also where the memory was allocated.
    """

    size: float = 1.0
    turns: float = 1.0
    trace: bool = False

    def of(self, full: int, least: int = 1) -> int:
        """Return a size: so many in a full benchmark, and never less than ``least``."""
        return max(least, round(full * self.size))

    def times(self, full: int) -> int:
        """Return a number of repetitions: so many in a full benchmark, and at least one."""
        return max(1, round(full * self.turns))


FULL = Effort()
QUICK = Effort(size=0.2, turns=0.4)
# To see that everything works; its figures mean nothing.
SMOKE = Effort(size=0.005, turns=0.0)


async def in_turns(
    times: int, measures: Mapping[str, Callable[[], Awaitable[T]]]
) -> dict[str, list[T]]:
    """Take each measure so many times, one after the other and round again."""
    taken: dict[str, list[T]] = {name: [] for name in measures}
    for _ in range(times):
        for name, measure in measures.items():
            gc.collect()
            taken[name].append(await measure())
    return taken


async def bare_run(scopes: list[trio.CancelScope]) -> None:
    """Do what any idle run must have: a task, a scope that can be cancelled, and a nursery."""
    with trio.CancelScope() as scope:
        scopes.append(scope)
        async with trio.open_nursery():
            await trio.sleep_forever()

"""How to play one round of a sweep again."""

from __future__ import annotations

import os
import shlex
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.model import StopMode

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class StopAt:
    """One round: the mode, the scheduling point, the seed."""

    mode: StopMode
    point: int
    seed: int

    @classmethod
    def parse(cls, text: str) -> StopAt:
        """Read ``mode:point:seed``, as ``str`` writes it.

        Raises:
            ValueError: it is not of that form.
        """
        mode, point, seed = text.split(":")
        return cls(StopMode(mode), int(point), int(seed))

    def __str__(self) -> str:
        return f"{self.mode}:{self.point}:{self.seed}"


# The round that every sweep is to play instead of all, by the option of the pytest plugin.
stop_at: ContextVar[StopAt | None] = ContextVar("quiesce_stop_at", default=None)


def line_for(where: StopAt, agent: str, input: Mapping[str, object]) -> str:
    """Return the line that plays the round again: a command under pytest, else Python."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    if test:
        return f"pytest {shlex.quote(test)} --stop-at={where}"
    given = f"modes=[{str(where.mode)!r}], seed={where.seed}, at={where.point}"
    return f"run_stop_sweep({agent}, {dict(input)!r}, {given})"

"""What agents really did, in their own words and order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is noted: the agent's code, its operations, steps, compensations, and changes of status.
_OF_CODE = {"enter", "exit", "step", "stepped", "had", "asks", "heard"}
_OF_SECTIONS = {"began", "ended", "cut", "critical", "registered", "undo", "undone"}
KINDS = _OF_CODE | _OF_SECTIONS | {"stop", "decided"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened.

    Attributes:
        life: in which life of the orchestrator, from 0.
        where: the place in the agent's program; or a status.
    """

    at: float
    life: int
    kind: str
    run_id: str
    where: str = ""


class Trace:
    """All that happened, and all that was found wrong on the way."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.faults: list[str] = []

    def note(self, life: int, kind: str, run_id: str, where: str = "") -> None:
        """Append an entry. Not a checkpoint."""
        assert kind in KINDS
        self.entries.append(Entry(trio.current_time(), life, kind, run_id, where))

    def fault(self, what: str) -> None:
        """Note what is wrong. Not a checkpoint."""
        self.faults.append(f"{trio.current_time():.6f}: {what}")

    def of(self, run_id: str, *kinds: str) -> list[Entry]:
        """Return the entries of a run."""
        return [e for e in self.entries if e.run_id == run_id and e.kind in kinds]

    def lines(self) -> Iterator[str]:
        """Yield the trace for people."""
        for e in self.entries:
            yield f"{e.at:10.4f} life {e.life} {e.kind:10} {e.run_id[:8]} {e.where}"

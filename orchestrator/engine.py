"""The seam between runs and whatever decides in which process, and when, each of them runs.

Everything that starts, ends, finds or settles a root goes through an ``Engine``. There is one
implementation, for a single process; one for several has the same few things to do:

- a start submits a run, which is then on record, and is claimed when its turn has come;
- a run that ends before it was claimed is withdrawn, any other is finished, and frees its slot;
- commands find the run where it is claimed;
- what no process claims any more is restored, or closed out.

What runs say of themselves does not pass here. It goes by the journal to the store, which never
changes a run that has ended; and is replayed from there. Nothing renews a claim: the store can be
open in one process only, so a claim lasts as long as the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.events import Event
    from orchestrator.model import RunRecord
    from orchestrator.run import Run
    from orchestrator.store.writes import Write


class QueueFigures(NamedTuple):
    """How busy an orchestrator is: root runs with a slot, those that wait for one, and those
    whose time has not come; and how long the one that waits longest has waited, in seconds."""

    running: int
    waiting: int
    delayed: int
    oldest_wait_s: float


class Engine(Protocol):
    """Who runs which root, and when. Nothing here is a checkpoint unless it is ``async``."""

    def submit(self, run: Run, *more: Write) -> None:
        """Put a new root on record, and claim it as soon as it may run.

        Everything that this start does to other runs happens in the same step. The start is
        durable once the run's ticket is.

        Args:
            more: belongs to the start, and is durable with it or not at all.

        Raises:
            QueueFull, KeyConflict: nothing has happened.
        """

    def withdraw(self, run: Run) -> None:
        """A run has ended. If it was not claimed it never will be, and its place is free."""

    def finish(self, run: Run) -> None:
        """The end of a run is durable: it is not live any more, and its slot is free."""

    def find(self, run_id: str) -> Run | None:
        """Return the live run that takes commands under that id, or None."""

    def waits(self, run: Run) -> bool:
        """Return whether the run was not claimed yet."""

    async def left_over(self) -> list[RunRecord]:
        """Return every run that has not ended and that no process claims, oldest first."""

    def restore(self, runs: Sequence[Run]) -> None:
        """Take over roots that were left over: those that had begun are claimed at once, the
        others wait as they did.

        Args:
            runs: oldest first.
        """

    def close_out(self, record: RunRecord, event: Event, *more: Write) -> None:
        """Write the end of a run that was left over, which nobody will ever claim again.

        Args:
            more: belongs to the end.
        """

    def open(self) -> None:
        """Begin to claim runs."""

    def close(self) -> None:
        """Claim nothing any more; what is claimed goes on. May be called twice."""

    def let_go(self) -> None:
        """Forget the runs that were not claimed; they stay on record, and wait."""

"""Pause, resume and step of one run and everything below it.

A pause takes effect where an agent comes by: at the gates of operations and at the checkpoints of
its context. What is in flight finishes, and then the run is ``paused``: nothing of it is in
flight, nothing new starts, and it cannot end either, since its end is a gate too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import IllegalTransition, ParentIsPaused
from orchestrator.events import RunPaused, RunPausing, RunResumed
from orchestrator.lifecycle import Move, advance
from orchestrator.model import RunStatus
from orchestrator.part import Part

if TYPE_CHECKING:
    from orchestrator.run import Run


class Brake(Part["Run"]):
    """How one run is paused. Nothing here is a checkpoint."""

    __slots__ = ()

    def pause(self, requested_by: str, reason: str) -> None:
        """Pause the run and everything below it; see ``Run.request_pause``."""
        advance(self._run.record.status, Move.PAUSE)
        tree = self._run.subtree()
        for run in tree:
            if run.record.status is RunStatus.RUNNING and not run.gate.sheltered:
                run.gate.hold()
                run.ledger.change(Move.PAUSE, RunPausing(requested_by, reason))
        for run in reversed(tree):
            run.brake.settle()

    def resume(self, requested_by: str) -> None:
        """Let the run and everything below it go on; see ``Run.request_resume``."""
        advance(self._run.record.status, Move.RESUME)
        self._refuse_below_a_pause()
        for run in self._run.subtree():
            if run.is_held:
                run.ledger.change(Move.RESUME, RunResumed(requested_by, step=False))
                run.gate.release()
                run.note_activity()

    def step(self, requested_by: str) -> None:
        """Let one task of the tree through its gate; see ``Run.request_step``."""
        if self._run.record.status is not RunStatus.PAUSED:
            raise IllegalTransition(self._run.record.status, "make a step")
        self._refuse_below_a_pause()
        tree = self._run.subtree()
        chosen = next((run for run in tree if run.gate.has_parked), None) or _on_its_way(tree)
        if chosen is None:
            return
        for run in chosen.lineage():
            if run in tree:
                run.ledger.change(Move.RESUME, RunResumed(requested_by, step=True))
                run.ledger.change(Move.PAUSE, RunPausing(requested_by, "a step"))
        chosen.gate.step()

    def follow(self, above: Run) -> None:
        """Take over a pause of the parent's, or of the run itself, that came before it began."""
        if self._run.is_held:
            self._run.gate.hold()
            # What was in flight in the process that is gone is so no more.
            self.settle()
            return
        running = self._run.record.status is RunStatus.RUNNING
        if running and above.is_held and not self._run.gate.sheltered:
            self.pause("", "its parent is paused")

    def settle(self) -> None:
        """Call the run paused once nothing of it is in flight, and then perhaps its parent."""
        run = self._run
        if run.record.status is RunStatus.PAUSING:
            if not run.gate.quiet:
                return
            if any(child.record.status is not RunStatus.PAUSED for child in run.children):
                return
            run.ledger.change(Move.PARK, RunPaused())
        if run.parent is not None:
            run.parent.brake.settle()

    def _refuse_below_a_pause(self) -> None:
        parent = self._run.parent
        if parent is not None and parent.is_held:
            raise ParentIsPaused(self._run.id, parent.id)


def _on_its_way(tree: list[Run]) -> Run | None:
    """Return a run that has not come to its next gate yet; None if all wait for people."""
    leaves = [run for run in tree if not run.children]
    return next((run for run in leaves if run.record.waiting_for is None), None)

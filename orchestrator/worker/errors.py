"""What can go wrong with processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Sequence


class WardenUnavailable(OrchestratorError):
    """Runs cannot have processes of their own here."""


class WorkerNotStarted(OrchestratorError):
    """A worker process could not be started."""


class NotEnded(OrchestratorError):
    """Processes are still there although they were killed: the kernel waits for something."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.pids = tuple(pids)
        listed = ", ".join(map(str, pids))
        super().__init__(
            f"killed, but not gone: {listed}; a process in uninterruptible sleep (state D)"
            " ends when the device or file system that it waits for answers"
        )

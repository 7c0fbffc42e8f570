"""Run id -> live run. Synchronous, so that looking and acting are one step.

An entry is made before the run's first event, and leaves only after its last event is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.run import Run


class Registry:
    """The runs that have not ended, oldest first."""

    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    def add(self, run: Run) -> None:
        """Register a run. Its id is new."""
        assert run.id not in self._runs
        self._runs[run.id] = run

    def remove(self, run: Run) -> None:
        """Take a run out. May be called twice."""
        self._runs.pop(run.id, None)

    def get(self, run_id: str) -> Run | None:
        """Return the live run, or None."""
        return self._runs.get(run_id)

    def roots(self) -> list[Run]:
        """Return the live runs that have no parent, oldest first."""
        return [run for run in self._runs.values() if run.parent is None]

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._runs

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

"""Where a worker runs its agent's code: on its own Trio loop, or outside of that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

import trio

from orchestrator.context import stacks_below
from orchestrator.references import load_reference

if TYPE_CHECKING:
    from orchestrator.agent import Agent
    from orchestrator.stack import TaskStack
    from orchestrator.worker.remote import RemoteRun


class Stage(Protocol):
    """Where a worker runs its agent's code. The async methods are checkpoints."""

    def begin(self, run: RemoteRun) -> None:
        """Take the run, in the task of Trio's that will call the others. Not a checkpoint."""

    def stacks(self) -> list[TaskStack]:
        """Return where the agent's code stands. Not a checkpoint."""

    async def load(self, reference: dict[str, str]) -> Agent:
        """Import the agent."""

    async def call(self, agent: Agent, arguments: dict[str, Any]) -> Any:
        """Call the agent's function and return what it returns."""

    async def close(self) -> None:
        """End what the code has left behind, once nothing of the agent's will be called."""


class OnTrio:
    """The stage of agents that are written for Trio."""

    def begin(self, run: RemoteRun) -> None:
        """Take the run."""
        self._run = run
        self._task = trio.lowlevel.current_task()
        self._pid = os.getpid()

    def stacks(self) -> list[TaskStack]:
        """Return where the tasks of the agent's code stand."""
        return stacks_below(self._task, lambda run: True)

    async def load(self, reference: dict[str, str]) -> Agent:
        """Import the agent."""
        return load_reference(reference)

    async def call(self, agent: Agent, arguments: dict[str, Any]) -> Any:
        """Call the agent's function and return what it returns."""
        try:
            return await agent.function(self._run.context, **arguments)
        finally:
            if os.getpid() != self._pid:
                # A process that the agent's code has forked comes to its end here: it must not
                # say to the orchestrator that the run has.
                os._exit(0)

    async def close(self) -> None:
        """Nothing: Trio has ended it all."""

"""Where a worker runs its agent's code: on its own Trio loop, or outside of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.references import load_reference

if TYPE_CHECKING:
    from orchestrator.agent import Agent
    from orchestrator.worker.remote import RemoteRun


class Stage(Protocol):
    """Where a worker runs its agent's code. All methods but ``begin`` are checkpoints."""

    def begin(self, run: RemoteRun) -> None:
        """Take the run, in Trio. Not a checkpoint."""

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

    async def load(self, reference: dict[str, str]) -> Agent:
        """Import the agent."""
        return load_reference(reference)

    async def call(self, agent: Agent, arguments: dict[str, Any]) -> Any:
        """Call the agent's function and return what it returns."""
        return await agent.function(self._run.context, **arguments)

    async def close(self) -> None:
        """Nothing: Trio has ended it all."""

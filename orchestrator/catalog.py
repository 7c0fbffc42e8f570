"""The agents that an orchestrator knows, by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.agent import Agent
from orchestrator.errors import UnknownAgent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Catalog:
    """Agents by name."""

    def __init__(self, agents: Iterable[Agent] = ()) -> None:
        self._agents: dict[str, Agent] = {}
        for each in agents:
            self.add(each)

    def add(self, agent: Agent) -> None:
        """Register an agent. Adding the same one again does nothing.

        Raises:
            TypeError: it is no agent.
            ValueError: another agent has the name.
        """
        if not isinstance(agent, Agent):
            raise TypeError(f"{agent!r} is no agent; put @agent above the function")
        if self._agents.setdefault(agent.name, agent) is not agent:
            raise ValueError(f"two agents are named {agent.name!r}; give one `@agent(name=...)`")

    def get(self, agent: Agent | str) -> Agent:
        """Return the agent of that name; an ``Agent`` is registered on the way.

        Raises:
            UnknownAgent: nobody has that name.
            TypeError, ValueError: as for ``add``.
        """
        if not isinstance(agent, str):
            self.add(agent)
            return agent
        if agent not in self._agents:
            raise UnknownAgent(agent, list(self._agents))
        return self._agents[agent]

    def __contains__(self, name: str) -> bool:
        return name in self._agents

    def __iter__(self) -> Iterator[Agent]:
        return iter(sorted(self._agents.values(), key=lambda each: each.name))

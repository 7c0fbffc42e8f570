"""What a context sees of its run: as much as it needs, and nothing that it could misuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    import trio

    from orchestrator.agent import Agent
    from orchestrator.events import Payload
    from orchestrator.http import RunClient
    from orchestrator.journal import Journal
    from orchestrator.ledger import Ledger
    from orchestrator.mcp import ToolServer
    from orchestrator.model import Receipt, RunId, RunRecord, Usage
    from orchestrator.operations import Gate
    from orchestrator.questions import Questions
    from orchestrator.sections import Section
    from orchestrator.steps import Steps
    from orchestrator.store.protocol import Store
    from orchestrator.store.writes import Write
    from orchestrator.timers import Timer


class GateOwner(Protocol):
    """What a gate needs of its run."""

    def tell(self, payload: Payload) -> None:
        """Append an event to the feed."""

    def section_ended(self, section: Section, *, cut: bool) -> None:
        """An operation or critical section is over."""

    def operation_refused(self) -> None:
        """An operation was refused since a stop had been asked for."""

    def parked(self) -> None:
        """A task has parked at the gate, since the run is being paused."""


class RunPort(Protocol):
    """What a context needs of its run."""

    gate: Gate
    ledger: Ledger
    questions: Questions
    steps: Steps
    path: str
    has_partial: bool
    nursery: trio.Nursery | None
    servers: set[ToolServer]
    compensations: list[tuple[Callable[..., Any], tuple[Any, ...]]]

    @property
    def id(self) -> RunId: ...
    def lineage(self) -> Iterator[object]: ...
    @property
    def record(self) -> RunRecord: ...
    @property
    def client(self) -> RunClient: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def ticket(self) -> int: ...
    @property
    def store(self) -> Store: ...
    @property
    def cleanup_left_s(self) -> float: ...
    @property
    def deadline(self) -> float: ...
    @property
    def subagents(self) -> SubAgentsPort: ...
    def now(self, seconds: float) -> str: ...
    def parked(self) -> None: ...
    def processes_killed(self, pids: Collection[int]) -> None: ...
    def note_activity(self) -> None: ...
    def spend(self, usage: Usage) -> None: ...
    def find_agent(self, agent: Agent | str) -> Agent: ...
    def timer(self, ring: Callable[[], None]) -> Timer: ...
    def tell(self, payload: Payload, *more: Write) -> None: ...
    def save(self, *, payload: Payload | None = None, **fields: Any) -> None: ...


class SubAgentsPort(Protocol):
    """How a run starts others below it."""

    async def call(self, agent: Agent | str, given: dict[str, Any]) -> Any: ...
    async def map(
        self, agent: Agent | str, inputs: Sequence[Mapping[str, Any]], limit: int | None
    ) -> list[Any]: ...
    async def start(self, agent: Agent | str, given: dict[str, Any]) -> Child: ...
    async def start_detached(self, agent: Agent | str, given: dict[str, Any]) -> RunId: ...


class Child(Protocol):
    """A sub-agent that was started and not waited for."""

    @property
    def id(self) -> RunId:
        """Its run id."""

    async def wait(self) -> Any:
        """Wait for it and return what it returned; may be called many times.

        Raises:
            AgentFailed, AgentStopped: as it ended.
        """

    async def stop(self, *, grace_s: float | None = None, reason: str = "") -> Receipt:
        """Stop it and wait until it is torn down."""

"""A run as its agent's code sees it in a worker process: the same gate and context, at a distance.

What may start is decided by the orchestrator, so that nothing starts after a stop that it has
acknowledged. What is in flight is shielded and cut here, where it is; each side tells the other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import trio
from pydantic import TypeAdapter

from orchestrator.catalog import Catalog
from orchestrator.context import Context
from orchestrator.http import RunClient
from orchestrator.model import RunRecord
from orchestrator.operations import Gate
from orchestrator.sections import Section, current_section
from orchestrator.steps import Steps
from orchestrator.stopping import KILL_S
from orchestrator.timers import Timers
from orchestrator.worker.proxies import (
    RemoteJournal,
    RemoteQuestions,
    RemoteStore,
    RemoteSubAgents,
    pack_write,
)
from orchestrator.worker.wire import inside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from orchestrator.agent import Agent
    from orchestrator.events import Payload
    from orchestrator.mcp import ToolServer
    from orchestrator.model import Usage
    from orchestrator.store.writes import Write
    from orchestrator.timers import Timer
    from orchestrator.worker.wire import Link, Message

_RECORD = TypeAdapter(RunRecord)


class RemoteGate(Gate):
    """The gate of a run whose orchestrator is elsewhere."""

    __slots__ = ("_emptied", "_link")

    def __init__(self, owner: RemoteRun, link: Link) -> None:
        super().__init__(owner)
        self._link = link
        self._emptied = trio.Event()

    async def admit(self, kind: str, label: str) -> None:
        """Pass the gate, there."""
        await self._link.ask("admit", kind=kind, label=label)

    async def enter(self, kind: str, label: str, effect: str = "") -> Section:
        """Pass the gate and begin an operation, there and here."""
        number = await self._link.ask("enter", kind=kind, label=label, effect=effect)
        section = Section(kind, label, number)
        self.sections.add(section)
        if self.closed:
            section.hold(self.until if section.own_bound is None else section.own_bound)
        return section

    def leave(self, section: Section, *, cut: bool, error: str | None) -> None:
        """End an operation, here and there."""
        self._discard(section)
        self._link.tell("leave", number=section.number, cut=cut, error=error)

    def begin(self, kind: str, label: str, holds_s: float | None = None) -> Section:
        """Begin a section that holds a stop back, here and there."""
        around = inside()
        section = super().begin(kind, label, holds_s)
        told = {"number": section.number, "kind": kind, "label": label, "holds_s": holds_s}
        self._link.tell("begin", inside=around, **told)
        return section

    def end(self, section: Section, *, cut: bool) -> None:
        """End such a section, here and there."""
        self._discard(section)
        self._link.tell("end", number=section.number, cut=cut)

    async def park(self, *, gate: bool = False) -> None:
        """Wait while the run is held, there."""
        if self.held and ((section := current_section()) is None or section.parks):
            await self._link.ask("park")

    async def emptied(self) -> None:
        """Wait until nothing is in flight here. A checkpoint only if something is."""
        while self.sections:
            await self._emptied.wait()

    def _discard(self, section: Section) -> None:
        self.sections.discard(section)
        if not self.sections:
            self._emptied.set()
            self._emptied = trio.Event()

    def apply(self, stop: str | None, left_s: float, held: bool) -> None:
        """Take over the state of the gate there."""
        if stop == "kill":
            self.revoke()
        elif stop is not None:
            self.close(trio.current_time() + left_s)
        elif held:
            self.hold()
        else:
            self.release()


class _Cleanup:
    """How long a cleanup step may take; the orchestrator sees to it from outside."""

    def __init__(self, run: RemoteRun) -> None:
        self._run = run

    @property
    def cleanup_s(self) -> float:
        return KILL_S if self._run.killed else self._run.record.options.cleanup_s

    def rearm(self, step_s: float) -> None:
        """Nothing: the section of the step tells."""


@dataclass(frozen=True, slots=True)
class AgentCard:
    """What one must know of an agent to offer it to a model."""

    name: str
    description: str
    input_schema: dict[str, Any]


class RemoteRun:
    """What a context needs of its run (``ports.RunPort``), in the worker."""

    def __init__(self, link: Link, spec: Message) -> None:
        self._link = link
        self._client: RunClient | None = None
        self.record: RunRecord = _RECORD.validate_python(spec["record"])
        self.id = self.record.id
        self.path: str = spec["path"]
        # That of the run: which of its operations makes a request is known there only.
        self._traceparent: str = spec["traceparent"]
        self.agent: Agent | None = None
        self.catalog = Catalog()
        self._cards = {card["name"]: AgentCard(**card) for card in spec["agents"]}
        self.gate = RemoteGate(self, link)
        self.journal = RemoteJournal(link)
        self.store = RemoteStore(link)
        self.questions = RemoteQuestions(link)
        self.subagents = RemoteSubAgents(link)
        self.steps = Steps(self.record.root_id, self.store, fresh=False)  # type: ignore[arg-type]  # the reads that steps need
        self.timers = Timers()
        self.ladder = _Cleanup(self)
        self.scope = trio.CancelScope()
        self.context = Context(self)  # type: ignore[arg-type]  # a run at a distance
        self.nursery: trio.Nursery | None = None
        self.servers: set[ToolServer] = set()
        self.compensations: _Compensations = _Compensations(link)
        self.compensated = False
        self.has_partial = False
        self.killed = False
        self.why_stopped = ""
        self.deadline = inf
        self.ticket = 0

    @property
    def client(self) -> RunClient:
        """The run's own HTTP client, here."""
        if self._client is None:
            assert self.agent is not None
            self._client = RunClient(
                self.gate, self.agent.http_concurrency, traceparent=lambda: self._traceparent
            )
        return self._client

    def take_client(self) -> RunClient | None:
        """Take the HTTP client away to close it, if the run ever needed one."""
        client, self._client = self._client, None
        return client

    @property
    def cleanup_left_s(self) -> float:
        """How long the agent's own cleanup may take."""
        return self.ladder.cleanup_s

    def apply(self, state: Message) -> None:
        """Take over what the orchestrator has decided."""
        self.killed = state["stop"] == "kill"
        left_s = state["deadline_s"]
        self.deadline = inf if left_s is None else trio.current_time() + left_s
        self.gate.apply(state["stop"], state["left_s"], state["held"])
        if state["stop"] is not None:
            self.why_stopped = state["reason"]
            self.scope.cancel(reason=self.why_stopped)

    def last_warning(self) -> None:
        """A SIGTERM has come, and a SIGKILL comes next."""
        if self.killed:
            # That was said before, and what has begun since then may have its time.
            return
        self.killed = True
        self.gate.revoke()
        self.scope.cancel(reason="SIGTERM")

    def now(self, seconds: float) -> str:
        """The wall clock is the orchestrator's."""
        raise NotImplementedError("questions are asked by the orchestrator")

    def timer(self, ring: Callable[[], None]) -> Timer:
        """Return a timer that is not set yet."""
        return self.timers.timer(ring)

    def lineage(self) -> Iterator[RemoteRun]:
        """Yield the run; those above it are elsewhere."""
        yield self

    def stopping_lineage(self) -> list[RemoteRun]:
        """Return nothing: receipts are written elsewhere."""
        return []

    def find_agent(self, agent: Agent | str) -> Agent | AgentCard:
        """Return an agent by its name, or what the orchestrator said of it."""
        if isinstance(agent, str) and agent in self._cards and agent not in self.catalog:
            return self._cards[agent]
        return self.catalog.get(agent)

    def tell(self, payload: Payload, *more: Write) -> None:
        """Append an event to the feed."""
        writes = [pack_write(write) for write in more]
        self._link.tell("tell", type=payload.type, data=payload.data(), writes=writes)

    def save(self, *, payload: Payload | None = None, **fields: Any) -> None:
        """Change fields of the record: the progress."""
        assert payload is not None
        assert set(fields) == {"progress"}
        self._link.tell("progress", type=payload.type, data=payload.data())

    def spend(self, usage: Usage) -> None:
        """Count what was spent on a model."""
        self._link.tell("spend", usage=asdict(usage))

    def parked(self) -> None:
        """Nothing: tasks park there."""

    def note_activity(self) -> None:
        """Nothing: whatever is told is activity."""

    def section_ended(self, section: Section, *, cut: bool) -> None:
        """Tell how many compensations are left; of all else the gate tells."""
        if section.kind == "compensation":
            self.compensations.tell()

    def operation_refused(self) -> None:
        """A critical section was refused here."""
        self._link.tell("refused")

    def processes_killed(self, pids: Collection[int]) -> None:
        """Processes that the agent's code had started were killed."""
        self._link.tell("processes_killed", pids=list(pids))

    def client_closed(self) -> None:
        """The HTTP client is closed."""
        self._link.tell("client_closed")

    def cleanup_failed(self, what: str) -> None:
        """Note a cleanup step that failed on the receipts that it belongs to."""
        self._link.tell("cleanup_failed", what=what)


class _Compensations(list[tuple["Callable[..., Any]", tuple[Any, ...]]]):
    """The compensations; the orchestrator knows how many there are, should the worker die."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def append(self, each: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
        super().append(each)
        self.tell()

    def tell(self) -> None:
        """Tell how many there are; one that is taken out is not done before it has ended."""
        self._link.tell("compensations", count=len(self))

"""The living run: its place in the tree, and what others may ask of it.

It holds the parts together: the ``ledger`` (what is decided and what is durable), the ``gate``
of its operations, the ``ladder`` that stops it, its ``limits``, its ``subagents``. How its agent
is executed stands in ``supervise``.
"""

from __future__ import annotations

from dataclasses import fields
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.context import Context
from orchestrator.events import RunQueued
from orchestrator.feed import Feed
from orchestrator.handle import Handle
from orchestrator.http import RunClient
from orchestrator.ladder import Ladder
from orchestrator.ledger import Ledger
from orchestrator.lifecycle import Move, advance
from orchestrator.limits import Limits
from orchestrator.model import Usage
from orchestrator.operations import Gate
from orchestrator.pausing import Brake
from orchestrator.questions import Questions
from orchestrator.steps import Steps
from orchestrator.stopping import discards, ending_of, outcome_of
from orchestrator.store.writes import Discard
from orchestrator.subagents import SubAgents
from orchestrator.supervise import begin, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from orchestrator.agent import Agent
    from orchestrator.events import Payload
    from orchestrator.journal import Journal
    from orchestrator.mcp import ToolServer
    from orchestrator.model import RunError, RunId, RunRecord, Standing
    from orchestrator.sections import Section
    from orchestrator.services import Services
    from orchestrator.store.protocol import Store
    from orchestrator.store.writes import Write
    from orchestrator.timers import Timer
    from orchestrator.worker.driver import Worker


class Run(Handle):
    """A live run; also the handle that starters and embedders hold.

    Attributes:
        children: sub-agents that have not ended.
        exited: set when the run's task has left it, whatever became of the run.
        ended: set once the final event is durable and the run has left the registry; or once the
            orchestrator is closed, and leaves a run that never began to the next one.
    """

    def __init__(
        self,
        services: Services,
        agent: Agent,
        arguments: dict[str, Any],
        record: RunRecord,
        *,
        parent: Run | None = None,
        feed: Feed | None = None,
    ) -> None:
        self.services = services
        self.agent = agent
        self.arguments = arguments
        self.parent = parent
        self.children: set[Run] = set()
        self.detached: list[RunId] = []
        self.feed: Feed = parent.feed if parent is not None else feed or Feed(record.id)
        self.limits = Limits(self)
        self.ledger = Ledger(services, record, self.feed, self.limits.note_activity)
        self.gate = Gate(self)
        self.brake = Brake(self)
        self.questions = Questions(self)
        # A tree's steps are in one book, since its sub-agents get other ids when it starts again.
        fresh = record.attempt == 1 and record.rerun_of is None
        self.steps: Steps = (
            parent.steps if parent is not None else Steps(record.id, services.store, fresh=fresh)
        )
        self.path: str = (
            "" if parent is None else self.steps.child_path(parent.path, agent.name, record.input)
        )
        self.ladder = Ladder(self)
        self.scope = trio.CancelScope()
        self.exited, self.ended = trio.Event(), trio.Event()
        self.value: Any = None
        self.failure: BaseException | None = None
        self.compensations: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.compensated = False
        self.has_partial = False
        self.worker: Worker | None = None
        # Compensations that wait in the run's process.
        self.remote_compensations = 0
        self.nursery: trio.Nursery | None = None
        self.servers: set[ToolServer] = set()
        self.task: trio.lowlevel.Task | None = None
        self._client: RunClient | None = None
        self._context: Context | None = None
        self.subagents = SubAgents(self)

    # What it is

    @property
    def context(self) -> Context:
        """What its code has of the run, and holds it by. The run lets go of it at its exit."""
        if self._context is None:
            self._context = Context(self)
        return self._context

    @property
    def client(self) -> RunClient:
        """The run's own HTTP client, made when it is first needed."""
        if self._client is None:
            self._client = RunClient(
                self.gate,
                self.agent.http_concurrency,
                self.services.transport,
                traceparent=self.traceparent,
            )
        return self._client

    def take_client(self) -> RunClient | None:
        """Take the HTTP client away to close it, if the run ever needed one."""
        client, self._client = self._client, None
        return client

    @property
    def journal(self) -> Journal:
        """Where the run's events go."""
        return self.services.journal

    @property
    def store(self) -> Store:
        """What is durable, for reads."""
        return self.services.store

    def now(self, seconds: float) -> str:
        """The wall clock, so many seconds from now."""
        return self.services.now(seconds)

    def find_agent(self, agent: Agent | str) -> Agent:
        """Return an agent by its name; see ``Catalog.get``."""
        return self.services.catalog.get(agent)

    @property
    def cleanup_left_s(self) -> float:
        """How long the agent's own cleanup may still take."""
        return self.ladder.cleanup_left_s

    @property
    def deadline(self) -> float:
        """When the deadline is, on Trio's clock; ``inf`` for never."""
        return self.limits.deadline

    def timer(self, ring: Callable[[], None]) -> Timer:
        """Return a timer that is not set yet."""
        return self.services.timers.timer(ring)

    def lineage(self) -> Iterator[Run]:
        """Yield the run, its parent, and so on up to the root."""
        run: Run | None = self
        while run is not None:
            yield run
            run = run.parent

    def stopping_lineage(self) -> list[Run]:
        """Return those of the lineage for which a stop was asked."""
        return [run for run in self.lineage() if run.ladder.stop is not None]

    def subtree(self) -> list[Run]:
        """Return the run and everything live below it, parents before children."""
        found = [self]
        for run in found:
            found.extend(run.children)
        return found

    # How it changes

    def tell(self, payload: Payload, *more: Write) -> None:
        """Append an event to the feed. Refused, silently, once the run has ended."""
        self.ledger.tell(payload, *more)

    def save(self, *, payload: Payload | None = None, **fields: Any) -> None:
        """Change fields of the record, with an event if there is one."""
        self.ledger.save(payload=payload, **fields)

    def enqueue(self, *more: Write, turn: int = 0) -> None:
        """Register the run and write its first event, and more that belongs to it.

        Args:
            turn: of a root, its turn in the queue.
        """
        self.services.registry.add(self)
        if self.parent is not None:
            self.parent.children.add(self)
        self.ledger.begin(RunQueued(self.agent.name, self.record.parent_id), *more, turn=turn)

    def note_activity(self) -> None:
        """Something happened in the run, and so in those above it."""
        self.limits.note_activity()

    def end(
        self,
        move: Move,
        *,
        error: RunError | None = None,
        still_running: tuple[Standing, ...] = (),
    ) -> None:
        """Write the run's last status and event, once; whoever comes later changes nothing.

        Args:
            error: what the agent raised; it goes onto the receipt if the run was being stopped.
        """
        if self.record.status.is_terminal:
            return
        self._close_gate(move)
        if move is Move.ABANDON and self._client is not None:
            # It was closed from outside.
            self.client_closed()
        status, at = advance(self.record.status, move), self.services.now(0)
        stop, receipt = self.ladder.stop, None
        if stop is not None:
            receipt = stop.receipt(
                outcome_of(status), settled_at=at, error=error, still_running=still_running
            )
        self.ladder.disarm()
        self.limits.disarm()
        gone = receipt is not None and discards(receipt) and move is not Move.SUCCEED
        self.ledger.close(
            ending_of,
            self.leave,
            *([Discard(self.id)] if gone else []),
            status=status,
            ended_at=at,
            result=self.value if move is Move.SUCCEED else None,
            error=error if stop is None else None,
            stop=receipt,
            waiting_for=None,
        )
        if move is Move.ABANDON and not self.exited.is_set():
            self.services.stuck.add(self)
        if self.parent is None:
            self.services.engine.withdraw(self)
        else:
            self.parent.children.discard(self)
            self.parent.ladder.child_ended()
            self.parent.brake.settle()

    def _close_gate(self, move: Move) -> None:
        """Let whoever has kept the context, a thread for instance, start nothing with it any more,
        and cut what it has in flight; a critical section may only come to its end."""
        self.gate.close(-inf)
        # Abandoned code is told of as it stands.
        left = [] if move is Move.ABANDON else [*self.gate.sections]
        for section in left:
            section.open = False
            if not section.holds:
                section.hold(-inf)
                self.gate.leave(section, cut=True, error=None)

    def spend(self, usage: Usage) -> None:
        """Count what was spent on a model, for the run and those above it."""
        for run in self.lineage():
            spent = {
                each.name: getattr(run.record.usage, each.name) + getattr(usage, each.name)
                for each in fields(usage)
            }
            run.ledger.save(usage=Usage(**spent))

    def exit(self) -> None:
        """Note that no code of the run stands any more, if ever it did. May be called twice."""
        self.exited.set()
        self._context = None
        self.compensations.clear()
        self.services.stuck.discard(self)

    def parked(self) -> None:
        """A task waits where a pause takes effect (the gate's report)."""
        self.brake.settle()

    def cleanup_failed(self, what: str) -> None:
        """Note a cleanup step that failed on the receipts that it belongs to."""
        for run in self.stopping_lineage():
            run.ladder.account.cleanup_errors.append(
                what if run is self else f"{self.agent.name} {self.id}: {what}"
            )

    def client_closed(self) -> None:
        """The HTTP client of the run's code was closed: it stands on the receipts."""
        for run in self.stopping_lineage():
            run.ladder.account.clients_closed += 1

    def processes_killed(self, pids: Collection[int]) -> None:
        """Processes that the run's code had started were killed: it stands on the receipts."""
        for run in self.stopping_lineage():
            run.ladder.account.note_killed(pids)

    def leave(self) -> None:
        """Leave the registry: the last event is stored. May be called twice."""
        self.services.engine.finish(self)
        self.ended.set()

    def claim(self) -> None:
        """Let a root begin, as an engine decides: it is ``running`` in this very step."""
        begin(self)
        self.services.spawn(supervise, self)

    def hang_up(self) -> None:
        """Close the run's sockets from outside. Not a checkpoint."""
        if self._client is not None:
            self._client.sever()

    def section_ended(self, section: Section, *, cut: bool) -> None:
        """An operation or critical section is over (the gate's report)."""
        self.ladder.section_ended(section, cut=cut)
        self.brake.settle()

    def operation_refused(self) -> None:
        """An operation was refused (the gate's report)."""
        for run in self.stopping_lineage():
            run.ladder.account.refused += 1

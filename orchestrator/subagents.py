"""A run's sub-agents: runs of their own, whose nurseries are nested in their parent's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from orchestrator.agent import named_values
from orchestrator.errors import AgentFailed, AgentStopped, OrchestratorError, check_count
from orchestrator.faults import check_list
from orchestrator.model import RunRecord, RunStatus, StopSource
from orchestrator.part import Part
from orchestrator.sections import forbid_inside_operation, outside_sections
from orchestrator.supervise import supervise
from orchestrator.trace import called_from

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from orchestrator.agent import Agent
    from orchestrator.model import Receipt, RunId
    from orchestrator.run import Run


class SubAgents(Part["Run"]):
    """How one run starts others below it."""

    __slots__ = ()

    async def _make(self, agent: Agent | str, given: dict[str, Any]) -> Run:
        """Pass the gate and make a sub-agent's run, to be enqueued in this step. A checkpoint.

        Raises:
            OperationRefused: a stop was asked for, where ``Cancelled`` cannot arrive.
            OperationsAreLeaves: the code at hand runs in an operation.
            InvalidInput, UnknownAgent: as for ``Orchestrator.start``.
        """
        agent = self._run.services.catalog.get(agent)
        forbid_inside_operation(f"sub-agent {agent.name}")
        arguments, given = agent.parse(given, self._run.services.catalog)
        await self._run.gate.admit("agent", agent.name)
        record = RunRecord(
            id=self._run.services.new_id(),
            agent=agent.name,
            root_id=self._run.record.root_id,
            parent_id=self._run.id,
            status=RunStatus.QUEUED,
            created_at=self._run.services.now(0),
            owner=self._run.record.owner,
            input=given,
            options=agent.options,
            node=self._run.record.node,
            traceparent=self._run.record.traceparent,
        )
        return type(self._run)(self._run.services, agent, arguments, record, parent=self._run)

    async def call(self, agent: Agent | str, given: dict[str, Any]) -> Any:
        """Run a sub-agent in the calling task; see ``Context.call``."""
        child = await self._make(agent, given)
        child.enqueue()
        await supervise(child)
        return outcome_of(child)

    async def map(
        self, agent: Agent | str, inputs: Sequence[Mapping[str, Any]], limit: int | None
    ) -> list[Any]:
        """Run a sub-agent for each input; see ``Context.map``."""
        return await map_calls(self.call, agent, inputs, limit)

    async def start(self, agent: Agent | str, given: dict[str, Any]) -> StartedChild:
        """Start a sub-agent in a task of its own; see ``Context.start``."""
        ended = OrchestratorError("the agent's code has ended; use ctx.call in a compensation")
        nursery = self._run.nursery
        if nursery is None:
            raise ended
        child = await self._make(agent, given)
        try:
            outside_sections(nursery.start_soon, supervise, child)
        except RuntimeError:
            # The code has ended meanwhile; so the child is on record only after this.
            raise ended from None
        child.enqueue()
        return StartedChild(child)

    async def start_detached(self, agent: Agent | str, given: dict[str, Any]) -> RunId:
        """Start a root run that a stop of this tree does not touch."""
        forbid_inside_operation("a detached run")
        agent = self._run.services.catalog.get(agent)
        await self._run.gate.admit("agent", agent.name)
        services = self._run.services
        with called_from(self._run.traceparent()):
            run = services.admit(agent, given, owner=self._run.record.owner)
        # Before the wait: a stop that comes during it must have the id on its receipt.
        for each in self._run.lineage():
            each.detached.append(run.id)
        await services.journal.durable(run.ticket)
        return run.id


async def map_calls(
    call: Callable[[Agent | str, dict[str, Any]], Awaitable[Any]],
    agent: Agent | str,
    inputs: Sequence[Mapping[str, Any]],
    limit: int | None,
) -> list[Any]:
    """Call a sub-agent for each input, at most so many at once; see ``Context.map``.

    Raises:
        InvalidInput: the limit is no number of sub-agents, the inputs are no list, or one of them
            is no object.
    """
    check_count("limit", limit, least=1)
    inputs = check_list("inputs", inputs)
    results: list[Any] = [None] * len(inputs)
    failures: list[Exception] = []
    waiting = iter(enumerate(inputs))

    async def work() -> None:
        for index, given in waiting:
            try:
                results[index] = await call(agent, named_values(given, f"inputs.{index}"))
            except Exception as error:
                failures.append(error)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(min(limit or len(inputs), len(inputs))):
            nursery.start_soon(work)
    if failures:
        raise failures[0]
    return results


class StartedChild:
    """A sub-agent that was started and not waited for."""

    def __init__(self, run: Run) -> None:
        self._run = run

    @property
    def id(self) -> RunId:
        """Its run id."""
        return self._run.id

    async def wait(self) -> Any:
        """Wait for it and return what it returned; may be called many times. A checkpoint.

        Raises:
            AgentFailed, AgentStopped: as it ended.
        """
        await self._run.ended.wait()
        return outcome_of(self._run)

    async def stop(self, *, grace_s: float | None = None, reason: str = "") -> Receipt:
        """Stop it, and return the receipt once it is torn down.

        Raises:
            RunEnded: it has ended without a stop.
        """
        return await self._run.stop(grace_s=grace_s, reason=reason, source=StopSource.PARENT)


def outcome_of(child: Run) -> Any:
    """Return what a sub-agent returned, once it has ended.

    Raises:
        AgentFailed: it raised.
        AgentStopped: it was stopped.
    """
    record = child.record
    match record.status:
        case RunStatus.SUCCEEDED:
            return child.value
        case RunStatus.FAILED:
            assert record.error is not None
            raise AgentFailed(record.agent, record.id, record.error) from child.failure
        case _:
            assert record.stop is not None
            raise AgentStopped(record.agent, record.id, record.stop)

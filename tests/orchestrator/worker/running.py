"""Runs in real processes, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator import RunStatus, StopOutcome

if TYPE_CHECKING:
    from orchestrator import Agent, Orchestrator, Receipt, Run

BOUND_S = 60


async def begun(
    orchestrator: Orchestrator, agent: Agent, given: dict[str, Any], **options: Any
) -> Run:
    """Start a run and wait until it has logged ``ready``."""
    run = await orchestrator.start(agent, given, options=options)
    async for event in await orchestrator.events(run.id):
        if event.type == "run.log" and event.data["message"] == "ready":
            return run
    raise AssertionError(f"it has ended: {run.record}")


async def stopped(run: Run, **asked: Any) -> Receipt:
    """Stop a run, which must be stopped then, with nothing left."""
    receipt = await run.stop(**asked)
    assert (run.status, receipt.outcome) == (RunStatus.STOPPED, StopOutcome.STOPPED), run.record
    assert receipt.still_running == ()
    return receipt


async def messages(orchestrator: Orchestrator, run: Run) -> list[str]:
    """Return what the run has logged itself."""
    found = await orchestrator.store.events(run.id, after=0, limit=1000)
    return [e.data["message"] for e in found if e.type == "run.log" and e.run_id == run.id]


async def types(orchestrator: Orchestrator, run: Run) -> list[str]:
    """Return the types of the run's own events."""
    found = await orchestrator.store.events(run.id, after=0, limit=1000)
    return [event.type for event in found if event.run_id == run.id]

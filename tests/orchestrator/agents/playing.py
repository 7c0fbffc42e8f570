"""Playbooks for tests: written as steps, and played in virtual time or to their end."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Any

from orchestrator.agents.playbook import playbook

if TYPE_CHECKING:
    from orchestrator import Orchestrator, Run, RunRecord


def book(steps: str, before: str = "", after: str = "") -> str:
    """Return a playbook with these steps, and more before and after them."""
    return f"name: test\n{dedent(before)}steps:\n{dedent(steps)}\n{dedent(after)}"


async def started(orchestrator: Orchestrator, steps: str, **options: Any) -> Run:
    """Start a playbook of these steps."""
    return await orchestrator.start(playbook, {"playbook": book(steps)}, options=options)


async def played(orchestrator: Orchestrator, steps: str) -> RunRecord:
    """Play these steps to the end."""
    return await (await started(orchestrator, steps)).wait()


async def outputs(orchestrator: Orchestrator, steps: str) -> dict[str, Any]:
    """Play these steps, and return what they put out."""
    record = await played(orchestrator, steps)
    assert record.error is None, record.error.message
    found: dict[str, Any] = record.result["steps"]
    return found


async def steps_done(orchestrator: Orchestrator, run: Run) -> list[tuple[str, bool]]:
    """Return the names of the durable steps that a run has finished, and whether from before."""
    events = [e async for e in await orchestrator.events(run.id, follow=False)]
    return [(e.data["name"], e.data["reused"]) for e in events if e.type == "step.finished"]

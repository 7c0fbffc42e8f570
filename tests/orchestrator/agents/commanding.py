"""Commands for tests: run to their end, in bounded time, and looked for in /proc."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.agents.command import command
from orchestrator.procfs import look_at, pids

if TYPE_CHECKING:
    from orchestrator import Orchestrator, Run, RunRecord

BOUND_S = 30


async def finished(
    orchestrator: Orchestrator, *argv: str, isolation: str = "task", **input: Any
) -> RunRecord:
    """Run a command to its end."""
    with trio.fail_after(BOUND_S):
        options = {"isolation": isolation, "cleanup_s": input.pop("cleanup_s", 5)}
        run = await orchestrator.start(command, {"argv": argv, **input}, options=options)
        return await run.wait()


async def begun(
    orchestrator: Orchestrator,
    script: str,
    shell: str = "sh",
    *,
    isolation: str = "task",
    **options: Any,
) -> Run:
    """Start a script of a shell, and wait until it has said ``ready``."""
    with trio.fail_after(BOUND_S):
        options |= {"isolation": isolation}
        run = await orchestrator.start(command, {"argv": [shell, "-c", script]}, options=options)
        async for event in await orchestrator.events(run.id):
            if event.type == "run.log" and event.data["message"] == "ready":
                return run
    raise AssertionError(f"it has ended: {run.record}")


async def told(orchestrator: Orchestrator, run_id: Any, kind: str) -> list[dict[str, Any]]:
    """Return the data of a run's events of that type."""
    return [e.data async for e in await orchestrator.events(run_id) if e.type == kind]


async def lines(orchestrator: Orchestrator, run_id: Any) -> list[tuple[str, str]]:
    """Return the level and message of what a run has logged."""
    return [(d["level"], d["message"]) for d in await told(orchestrator, run_id, "run.log")]


def alive(run_id: str) -> list[int]:
    """Return the processes of a command that have not ended, those in other sessions too."""
    mark = f"QUIESCE_RUN_ID={run_id}".encode()
    found = []
    for pid in pids():
        with suppress(OSError):
            seen = look_at(pid)
            if seen is None or seen.ended:
                continue
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found

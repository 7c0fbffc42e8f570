"""However code ends, its run does, and says so."""

from __future__ import annotations

import sys

import pytest
import trio

from orchestrator import Agent, Orchestrator, RunStatus
from orchestrator.supervise import MESSAGE, TRACEBACK
from tests.orchestrator.worker import odd
from tests.orchestrator.worker.running import BOUND_S

AGENTS = (odd.plain, odd.on_asyncio, odd.on_trio)

# What such an end comes to: the type of the error, and how its words end.
FAILURES = {
    "leaving": ("Leaving", "(it cannot be put into words)"),
    "no text": ("ValueError", odd.NO_TEXT),
    "long": ("ValueError", "x…"),
    "deep": ("ValueError", "number 999"),
}


@pytest.mark.slow
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
async def test_however_it_ends(orchestrator: Orchestrator, agent: Agent) -> None:
    with trio.fail_after(BOUND_S):
        for how, (kind, words) in FAILURES.items():
            record = await (await orchestrator.start(agent, {"how": how})).wait()
            assert record.error is not None, how
            assert (record.status, record.error.type) == (RunStatus.FAILED, kind), how
            assert record.error.message.endswith(words), how
            assert len(record.error.message) <= MESSAGE + 1
            assert len(record.error.traceback) <= TRACEBACK + 1
        for how in ("forks", "forks and exits", "returns"):
            record = await (await orchestrator.start(agent, {"how": how})).wait()
            assert (record.status, record.result) == (RunStatus.SUCCEEDED, odd.NO_TEXT), how


async def test_an_error_that_cannot_be_printed(orchestrator: Orchestrator) -> None:
    """It must not leave the loop of its worker corrupt."""
    with trio.fail_after(BOUND_S):
        runs = [await orchestrator.start(each, {"how": "mute"}) for each in AGENTS]
        for run in runs:
            record = await run.wait()
            assert record.error is not None
            assert record.status is RunStatus.FAILED
            # asyncio put it into words itself, and raised what came of that.
            expected = ("RuntimeError", "Mute (it cannot be put into words)")
            if run.agent is odd.on_asyncio and sys.version_info < (3, 13):
                expected = ("LookupError", "no words")
            assert (record.error.type, record.error.message) == expected

"""What workers print becomes log lines, at a pace that the orchestrator can bear."""

from __future__ import annotations

import pytest
import trio

from orchestrator import Orchestrator, RunStatus
from orchestrator.worker.driver import BURST
from tests.orchestrator.worker.printing import endless, flooding
from tests.orchestrator.worker.running import BOUND_S, begun, stopped

LINES = 200_000


async def said(orchestrator: Orchestrator, run_id: str) -> list[tuple[str, str]]:
    """Return the level and message of all that was logged."""
    events = await orchestrator.events(run_id)
    return [(e.data["level"], e.data["message"]) async for e in events if e.type == "run.log"]


@pytest.mark.slow
async def test_of_a_flood_the_beginning_is_told_and_the_rest_is_counted(
    orchestrator: Orchestrator,
) -> None:
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(flooding, {"lines": LINES})
        record = await run.wait()
        assert (record.status, record.result) == (RunStatus.SUCCEEDED, LINES)
        told = await said(orchestrator, run.id)
        gaps = [text for level, text in told if text.endswith("left out here: they came too fast")]
        assert gaps
        ordinary = len(told) - len(gaps)
        # As many as may be told at once, and what came to that in the meantime.
        assert BURST <= ordinary < 2 * BURST
        assert ordinary + sum(int(gap.split()[0]) for gap in gaps) == 2 * LINES + 1
        assert {level for level, text in told if text == "x"} == {"info", "warning"}


@pytest.mark.slow
@pytest.mark.parametrize(("what", "told"), [("x\n", BURST), ("no end of it", BURST // 33)])
async def test_one_that_prints_for_ever_can_be_stopped(
    orchestrator: Orchestrator, what: str, told: int
) -> None:
    with trio.fail_after(BOUND_S):
        run = await begun(orchestrator, endless, {"what": what})
        while not await orchestrator.store.events(run.id, after=told, limit=1):
            await trio.sleep(0.02)
        receipt = await stopped(run, reason="enough")
        assert receipt.processes_killed == 0
        events = await orchestrator.store.events(run.id, after=told, limit=1000)
        said = [event.data["message"] for event in events if event.type == "run.log"]
        assert any(text.endswith("left out here: they came too fast") for text in said)

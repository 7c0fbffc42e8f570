"""Runs need nothing of an engine but its protocol: here is another one, which claims by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from trio.testing import wait_all_tasks_blocked

from orchestrator import Context, Orchestrator, RunStatus, agent
from orchestrator.testing import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from orchestrator import Event, Run, RunRecord
    from orchestrator.engine import Engine
    from orchestrator.store.writes import Write


@agent
async def nap(ctx: Context) -> str:
    """Sleep."""
    await ctx.sleep(10)
    return "rested"


class ByHand:
    """An engine whose runs wait until somebody claims them; it notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.waiting: dict[str, Run] = {}
        self.live: dict[str, Run] = {}

    def claim(self, run: Run) -> None:
        """Let the run begin."""
        del self.waiting[run.id]
        run.claim()

    def submit(self, run: Run, *more: Write) -> None:
        self.asked.append("submit")
        self.waiting[run.id] = self.live[run.id] = run
        run.enqueue(*more)

    def withdraw(self, run: Run) -> None:
        self.asked.append("withdraw")
        if self.waiting.pop(run.id, None) is not None:
            run.exited.set()

    def finish(self, run: Run) -> None:
        self.asked.append("finish")
        run.services.registry.remove(run)
        del self.live[run.id]

    def find(self, run_id: str) -> Run | None:
        return self.live.get(run_id)

    def waits(self, run: Run) -> bool:
        return run.id in self.waiting

    async def left_over(self) -> list[RunRecord]:
        raise NotImplementedError

    def restore(self, runs: Sequence[Run]) -> None:
        raise NotImplementedError

    def close_out(self, record: RunRecord, event: Event, *more: Write) -> None:
        raise NotImplementedError

    def open(self) -> None: ...
    def close(self) -> None: ...
    def let_go(self) -> None: ...


@pytest.fixture
def engine(orchestrator: Orchestrator) -> ByHand:
    """The engine of the orchestrator, in place of its own."""
    by_hand = ByHand()
    checked: Engine = by_hand
    orchestrator._services = replace(orchestrator._services, engine=checked)
    return by_hand


async def test_a_run_lives_by_the_protocol(
    orchestrator: Orchestrator, engine: ByHand, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(nap)
    await wait_all_tasks_blocked()
    assert run.status == RunStatus.QUEUED
    assert orchestrator.live(run.id) is run
    engine.claim(run)
    assert (await run.wait()).result == "rested"
    assert orchestrator.live(run.id) is None
    assert engine.asked == ["submit", "withdraw", "finish"]


async def test_a_stop_comes_before_the_claim_and_after_it(
    orchestrator: Orchestrator, engine: ByHand, autojump_clock: MockClock
) -> None:
    first, second = await orchestrator.start(nap), await orchestrator.start(nap)
    engine.claim(second)
    await until(second, "running")
    for run in (first, second):
        await run.stop()
        assert run.record.status is RunStatus.STOPPED
        assert run.exited.is_set()
    assert engine.live == engine.waiting == {}
    assert first.record.started_at is None
    assert second.record.started_at is not None

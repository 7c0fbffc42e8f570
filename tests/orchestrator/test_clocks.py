"""The wall clock is set while things are under way: nothing happens early, late, twice or never.

Durations are those of Trio's clock; the wall clock only says what stands in records.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, Orchestrator, RunStatus, StopOutcome, agent, open_orchestrator
from orchestrator.schedules.schedule import stamp_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

HOUR_S = 3600.0
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Wall:
    """The wall clock, which goes on with Trio's and may be set."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self, seconds: float) -> str:
        """The time so many seconds from now."""
        return stamp_of(BEGIN + timedelta(seconds=trio.current_time() + self.ahead_s + seconds))


@pytest.fixture(params=[HOUR_S, -HOUR_S], ids=["forward", "back"])
def jump_s(request: pytest.FixtureRequest) -> float:
    """By how much the wall clock is set."""
    jump_s: float = request.param
    return jump_s


@pytest.fixture
def wall() -> Wall:
    """The wall clock of ``clocked``."""
    return Wall()


@pytest.fixture
async def clocked(wall: Wall) -> AsyncIterator[Orchestrator]:
    """An orchestrator that runs one run at a time, by that clock."""
    async with open_orchestrator(agents=[nap], now=wall.now, max_running=1) as opened:
        yield opened


@agent
async def nap(ctx: Context, seconds: float = 1) -> None:
    """Sleep."""
    await ctx.sleep(seconds)


async def ends_after(run: Any) -> tuple[RunStatus, float]:
    """Wait for the end of a run, and return its status and the time on Trio's clock."""
    record = await run.wait()
    return record.status, round(trio.current_time(), 3)


async def test_a_deadline(
    clocked: Orchestrator, autojump_clock: MockClock, wall: Wall, jump_s: float
) -> None:
    run = await clocked.start(nap, {"seconds": 1000}, deadline_s=60)
    await trio.sleep(30)
    wall.ahead_s = jump_s
    assert await ends_after(run) == (RunStatus.TIMED_OUT, 60)


async def test_a_deadline_that_was_moved(
    clocked: Orchestrator, autojump_clock: MockClock, wall: Wall, jump_s: float
) -> None:
    run = await clocked.start(nap, {"seconds": 1000}, deadline_s=60)
    await trio.sleep(30)
    wall.ahead_s = jump_s
    run.move_deadline(100)
    wall.ahead_s = 0
    assert await ends_after(run) == (RunStatus.TIMED_OUT, 130)


async def test_a_deadline_that_was_moved_before_the_start(
    clocked: Orchestrator, autojump_clock: MockClock, wall: Wall, jump_s: float
) -> None:
    first = await clocked.start(nap, {"seconds": 20})
    run = await clocked.start(nap, {"seconds": 1000})
    run.move_deadline(60)
    await trio.sleep(10)
    wall.ahead_s = jump_s
    assert await ends_after(first) == (RunStatus.SUCCEEDED, 20)
    assert await ends_after(run) == (RunStatus.TIMED_OUT, 60)


async def test_an_idle_limit_and_a_grace(
    clocked: Orchestrator, autojump_clock: MockClock, wall: Wall, jump_s: float
) -> None:
    @agent
    async def stubborn(ctx: Context) -> None:
        async with ctx.operation("long"):
            await trio.sleep(500)

    run = await clocked.start(stubborn, idle_timeout_s=50, grace_s=20)
    await trio.sleep(20)
    wall.ahead_s = jump_s
    assert await ends_after(run) == (RunStatus.STOPPED, 70)
    assert run.receipt is not None
    assert (run.receipt.outcome, run.receipt.seconds) == (StopOutcome.STOPPED, 20)


async def test_a_delayed_start(
    clocked: Orchestrator, autojump_clock: MockClock, wall: Wall, jump_s: float
) -> None:
    run = await clocked.start(nap, start_after_s=60)
    await trio.sleep(30)
    wall.ahead_s = jump_s
    assert await ends_after(run) == (RunStatus.SUCCEEDED, 61)


async def test_a_limit_to_the_wait_for_a_start(
    clocked: Orchestrator, autojump_clock: MockClock, wall: Wall, jump_s: float
) -> None:
    await clocked.start(nap, {"seconds": 1000})
    run = await clocked.start(nap, start_by_s=60)
    await trio.sleep(30)
    wall.ahead_s = jump_s
    assert await ends_after(run) == (RunStatus.TIMED_OUT, 60)


async def test_a_question(
    clocked: Orchestrator, autojump_clock: MockClock, wall: Wall, jump_s: float
) -> None:
    @agent
    async def asker(ctx: Context) -> None:
        await ctx.ask("Really?", within_s=60)

    run = await clocked.start(asker)
    await trio.sleep(30)
    wall.ahead_s = jump_s
    assert await ends_after(run) == (RunStatus.FAILED, 60)


async def test_what_is_kept_is_never_forgotten_before_its_time(
    autojump_clock: MockClock, wall: Wall
) -> None:
    """A clock that is set back keeps things for longer."""
    async with open_orchestrator(agents=[nap], now=wall.now, retention_s=600) as orchestrator:
        run = await orchestrator.start(nap)
        await run.wait()
        wall.ahead_s = -HOUR_S
        await trio.sleep(HOUR_S)
        assert (await orchestrator.get(run.id)).status is RunStatus.SUCCEEDED
        await trio.sleep(700)
        assert [each.id for each in (await orchestrator.runs()).runs] == []

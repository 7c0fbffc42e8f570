"""What the model found, each at its smallest."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
import trio

from orchestrator import (
    AgentFailed,
    AgentStopped,
    Context,
    Orchestrator,
    RunStatus,
    StopOutcome,
    StopSource,
    agent,
    open_orchestrator,
)
from tests.model.disk import Disk, Mount
from tests.model.flight import virtual, wall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock


async def test_a_child_that_was_stuck_once_does_not_cost_its_parent_the_cleanup(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """The child was let go at 0.5 and has exited at 5; its parent is stopped at 100."""
    did: list[str] = []

    @agent
    async def stubborn(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(5)

    @agent
    async def sleeper(ctx: Context) -> None:
        await ctx.sleep(1000)

    @agent
    async def parent(ctx: Context) -> None:
        child = await ctx.start(stubborn)
        await trio.sleep(0.1)
        live = orchestrator.live(child.id)
        assert live is not None
        await live.stop(mode="kill")
        try:
            await ctx.call(sleeper)
        finally:
            with ctx.cleanup():
                await trio.sleep(1)
                did.append("cleaned up")

    run = await orchestrator.start(parent)
    await trio.sleep(100)
    receipt = await run.stop()
    assert (receipt.outcome, did) == (StopOutcome.STOPPED, ["cleaned up"])


async def test_a_stuck_child_does_not_cut_its_parents_operation_before_the_grace(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    did: list[str] = []
    release = trio.Event()

    @agent
    async def stubborn(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    @agent
    async def parent(ctx: Context) -> None:
        await ctx.start(stubborn)
        async with ctx.operation("pay"):
            await trio.sleep(10)
            did.append("paid")

    run = await orchestrator.start(parent, cleanup_s=2)
    await trio.sleep(1)
    await run.stop(grace_s=30)
    release.set()
    assert did == ["paid"]


async def test_a_critical_section_in_another_one_waits_too_while_the_run_is_paused(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    did: list[str] = []

    @agent
    async def committer(ctx: Context) -> None:
        with ctx.critical("outer", 50), ctx.critical("inner", 50):
            async with ctx.operation("op"):
                did.append("effect")

    run = await orchestrator.start(committer, debug=True)
    await trio.sleep(10)
    assert (run.status, did) == (RunStatus.PAUSED, [])
    await run.stop()


@pytest.mark.parametrize("raises", [True, False])
async def test_a_pause_does_not_change_how_a_child_in_a_critical_section_ends(
    raises: bool, orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """The section holds the pause back for what runs in it, the child's operations and end too."""
    undone: list[str] = []
    while_paused: list[bool] = []

    @agent
    async def child(ctx: Context) -> None:
        ctx.on_stop(undone.append, "undone")
        await trio.sleep(1)
        async with ctx.operation("op"):
            live = orchestrator.live(ctx.run_id)
            while_paused.append(live is not None and live.record.status is RunStatus.PAUSED)
        if raises:
            raise ValueError("no")

    @agent
    async def parent(ctx: Context) -> str:
        with ctx.critical("commit", 50):
            try:
                await ctx.call(child)
            except (AgentFailed, AgentStopped) as error:
                return type(error).__name__
        return "nothing"

    run = await orchestrator.start(parent)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(10)
    run.request_resume()
    record = await run.wait()
    below = (await orchestrator.tree(run.id))[1]
    assert while_paused == [False]
    assert (below.stop, undone) == (None, [])
    assert record.result == ("AgentFailed" if raises else "nothing")


async def test_finally_blocks_share_the_cleanup_time(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """What comes after the time is over gets none, so that the code exits and is not let go."""

    @agent
    async def thorough(ctx: Context) -> None:
        try:
            try:
                await ctx.sleep(1000)
            finally:
                with ctx.cleanup():
                    await trio.sleep(100)
        finally:
            with ctx.cleanup():
                await trio.sleep(100)

    # The order in which the time is over for the block and for the run is left to chance.
    receipts = []
    for _ in range(20):
        run = await orchestrator.start(thorough, cleanup_s=5)
        await trio.sleep(1)
        receipts.append(await run.stop())
        await trio.sleep(10)
    assert {receipt.outcome for receipt in receipts} == {StopOutcome.STOPPED}
    assert [receipt.seconds for receipt in receipts] == pytest.approx([5] * 20, abs=0.05)


async def test_code_that_uses_up_its_cleanup_time_after_a_kill_is_not_let_go(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """``ctx.cleanup`` ends at the very moment at which the run is let go: a race."""

    @agent
    async def thorough(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            with ctx.cleanup():
                await trio.sleep(100)

    outcomes = set()
    for _ in range(20):
        run = await orchestrator.start(thorough)
        await trio.sleep(1)
        outcomes.add((await run.stop(mode="kill")).outcome)
        await trio.sleep(10)
    assert outcomes == {StopOutcome.STOPPED}


async def test_nothing_starts_in_a_critical_section_whose_time_is_over(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    did: list[str] = []

    @agent
    async def committer(ctx: Context) -> None:
        with ctx.critical("commit", 2):
            try:
                await trio.sleep(1000)
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(1)
                    async with ctx.operation("late"):
                        did.append("began at 3, and its section was over at 2")

    run = await orchestrator.start(committer)
    await trio.sleep(1)
    await run.stop(mode="now")
    assert did == []


async def test_a_receipts_seconds_are_those_between_its_times(autojump_clock: MockClock) -> None:
    """Also of a sub-agent that a critical section starts after the stop."""

    @agent
    async def child(ctx: Context) -> None:
        await ctx.sleep(1)

    @agent
    async def parent(ctx: Context) -> None:
        with ctx.critical("commit", 50):
            await trio.sleep(4)
            await ctx.call(child)

    async with open_orchestrator(now=wall) as orchestrator:
        run = await orchestrator.start(parent)
        await trio.sleep(1)
        await run.stop()
        stop = (await orchestrator.tree(run.id))[1].stop
    assert stop is not None
    assert stop.settled_at is not None
    assert stop.seconds == pytest.approx(virtual(stop.settled_at) - virtual(stop.requested_at))


async def test_a_run_is_not_called_stopped_while_a_compensation_runs(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """The second one is registered while the first one runs from outside, and the code exits."""
    ends: list[float] = []

    async def undo(seconds: float) -> None:
        await trio.sleep(seconds)
        ends.append(trio.current_time())

    @agent
    async def slow(ctx: Context) -> None:
        ctx.on_stop(undo, 4)
        with trio.CancelScope(shield=True):
            await trio.sleep(8)
            ctx.on_stop(undo, 4)

    run = await orchestrator.start(slow, cleanup_s=5)
    await trio.sleep(1)
    receipt = await run.stop()
    ended = trio.current_time()
    await trio.sleep(100)
    assert (len(ends), ended >= max(ends), receipt.cleanup_errors[1:]) == (2, True, ())


async def test_the_events_of_sub_agents_count_against_idleness(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def child(ctx: Context) -> None:
        await trio.sleep(3)

    @agent
    async def parent(ctx: Context) -> None:
        for _ in range(4):
            await ctx.call(child)

    record = await (await orchestrator.start(parent, idle_timeout_s=5)).wait()
    assert record.status is RunStatus.SUCCEEDED


async def test_a_run_that_a_crash_ended_waits_for_nobody(autojump_clock: MockClock) -> None:
    @agent
    async def asker(ctx: Context) -> None:
        await ctx.ask("Really?")

    disk = Disk(0)

    @asynccontextmanager
    async def mounted(url: str) -> AsyncIterator[Mount]:
        yield mount

    with patch("orchestrator.runtime.open_store", mounted):
        async with trio.open_nursery() as nursery:
            mount = Mount(disk)
            async with open_orchestrator() as orchestrator:
                run = await orchestrator.start(asker)
                await trio.sleep(1)
                await mount.crash()
                nursery.cancel_scope.cancel()
        mount = Mount(disk)
        async with open_orchestrator() as orchestrator:
            record = await orchestrator.get(run.id)
    assert (record.status, record.waiting_for) == (RunStatus.LOST, None)


async def test_a_step_of_a_run_that_only_asks_leaves_it_paused(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def asker(ctx: Context) -> None:
        await ctx.ask("Really?")

    run = await orchestrator.start(asker)
    await trio.sleep(1)
    run.request_pause()
    await trio.sleep(1)
    assert run.record.status is RunStatus.PAUSED
    run.request_step()
    await trio.sleep(1)
    assert run.record.status is RunStatus.PAUSED
    await run.stop(source=StopSource.USER)


async def test_a_run_that_was_pausing_at_a_crash_is_paused_when_it_starts_again(
    autojump_clock: MockClock,
) -> None:
    lives: list[str] = []

    @agent
    async def worker(ctx: Context) -> None:
        lives.append(ctx.run_id)
        if len(lives) == 2:
            # There is no gate before this.
            await trio.sleep(10)
        async with ctx.operation("work"):
            await trio.sleep(10)

    async def crash(mount: Mount) -> None:
        async with open_orchestrator(agents=[worker]) as orchestrator:
            run = await orchestrator.start(worker, on_crash="restart")
            await trio.sleep(1)
            run.request_pause()
            await trio.sleep(1)
            assert run.status == "pausing"
            await mount.crash()
            nursery.cancel_scope.cancel()

    disk = Disk(0)

    @asynccontextmanager
    async def mounted(url: str) -> AsyncIterator[Mount]:
        yield mount

    with patch("orchestrator.runtime.open_store", mounted):
        async with trio.open_nursery() as nursery:
            mount = Mount(disk)
            nursery.start_soon(crash, mount)
        mount = Mount(disk)
        async with open_orchestrator(agents=[worker]) as orchestrator:
            (run,) = orchestrator.registry
            await trio.sleep(1)
            assert run.status == "paused"
            run.request_resume()
            assert (await run.wait()).status is RunStatus.SUCCEEDED

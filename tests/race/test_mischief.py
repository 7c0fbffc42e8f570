"""Agents that misbehave, crowds, and leaving: none of it harms a bystander or the end."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from orchestrator import (
    Context,
    Orchestrator,
    Run,
    RunStatus,
    StopMode,
    StopOutcome,
    agent,
    open_orchestrator,
)
from tests.race.sweep import (
    FAST,
    began,
    bystander,
    check_events,
    compensated,
    ended,
    small,
    whole,
)


@pytest.mark.parametrize("mode", FAST)
async def test_a_thousand_children_are_stopped_in_the_middle_of_their_start(
    mode: StopMode, autojump_clock: trio.testing.MockClock
) -> None:
    @agent
    async def many(ctx: Context) -> None:
        for _ in range(1000):
            await ctx.start(small)

    began.clear()
    ended.clear()
    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(many)
        while len(run.children) < 400:
            await trio.lowlevel.checkpoint()
        receipt = await run.stop(mode=mode, grace_s=5)
        assert receipt.outcome is StopOutcome.STOPPED
        assert receipt.runs_stopped > 400
        assert began == ended
        tree = await orchestrator.tree(run.id)
        assert {each.status for each in tree} <= {RunStatus.STOPPED, RunStatus.SUCCEEDED}
        events = await orchestrator.store.events(run.id, after=0, limit=100_000)
        check_events(events, tree)


async def test_a_scope_of_the_parents_own_ends_a_sub_agent(
    autojump_clock: trio.testing.MockClock,
) -> None:
    @agent
    async def child(ctx: Context) -> None:
        ctx.on_stop(compensated.append, "child")
        await ctx.sleep(1000)

    @agent
    async def parent(ctx: Context) -> Any:
        with trio.move_on_after(2) as limit:
            await ctx.call(child)
        return limit.cancelled_caught

    compensated.clear()
    async with open_orchestrator() as orchestrator:
        record = await (await orchestrator.start(parent)).wait()
        below = (await orchestrator.tree(record.id))[1]
    assert (record.status, record.result) == (RunStatus.SUCCEEDED, True)
    assert below.status is RunStatus.STOPPED
    assert below.stop is not None
    assert below.stop.source == "parent"
    assert compensated == ["child"]


async def test_swallowing_for_ever_is_abandoned_and_harms_nobody() -> None:
    """On the real clock, since code that never waits lets no virtual time pass."""

    @agent
    async def swallower(ctx: Context) -> None:
        while not release.is_set():
            try:
                await ctx.progress(1)
                await ctx.sleep(1000)
            except BaseException:
                pass

    release = trio.Event()
    with trio.fail_after(20):
        async with open_orchestrator() as orchestrator:
            beside = await orchestrator.start(bystander)
            run = await orchestrator.start(swallower, cleanup_s=0.1)
            await trio.sleep(0.01)
            receipt = await run.stop(mode="now")
            seen = (await orchestrator.store.events(run.id, after=0, limit=10**6))[-1]
            assert receipt.outcome is StopOutcome.ABANDONED
            assert receipt.seconds is not None
            assert receipt.seconds < 3
            assert seen.type == "run.abandoned"
            assert (await beside.wait()).result == "undisturbed"
            release.set()
            await run.exited.wait()
            last = (await orchestrator.store.events(run.id, after=0, limit=10**6))[-1]
            assert last == seen
            assert orchestrator.stuck == frozenset()


async def test_a_run_inherits_nothing_of_its_starter(
    autojump_clock: trio.testing.MockClock,
) -> None:
    from contextvars import ContextVar

    var: ContextVar[str] = ContextVar("var", default="clean")

    @agent
    async def looks(ctx: Context) -> str:
        await ctx.sleep(1)
        return var.get()

    async with open_orchestrator() as orchestrator:
        var.set("dirty")
        with trio.CancelScope() as scope:
            scope.cancel()
            run = orchestrator.admit(looks)
            with pytest.raises(trio.Cancelled):
                await trio.lowlevel.checkpoint()
        record = await run.wait()
    assert (record.status, record.result) == (RunStatus.SUCCEEDED, "clean")


@agent
async def in_operation(ctx: Context) -> None:
    async with ctx.operation("op"):
        await trio.sleep(0.05)
    await ctx.sleep(1000)


@agent
async def cleaning(ctx: Context) -> None:
    try:
        await ctx.sleep(1000)
    finally:
        with ctx.cleanup():
            await trio.sleep(0.02)


@agent
async def parent_of_all(ctx: Context) -> None:
    await ctx.start(in_operation)
    await ctx.start(cleaning)
    await ctx.call(cleaning)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("how", ["normally", "by exception", "by cancellation"])
async def test_leaving_settles_runs_in_every_state(how: str, store: str, tmp_path: Any) -> None:
    url = "memory://" if store == "memory" else f"sqlite:///{tmp_path}/runs.db"
    runs: list[Run] = []

    async def inside(orchestrator: Orchestrator, scope: trio.CancelScope) -> None:
        runs.extend(
            [await orchestrator.start(e) for e in (in_operation, cleaning, parent_of_all, whole)]
        )
        await trio.sleep(0.02)
        for each in (in_operation, cleaning):
            runs.append(await orchestrator.start(each))
            runs[-1].request_stop()
        runs.append(orchestrator.admit(cleaning))
        if how == "by exception":
            raise ZeroDivisionError
        if how == "by cancellation":
            scope.cancel()
            await trio.sleep_forever()

    with trio.fail_after(20), trio.CancelScope() as scope:
        try:
            async with open_orchestrator(url) as orchestrator:
                await inside(orchestrator, scope)
        except* ZeroDivisionError:
            assert how == "by exception"
    assert len(orchestrator.registry) == 0
    assert all(run.exited.is_set() for run in runs)
    assert {run.status for run in runs} <= {RunStatus.STOPPED, RunStatus.SUCCEEDED}
    if store == "sqlite":
        async with open_orchestrator(url) as again:
            stored = (await again.runs(limit=500)).runs
            assert {run.id for run in runs} <= {each.id for each in stored}
            assert {each.status for each in stored} <= {RunStatus.STOPPED, RunStatus.SUCCEEDED}
            for run in runs:
                events = await again.store.events(run.id, after=0, limit=1000)
                check_events(events, await again.tree(run.id))

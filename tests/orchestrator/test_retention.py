"""What is kept and for how long, and what becomes of what is stale. In memory, in virtual time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import (
    Context,
    IllegalTransition,
    Orchestrator,
    PartOfATree,
    RunId,
    RunStatus,
    StoreDamaged,
    UnknownRun,
    agent,
    open_orchestrator,
)
from orchestrator.retention import EVERY_S, Upkeep
from orchestrator.store import SaveRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

DAY_S = 86_400.0


def virtual_now(seconds: float) -> str:
    """The wall clock, which goes with Trio's."""
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=trio.current_time() + seconds)
    return at.isoformat(timespec="milliseconds")


@agent
async def leaf(ctx: Context) -> None:
    await ctx.data.set("leaf", 1)
    await ctx.artifact("a", b"1")


@agent
async def tree(ctx: Context) -> None:
    await ctx.call(leaf)


@agent(retention_s=2 * DAY_S)
async def kept(ctx: Context) -> None:
    await ctx.data.set("kept", 1)


@agent
async def waiter(ctx: Context) -> None:
    await ctx.sleep(100 * DAY_S)


@pytest.fixture
async def orchestrator(autojump_clock: MockClock) -> AsyncIterator[Orchestrator]:
    agents = [leaf, tree, kept, waiter]
    async with open_orchestrator(agents=agents, now=virtual_now, retention_s=DAY_S) as opened:
        yield opened


async def ids(orchestrator: Orchestrator) -> set[str]:
    return {run.id for run in (await orchestrator.runs()).runs}


@pytest.mark.slow
async def test_each_tree_is_kept_for_its_time(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    live = await orchestrator.start(waiter)
    default = await orchestrator.start(tree)
    longer = await orchestrator.start(kept)
    briefly = await orchestrator.start(tree, retention_s=0)
    for run in (default, longer, briefly):
        await run.wait()
    await trio.sleep(EVERY_S + 1)
    assert len(await ids(orchestrator)) == 4
    assert briefly.id not in await ids(orchestrator)
    await trio.sleep(DAY_S - 2 * EVERY_S - 2)
    assert default.id in await ids(orchestrator)
    await trio.sleep(3 * EVERY_S)
    assert await ids(orchestrator) == {live.id, longer.id}
    await trio.sleep(DAY_S)
    assert await ids(orchestrator) == {live.id}
    assert orchestrator.upkeep == Upkeep(forgotten=3)
    assert await orchestrator.store.events(default.id, after=0, limit=99) == []
    # Data goes with the run that wrote it last.
    assert await orchestrator.store.data("", "default", "leaf") is None
    assert live.status == RunStatus.RUNNING
    await live.stop()


async def test_many_are_forgotten_in_one_look(
    orchestrator: Orchestrator, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.retention._TREES", 3)
    for _ in range(10):
        await (await orchestrator.start(kept, retention_s=0)).wait()
    await trio.sleep(EVERY_S + 1)
    assert await ids(orchestrator) == set()
    assert orchestrator.upkeep.forgotten == 10


async def test_without_a_time_nothing_is_ever_forgotten(autojump_clock: MockClock) -> None:
    async with open_orchestrator(now=virtual_now) as orchestrator:
        run = await orchestrator.start(leaf, retention_s=0)
        await run.wait()
        await trio.sleep(1000 * DAY_S)
        assert await ids(orchestrator) == {run.id}
        assert orchestrator.upkeep == Upkeep()


async def test_a_run_is_deleted_with_all_below_it(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(tree)
    with pytest.raises(IllegalTransition, match="cannot be deleted"):
        await orchestrator.forget(run.id)
    await run.wait()
    _, child = await orchestrator.tree(run.id)
    with pytest.raises(PartOfATree, match=f"delete {run.id}, which it is part of") as caught:
        await orchestrator.forget(child.id)
    assert (caught.value.run_id, caught.value.root_id) == (child.id, run.id)
    await orchestrator.forget(run.id)
    for gone in (run.id, child.id):
        with pytest.raises(UnknownRun):
            await orchestrator.get(gone)
        with pytest.raises(UnknownRun):
            await orchestrator.events(gone)
        with pytest.raises(UnknownRun):
            await orchestrator.forget(gone)
    assert await orchestrator.artifacts(child.id) == []


async def test_a_reader_of_a_forgotten_feed_comes_to_its_end(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(tree)
    await run.wait()
    reader = await orchestrator.events(run.id)
    await orchestrator.forget(run.id)
    with trio.fail_after(1):
        assert [event async for event in reader] == []


async def test_a_record_that_is_nobodys_is_settled_and_counted(
    orchestrator: Orchestrator, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    live = await orchestrator.start(waiter)
    orphan = replace(live.record, id=RunId("run_orphan"), root_id=RunId("run_orphan"))
    child = replace(orphan, id=RunId("run_child"), parent_id=live.id, root_id=live.id)
    await orchestrator.store.write([SaveRun(orphan), SaveRun(child)])
    await trio.sleep(EVERY_S + 1)
    assert orchestrator.upkeep == Upkeep(records_reaped=2)
    assert "run run_orphan had not ended, and nobody ran it" in caplog.text
    for run_id in ("run_orphan", "run_child"):
        assert (await orchestrator.get(run_id)).status is RunStatus.LOST
    # Its end is told in the feed of the live tree, without a gap.
    receipt = await live.stop()
    assert receipt.outcome == "stopped"
    events = await orchestrator.store.events(live.id, after=0, limit=99)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert ("run_child", "run.lost") in [(event.run_id, event.type) for event in events]


async def test_an_entry_whose_run_has_ended_is_reaped_and_counted(
    orchestrator: Orchestrator, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await orchestrator.start(leaf)
    await run.wait()
    run.ended = trio.Event()
    orchestrator.registry.add(run)
    await trio.sleep(EVERY_S + 1)
    assert orchestrator.upkeep == Upkeep(entries_reaped=1)
    assert run.id not in orchestrator.registry
    assert run.ended.is_set()


async def test_a_store_that_is_damaged_ends_no_run(
    orchestrator: Orchestrator,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody asked for what is looked at here, so nobody else is to suffer from it."""
    live = await orchestrator.start(waiter)
    over = await orchestrator.start(leaf, retention_s=0)
    await over.wait()

    async def unfinished() -> list[Any]:
        raise StoreDamaged("a page of it cannot be read")

    with monkeypatch.context() as damaged:
        damaged.setattr(orchestrator.store, "unfinished", unfinished)
        await trio.sleep(2 * EVERY_S + 1)
        assert "nothing is forgotten at present: a page of it cannot be read" in caplog.text
        assert await ids(orchestrator) == {live.id, over.id}
    await trio.sleep(EVERY_S)
    assert await ids(orchestrator) == {live.id}
    assert (await live.stop()).outcome == "stopped"


async def test_nothing_live_is_reaped_however_often_it_is_looked(
    orchestrator: Orchestrator,
    autojump_clock: MockClock,
) -> None:
    """Runs begin and end at every moment of a look."""
    keeper = orchestrator._keeper
    assert keeper is not None
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(_run_some, orchestrator)
        for _ in range(60):
            await keeper.look()
    assert orchestrator.upkeep == Upkeep()


async def _run_some(orchestrator: Orchestrator) -> None:
    for _ in range(4):
        run = await orchestrator.start(tree)
        record = await run.wait()
        assert record.status is RunStatus.SUCCEEDED

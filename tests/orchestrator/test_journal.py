"""The journal and the feed, against a store that can be made to fail."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from orchestrator import (
    Context,
    Orchestrator,
    RunStatus,
    StartsRefused,
    StoreUnavailable,
    agent,
    open_orchestrator,
)
from orchestrator.events import RunLog
from orchestrator.feed import TAIL
from orchestrator.journal import BATCH, GATHER_S, SHOWN_AT_ONCE, Journal
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import NOBODY, Told
from orchestrator.store.writes import AppendEvent
from orchestrator.timers import Timers
from tests.orchestrator.test_stop import sleeper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from orchestrator.store.writes import Write


class FailingStore(MemoryStore):
    """A store that refuses writes while ``failing``, and counts its transactions."""

    failing = False
    transactions = 0

    async def write(self, batch: Sequence[Write], told: Told = NOBODY) -> None:
        if self.failing:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailable("the disk is full")
        self.transactions += 1
        await super().write(batch, told)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FailingStore:
    """The store that ``open_orchestrator`` opens in this test."""
    made = FailingStore()

    @asynccontextmanager
    async def open_store(url: str) -> AsyncIterator[FailingStore]:
        yield made

    monkeypatch.setattr("orchestrator.runtime.open_store", open_store)
    return made


async def test_a_stop_works_while_the_store_does_not(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    cancelled = trio.Event()

    @agent
    async def watched(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            cancelled.set()

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(watched)
        await trio.sleep(1)
        store.failing = True
        ticket = run.request_stop()
        await cancelled.wait()
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await orchestrator.durable(ticket)
        await run.exited.wait()
        # It has stopped, and nobody is told so yet: a crash now would forget it.
        assert run.record.status is RunStatus.STOPPED
        assert run.status == RunStatus.RUNNING
        assert (await orchestrator.get(run.id)).status is RunStatus.RUNNING
        assert not run.ended.is_set()
        assert orchestrator.store_error is not None

        store.failing = False
        await run.ended.wait()
        assert (await orchestrator.get(run.id)).status is RunStatus.STOPPED
        assert orchestrator.store_error is None


async def test_a_start_that_cannot_be_stored_never_runs(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    ran: list[str] = []

    @agent
    async def never(ctx: Context) -> None:
        ran.append("ran")

    async with open_orchestrator() as orchestrator:
        store.failing = True
        with pytest.raises(StoreUnavailable):
            await orchestrator.start(never)
        store.failing = False
        await trio.sleep(2)
        (record,) = (await orchestrator.runs()).runs

    assert ran == []
    assert record.status is RunStatus.STOPPED
    assert record.stop is not None
    assert record.stop.reason == "its start was not stored"


async def test_closing_gives_up_on_a_store_that_takes_nothing(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    async with open_orchestrator() as orchestrator:
        await orchestrator.start(sleeper)
        store.failing = True
    assert trio.current_time() == pytest.approx(21, abs=2)
    (left,) = await store.unfinished()
    assert left.status is RunStatus.RUNNING


async def test_what_nobody_waits_for_shares_a_commit(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    @agent
    async def talker(ctx: Context) -> None:
        for n in range(100):
            await ctx.log(str(n))
        await ctx.sleep(1)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(talker)
        await trio.sleep(GATHER_S / 2)
        assert store.transactions <= 3
        before = store.transactions
        await trio.sleep(2 * GATHER_S)
        assert store.transactions == before + 1
        assert await store.last_seq(run.id) == 102
        await run.stop()


async def test_tickets_are_durable_in_order(autojump_clock: MockClock) -> None:
    store = FailingStore()
    journal = Journal(store, Timers())
    shown: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.run)
        tickets = [journal.append([], lambda n=n: shown.append(n)) for n in range(2500)]  # type: ignore[misc]
        await journal.durable(tickets[0])
        assert shown[:1] == [0]
        await journal.durable(tickets[-1])
        assert shown == list(range(2500))
        journal.close(1)


class Disk(MemoryStore):
    """A store whose disk is at work on a batch until it is ``released``, and then may refuse it."""

    tells = True
    refuses = False

    def __init__(self) -> None:
        super().__init__()
        self.released = trio.Event()

    async def write(self, batch: Sequence[Write], told: Told = NOBODY) -> None:
        await trio.lowlevel.checkpoint()
        if self.tells:
            told.committing()
        await self.released.wait()
        if self.refuses:
            raise StoreUnavailable("the disk is full")
        await super().write(batch, told)


@pytest.mark.parametrize("tells", [True, False])
async def test_what_is_ready_beforehand_is_made_while_the_disk_is_at_work(
    autojump_clock: MockClock, tells: bool
) -> None:
    disk, passed = Disk(), list[str]()
    disk.tells = tells
    journal = Journal(disk, Timers())

    async def wait(name: str, until: Awaitable[None]) -> None:
        await until
        passed.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.run)
        first = journal.append([], urgent=True)
        nursery.start_soon(wait, "underway", journal.underway(first))
        nursery.start_soon(wait, "durable", journal.durable(first))
        await wait_all_tasks_blocked()
        nursery.start_soon(wait, "next underway", journal.underway(journal.append([], urgent=True)))
        await wait_all_tasks_blocked()
        assert passed == (["underway"] if tells else [])
        disk.released.set()
        await wait_all_tasks_blocked()
        assert sorted(passed) == ["durable", "next underway", "underway"]
        # What is durable needs no wait, and neither does what comes after it.
        await journal.underway(first)
        journal.close(1)


async def test_nobody_waits_for_a_disk_that_refuses_to_be_at_work(
    autojump_clock: MockClock,
) -> None:
    disk = Disk()
    disk.refuses, disk.tells = True, False
    journal = Journal(disk, Timers())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.run)
        ticket = journal.append([], urgent=True)
        disk.released.set()
        # Whoever makes something ready meanwhile hears of it from ``durable``.
        await journal.underway(ticket)
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await journal.durable(ticket)
        await journal.underway(ticket)
        disk.refuses = False
        await journal.stored(ticket)
        journal.close(1)


async def test_what_is_urgent_does_not_wait_behind_a_backlog(autojump_clock: MockClock) -> None:
    """What a full batch leaves is late already, so it is not gathered again."""
    journal = Journal(FailingStore(), Timers())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.run)
        for _ in range(3 * BATCH):
            journal.append([])
        began = trio.current_time()
        await journal.durable(journal.append([], urgent=True))
        took = trio.current_time() - began
        journal.append([])
        await trio.sleep(GATHER_S / 2)
        gathered = journal.backlog
        journal.close(1)
    assert took == 0
    # What comes afterwards is gathered as ever.
    assert gathered == 1


async def test_others_have_their_turn_while_a_flood_is_shown(autojump_clock: MockClock) -> None:
    journal, shown, seen = Journal(FailingStore(), Timers()), list[int](), list[int]()
    async with trio.open_nursery() as nursery:
        tickets = [journal.append([], partial(shown.append, n)) for n in range(BATCH)]

        async def look() -> None:
            while not seen or seen[-1] < BATCH:
                seen.append(len(shown))
                await trio.lowlevel.checkpoint()

        async def wait(ticket: int) -> None:
            await journal.durable(ticket)
            assert len(shown) >= ticket

        nursery.start_soon(journal.run)
        nursery.start_soon(look)
        for ticket in (1, SHOWN_AT_ONCE, SHOWN_AT_ONCE + 1, BATCH):
            nursery.start_soon(wait, tickets[ticket - 1])
        while not seen or seen[-1] < BATCH:
            await trio.sleep(0.1)
        journal.close(1)
    # The order within a turn is Trio's to choose.
    assert max(later - before for before, later in pairwise(seen)) <= 2 * SHOWN_AT_ONCE


async def test_the_room_of_the_journal_is_bounded(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    told = 0

    @agent
    async def chatterbox(ctx: Context) -> None:
        nonlocal told
        while True:
            await ctx.log("chatter")
            told += 1

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(chatterbox)
        store.failing = True
        with trio.move_on_after(1):
            await run.ended.wait()
        await wait_all_tasks_blocked()
        stuck_at = told
        await trio.sleep(1)
        assert told == stuck_at
        store.failing = False
        await run.stop()
        assert run.record.status is RunStatus.STOPPED


async def test_a_slow_reader_reads_the_store_where_the_tail_has_gone(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def talker(ctx: Context) -> None:
        for n in range(3 * TAIL):
            await ctx.log(str(n))
        await ctx.sleep(1000)

    run = await orchestrator.start(talker)
    reader = await orchestrator.events(run.id)
    await trio.sleep(1)
    assert len(run.feed.tail) == TAIL
    seqs = [event.seq for event in await reader.at_most(3 * TAIL + 2)]
    assert seqs == list(range(1, 3 * TAIL + 3))
    await run.stop()
    assert [event.type async for event in reader] == ["run.stopping", "run.stopped"]
    assert await reader.next_batch() == []


async def test_readers_see_nothing_that_is_not_durable(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(sleeper)
        reader = await orchestrator.events(run.id, after=2)
        store.failing = True
        run.request_stop()
        with trio.move_on_after(5) as waited:
            await reader.next_batch()
        assert waited.cancelled_caught
        store.failing = False
        assert [event.type async for event in reader] == ["run.stopping", "run.stopped"]


async def test_timers_ring_in_order_and_survive_one_that_fails(autojump_clock: MockClock) -> None:
    timers = Timers()
    rung: list[tuple[str, float]] = []

    def ring(name: str) -> None:
        rung.append((name, trio.current_time()))
        if name == "bad":
            raise ValueError(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        late, bad, soon, never = (
            timers.timer(lambda name=name: ring(name))  # type: ignore[misc]
            for name in ("late", "bad", "soon", "never")
        )
        late.set(30)
        bad.set(2)
        never.set(5)
        await trio.sleep(1)
        soon.set(1.5)
        late.set(10)
        never.unset()
        assert (late.when, never.when) == (10, float("inf"))
        await trio.sleep(50)
        timers.close()

    assert rung == [("soon", 1.5), ("bad", 2), ("late", 10)]


async def test_a_closed_orchestrator_starts_nothing(orchestrator: Orchestrator) -> None:
    await orchestrator.drain()
    with pytest.raises(StartsRefused, match="shutting down"):
        await orchestrator.start(sleeper)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
async def test_a_closed_orchestrator_lets_nobody_wait(tmp_path: Path, store: str) -> None:
    url = "memory://" if store == "memory" else f"sqlite:///{tmp_path}/runs.db"
    async with open_orchestrator(url) as orchestrator:
        run = await orchestrator.start(sleeper)
        await run.stop(mode="now")
    calls: list[Callable[[], Awaitable[object]]] = [
        orchestrator.halt,
        orchestrator.lift,
        partial(orchestrator.forget, run.id),
        lambda: orchestrator.durable(orchestrator.keep("collection", "key", 1)),
        lambda: run.journal.stored(run.ticket + 1),
    ]
    if store == "sqlite":
        calls += [partial(orchestrator.get, run.id), partial(orchestrator.events, run.id)]
    for call in calls:
        with trio.fail_after(5), pytest.raises(StoreUnavailable, match="is closed"):
            await call()


async def test_a_run_that_is_left_to_the_next_orchestrator_is_not_waited_for(
    tmp_path: Path,
) -> None:
    """Nor is it called stopped, since that one will start it."""
    url = f"sqlite:///{tmp_path}/runs.db"

    async def refused(ask: Callable[[], Awaitable[object]]) -> None:
        with trio.fail_after(5), pytest.raises(StoreUnavailable, match="waits on record for the n"):
            await ask()

    async with trio.open_nursery() as outside, open_orchestrator(url) as orchestrator:
        run = await orchestrator.start(sleeper, start_after_s=60)
        outside.start_soon(refused, run.wait)
        await wait_all_tasks_blocked()
    await refused(run.wait)
    await refused(run.stop)
    assert run.receipt is None
    async with open_orchestrator(url, agents=[sleeper]) as orchestrator:
        assert (await orchestrator.get(run.id)).status is RunStatus.QUEUED


async def test_who_waits_for_a_store_that_refuses_is_let_go_when_the_orchestrator_is_closed(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    async def wait(journal: Journal, ticket: int) -> None:
        with pytest.raises(StoreUnavailable, match="is closed"):
            await journal.stored(ticket)

    with trio.fail_after(60):
        async with trio.open_nursery() as outside, open_orchestrator() as orchestrator:
            run = await orchestrator.start(sleeper)
            store.failing = True
            outside.start_soon(wait, run.journal, run.request_stop())


def test_an_event_that_was_numbered_twice_is_a_bug_that_shows() -> None:
    async def main() -> None:
        async with open_orchestrator() as orchestrator:
            run = await orchestrator.start(sleeper)
            event = run.feed.number(run.id, RunLog("info", "x"), "")
            for _ in range(2):
                run.services.journal.append([AppendEvent(event)], urgent=True)
            await run.ended.wait()

    with pytest.raises(BaseExceptionGroup) as caught:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    assert caught.group_contains(ValueError, depth=1)

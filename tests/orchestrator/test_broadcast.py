"""The latest events of all trees: nothing twice, nothing left out unsaid, and bounded memory."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, Event, InvalidInput, Orchestrator, RunRecord, RunStatus, agent
from orchestrator.broadcast import KEPT, KEPT_BYTES, PAGE, Broadcast, Listener
from orchestrator.model import RunId

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator import Notice

ROOT = RunId("run_0")
RECORD = RunRecord(
    id=ROOT, root_id=ROOT, agent="a", owner="ann", status=RunStatus.RUNNING, created_at=""
)


def show(broadcast: Broadcast, count: int = 1, **data: Any) -> None:
    for _ in range(count):
        event = Event(broadcast.count + 1, ROOT, ROOT, "test.event", "", data)
        broadcast.shown(event, RECORD)


def listen(
    broadcast: Broadcast, after: str | None = None, where: Callable[[Notice], bool] | None = None
) -> Listener:
    return Listener(broadcast, after, where)


async def numbers(listener: Listener) -> list[int] | None:
    batch = await listener.next_batch()
    return None if batch is None else [each.event.seq for each in batch]


async def test_who_has_no_place_is_told_where_it_is_and_hears_what_comes() -> None:
    broadcast = Broadcast()
    show(broadcast, 3)
    listener = listen(broadcast)

    assert listener.behind
    assert await numbers(listener) is None
    assert not listener.behind
    show(broadcast, 2)

    batch = await listener.next_batch()
    assert batch is not None
    assert [each.event.seq for each in batch] == [4, 5]
    assert {(each.agent, each.owner) for each in batch} == {("a", "ann")}
    assert listener.position == batch[-1].position


async def test_who_comes_back_hears_what_it_has_missed_in_pages() -> None:
    broadcast = Broadcast()
    listener = listen(broadcast)
    await numbers(listener)
    place = listener.position
    show(broadcast, PAGE + 1)

    again = listen(broadcast, place)

    assert await numbers(again) == list(range(1, PAGE + 1))
    assert again.behind
    assert await numbers(again) == [PAGE + 1]
    assert not again.behind


async def test_the_oldest_place_that_is_kept_and_the_one_before_it() -> None:
    broadcast = Broadcast()
    listener = listen(broadcast)
    await numbers(listener)
    early = listener.position
    show(broadcast)
    assert await numbers(listener) == [1]
    show(broadcast, KEPT)

    assert await numbers(listener) == list(range(2, PAGE + 2))
    lost = listen(broadcast, early)
    assert await numbers(lost) is None
    assert lost.position == broadcast.position(KEPT + 1)


async def test_large_events_are_fewer_and_the_newest_is_always_kept() -> None:
    broadcast = Broadcast()
    listener = listen(broadcast)
    await numbers(listener)
    show(broadcast, 100, text="x" * (KEPT_BYTES // 10))
    assert await numbers(listener) is None
    nine_back = listen(broadcast, broadcast.position(91))
    assert await numbers(nine_back) == list(range(92, 101))

    show(broadcast, text="x" * 2 * KEPT_BYTES)

    assert await numbers(nine_back) == [101]
    show(broadcast, text="x" * 2 * KEPT_BYTES)
    assert await numbers(nine_back) == [102]
    assert await numbers(listener) is None


async def test_a_place_of_another_life_and_one_that_is_still_to_come_are_lost() -> None:
    broadcast = Broadcast()
    show(broadcast, 5)
    for place in (Broadcast().position(3), broadcast.position(6)):
        assert await numbers(listen(broadcast, place)) is None


@pytest.mark.parametrize("after", ["", "7", "-7", "abc-1", "0123456789-1", "0123abcd-", "é" * 12])
async def test_what_is_no_place_is_refused(after: str) -> None:
    with pytest.raises(InvalidInput, match="is not a position") as raised:
        listen(Broadcast(), after)
    assert [field for field, _ in raised.value.problems] == ["after"]


async def test_who_chooses_keeps_its_place_although_it_hears_nothing(
    autojump_clock: trio.abc.Clock,
) -> None:
    broadcast = Broadcast()
    listener = listen(broadcast, where=lambda notice: notice.event.seq > 2 * KEPT)
    await numbers(listener)

    for _ in range(4):
        show(broadcast, KEPT // 2)
        with trio.move_on_after(1) as waited:
            await listener.next_batch()
        assert waited.cancelled_caught
        assert listener.position == broadcast.position(broadcast.count)
    show(broadcast)

    assert await numbers(listener) == [2 * KEPT + 1]


async def test_a_listener_that_is_cancelled_at_any_time_misses_nothing() -> None:
    broadcast, heard = Broadcast(), list[int]()
    listener = listen(broadcast)
    await numbers(listener)
    async with trio.open_nursery() as nursery:

        async def speak() -> None:
            for _ in range(500):
                await trio.lowlevel.checkpoint()
                show(broadcast, random.randrange(3))
            show(broadcast)

        nursery.start_soon(speak)
        while len(heard) < broadcast.count or broadcast.count < 300:
            with trio.CancelScope() as scope:
                nursery.start_soon(_cancel_later, scope)
                heard += await numbers(listener) or []
    heard += await numbers(listener) or [] if listener.behind else []

    assert heard == list(range(1, broadcast.count + 1))


async def _cancel_later(scope: trio.CancelScope) -> None:
    for _ in range(random.randrange(4)):
        await trio.lowlevel.checkpoint()
    scope.cancel()


@agent
async def child(ctx: Context) -> None:
    await ctx.emit("test.child")


@agent
async def parent(ctx: Context) -> None:
    await ctx.map(child, [{}, {}])


async def test_what_all_runs_say_is_heard_in_the_order_of_showing(
    orchestrator: Orchestrator, autojump_clock: trio.abc.Clock
) -> None:
    listener = orchestrator.listen()
    assert await listener.next_batch() is None

    runs = [await orchestrator.start(parent, owner=owner) for owner in ("ann", "bob")]
    for run in runs:
        await run.wait()
    heard = []
    while listener.behind:
        heard += await listener.next_batch() or []

    told = 0
    for run in runs:
        feed = await (await orchestrator.events(run.id)).at_most(1000)
        assert [each.event for each in heard if each.event.root_id == run.id] == feed
        assert {each.owner for each in heard if each.event.root_id == run.id} == {run.record.owner}
        told += len(feed)
    assert len(heard) == told
    assert {each.agent for each in heard if each.event.type == "test.child"} == {"child"}


async def test_what_is_heard_after_the_place_is_lost_goes_on_where_the_list_ends(
    orchestrator: Orchestrator, autojump_clock: trio.abc.Clock
) -> None:
    @agent
    async def brief(ctx: Context) -> None:
        await trio.lowlevel.checkpoint()

    known: set[str] = set()
    listener = orchestrator.listen()
    async with trio.open_nursery() as nursery:

        async def starter() -> None:
            for _ in range(50):
                await orchestrator.start(brief)

        for _ in range(4):
            nursery.start_soon(starter)
        await trio.lowlevel.checkpoint()
        assert await listener.next_batch() is None
        page = await orchestrator.runs(limit=500)
        known.update(run.id for run in page.runs)
    while listener.behind:
        known.update(each.event.run_id for each in await listener.next_batch() or [])

    assert known == {run.id for run in (await orchestrator.runs(limit=500)).runs}
    assert len(known) == 200

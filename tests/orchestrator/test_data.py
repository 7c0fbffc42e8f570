"""Durable data: what an owner's runs keep, seen by them and by nobody else."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import (
    Context,
    InvalidInput,
    OperationRefused,
    OperationsAreLeaves,
    Orchestrator,
    RunStatus,
    StoreUnavailable,
    agent,
    open_orchestrator,
)
from tests.orchestrator.test_steps import desk as desk

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock

    from orchestrator.data import DataSpace
    from tests.orchestrator.test_steps import Desk, OddStore

MEBIBYTE = 2**20

_numbers = count()


async def do(orchestrator: Orchestrator, body: Callable[[Context], Any], owner: str = "ann") -> Any:
    """Run the body as an agent's run of that owner, and return what it returns."""

    @agent(name=f"do {next(_numbers)}")
    async def doing(ctx: Context) -> Any:
        return await body(ctx)

    run = await orchestrator.start(doing, owner=owner)
    record = await run.wait()
    assert record.error is None, record.error.traceback
    assert record.status is RunStatus.SUCCEEDED
    return record.result


def shared(ctx: Context) -> DataSpace:
    return ctx.data.namespace("shared")


# Reading and writing


async def test_what_was_set_is_there_for_later_runs(orchestrator: Orchestrator) -> None:
    value = {"é": [1, 2.5, None, True, "\udcff", 2**70]}

    async def write(ctx: Context) -> None:
        await shared(ctx).set("k", value)
        assert await shared(ctx).get("k") == value

    async def read(ctx: Context) -> Any:
        return [await shared(ctx).get("k"), await shared(ctx).get("no", "default")]

    await do(orchestrator, write)
    assert await do(orchestrator, read) == [value, "default"]


async def test_it_is_there_after_reopening(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"

    async def write(ctx: Context) -> None:
        for key in ("a/1", "a/2", "b\x00"):
            await shared(ctx).set(key, [key])
        await shared(ctx).delete("a/1")

    async def read(ctx: Context) -> Any:
        keys = await shared(ctx).list()
        return [(key, await shared(ctx).get(key)) for key in keys]

    with trio.fail_after(20):
        async with open_orchestrator(url) as orchestrator:
            await do(orchestrator, write)
        async with open_orchestrator(url) as orchestrator:
            assert await do(orchestrator, read) == [["a/2", ["a/2"]], ["b\x00", ["b\x00"]]]


async def test_null_is_a_value(orchestrator: Orchestrator) -> None:
    async def body(ctx: Context) -> list[Any]:
        await shared(ctx).set("k", None)
        return [await shared(ctx).get("k", "default"), await shared(ctx).delete("k")]

    assert await do(orchestrator, body) == [None, True]


async def test_a_value_is_read_as_it_was_when_it_was_set(orchestrator: Orchestrator) -> None:
    async def body(ctx: Context) -> Any:
        value = [1]
        await shared(ctx).set("k", value)
        value.append(2)
        (await shared(ctx).get("k")).append(3)
        return await shared(ctx).get("k")

    assert await do(orchestrator, body) == [1]


async def test_delete_says_whether_it_was_there(orchestrator: Orchestrator) -> None:
    async def body(ctx: Context) -> list[Any]:
        await shared(ctx).set("k", 1)
        deleted = [await shared(ctx).delete("k") for _ in range(2)]
        return [*deleted, await shared(ctx).get("k"), await shared(ctx).list()]

    assert await do(orchestrator, body) == [True, False, None, []]


async def test_many_are_one_operation(orchestrator: Orchestrator) -> None:
    async def body(ctx: Context) -> list[Any]:
        values = {f"k{n:03}": n for n in range(100)}
        await ctx.data.set_many({**values, "k000": None})
        found = await ctx.data.get_many(["k001", "nothing", "k000", "k001"])
        there = await ctx.data.delete_many(["k001", "nothing", "k099"])
        with pytest.raises(InvalidInput, match="value"):
            await ctx.data.set_many({"new": 1, "bad": object()})
        return [found, there, len(await ctx.data.list()), await ctx.data.get_many(["new"])]

    assert await do(orchestrator, body) == [{"k001": 1, "k000": None}, 2, 98, {}]
    run = (await orchestrator.runs()).runs[0]
    events = [each async for each in await orchestrator.events(run.id, follow=False)]
    labels = [e.data["label"].split("/")[1] for e in events if e.type == "operation.started"]
    assert labels == ["(100 keys)", "(4 keys)", "(3 keys)", "", "(1 keys)"]


async def test_keys_are_listed_in_pages(orchestrator: Orchestrator) -> None:
    keys = [f"page/{n:02}" for n in range(25)]

    async def body(ctx: Context) -> list[str]:
        async with trio.open_nursery() as nursery:
            for key in [*keys, "other", "pag"]:
                nursery.start_soon(shared(ctx).set, key, 1)
        seen: list[str] = []
        while found := await shared(ctx).list("page/", after=(seen or [""])[-1], limit=10):
            seen += found
        assert await shared(ctx).list("page/02") == ["page/02"]
        return seen

    assert await do(orchestrator, body) == keys


async def test_namespaces_and_agents_are_apart(orchestrator: Orchestrator) -> None:
    async def write(ctx: Context) -> None:
        await ctx.data.set("k", "own")
        await ctx.data.namespace("a").set("k", "a")
        await ctx.data.namespace("a").namespace("b").set("k", "b")

    async def read(ctx: Context) -> list[Any]:
        spaces = [ctx.data, *map(ctx.data.namespace, ("a", "b"))]
        return [await space.get("k") for space in spaces]

    await do(orchestrator, write)
    # Another agent has another space of its own, and may share those that have a name.
    assert await do(orchestrator, read) == [None, "a", "b"]


async def test_owners_see_their_own_entries_only(orchestrator: Orchestrator) -> None:
    async def write(ctx: Context) -> None:
        await shared(ctx).set("k", "ann's")

    async def look(ctx: Context) -> list[Any]:
        space = shared(ctx)
        seen = [await space.get("k"), await space.list(), await space.delete("k")]
        await space.set("k", "other")
        return seen

    async def read(ctx: Context) -> Any:
        return await shared(ctx).get("k")

    await do(orchestrator, write, "ann")
    for owner in ("bob", "", "Ann"):
        assert await do(orchestrator, look, owner) == [None, [], False]
    assert await do(orchestrator, read, "ann") == "ann's"


async def test_sub_agents_have_their_parents_owner(orchestrator: Orchestrator) -> None:
    @agent
    async def child(ctx: Context) -> None:
        await shared(ctx).set("k", "child's")

    async def parent(ctx: Context) -> Any:
        await ctx.call(child)
        return await shared(ctx).get("k")

    assert await do(orchestrator, parent) == "child's"


# Limits


async def refused(orchestrator: Orchestrator, body: Callable[[Context], Any]) -> tuple[str, str]:
    async def wrong(ctx: Context) -> Any:
        with pytest.raises(InvalidInput) as caught:
            await body(ctx)
        assert await shared(ctx).list() == []
        return list(caught.value.problems[0])

    field, why = await do(orchestrator, wrong)
    return field, why


@pytest.mark.parametrize("method", ["get", "set", "delete"])
@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "has 0 characters, but a key has 1 to 512; a hash"),
        ("k" * 513, "has 513 characters, but a key has 1 to 512; a hash"),
        ("a\ud800", "has characters that are no text"),
        (b"k", "must be a string, not bytes"),
    ],
)
async def test_keys_are_checked(
    orchestrator: Orchestrator, method: str, key: Any, why: str
) -> None:
    more = (1,) if method == "set" else ()
    field, said = await refused(orchestrator, lambda ctx: getattr(shared(ctx), method)(key, *more))
    assert field == "key"
    assert why in said


@pytest.mark.parametrize("name", ["", "x" * 201, "a/b", " a", "é", "a\n"])
async def test_namespaces_are_checked(orchestrator: Orchestrator, name: str) -> None:
    async def body(ctx: Context) -> None:
        ctx.data.namespace(name)

    field, why = await refused(orchestrator, body)
    assert field == "namespace"
    assert "is not a plain name of at most 200 characters; use letters, digits" in why


async def test_values_are_checked(orchestrator: Orchestrator) -> None:
    for odd in (object(), float("nan"), {1, float("inf")}):
        field, why = await refused(orchestrator, lambda ctx, odd=odd: shared(ctx).set("k", odd))  # type: ignore[misc]
        assert (field, why.startswith("is not JSON: ")) == ("value", True)
    large = "é" * (MEBIBYTE // 2)
    field, why = await refused(orchestrator, lambda ctx: shared(ctx).set("k", large))
    assert field == "value"
    assert why.startswith(f"has {MEBIBYTE + 2} bytes as JSON, but may have {MEBIBYTE} at most;")


async def test_the_largest_that_is_allowed_fits(orchestrator: Orchestrator) -> None:
    async def body(ctx: Context) -> list[Any]:
        space = ctx.data.namespace("_" + "x" * 199)
        key, value = "é" * 512, "x" * (MEBIBYTE - 2)
        assert len(json.dumps(value)) == MEBIBYTE
        await space.set(key, value)
        return [await space.list(limit=1000) == [key], await space.get(key) == value]

    assert await do(orchestrator, body) == [True, True]


@pytest.mark.parametrize("limit", [0, -1, 1001, True, 1.0, "1"])
async def test_the_limit_of_a_list_is_checked(orchestrator: Orchestrator, limit: Any) -> None:
    field, why = await refused(orchestrator, lambda ctx: shared(ctx).list(limit=limit))
    assert field == "limit"
    assert "is not within 1 and 1000; read more with `after`" in why


@pytest.mark.parametrize("field", ["prefix", "after"])
async def test_the_bounds_of_a_list_are_checked(orchestrator: Orchestrator, field: str) -> None:
    bounds: dict[str, Any] = {field: "\udfff"}
    assert (await refused(orchestrator, lambda ctx: shared(ctx).list(**bounds)))[0] == field


async def test_a_long_prefix_finds_nothing(orchestrator: Orchestrator) -> None:
    async def body(ctx: Context) -> Any:
        await shared(ctx).set("k", 1)
        return await shared(ctx).list("k" * 10_000)

    assert await do(orchestrator, body) == []


async def test_they_are_leaves(orchestrator: Orchestrator) -> None:
    async def body(ctx: Context) -> None:
        async with ctx.operation("llm"):
            with pytest.raises(OperationsAreLeaves, match="get shared/k"):
                await shared(ctx).get("k")

    await do(orchestrator, body)


# Stops and outages


async def keys_of(store: OddStore) -> list[str]:
    """What is seen at the other end: the keys that the store really has."""
    return await store.data_keys("", "shared", prefix="", after="", limit=9)


async def test_each_is_an_operation_that_the_feed_tells_of(desk: Desk) -> None:
    async def body(ctx: Context) -> str:
        await shared(ctx).set("k", 1)
        await shared(ctx).get("k")
        await shared(ctx).list("k")
        await shared(ctx).delete("k")
        return ctx.run_id

    async with open_orchestrator() as orchestrator:
        run_id = await do(orchestrator, body)
    events = await desk.store.events(run_id, after=0, limit=99)
    ops = [e.data for e in events if e.type == "operation.finished"]
    assert [(op["kind"], op["label"], op["error"]) for op in ops] == [
        ("data", "set shared/k", None),
        ("data", "get shared/k", None),
        ("data", "list shared/k", None),
        ("data", "delete shared/k", None),
    ]


async def test_nothing_is_set_after_a_stop(desk: Desk, autojump_clock: MockClock) -> None:
    async def late(ctx: Context) -> None:
        for _ in range(3):
            for call in (shared(ctx).set("k", 1), shared(ctx).get("k"), shared(ctx).delete("k")):
                with trio.CancelScope(shield=True), pytest.raises(OperationRefused):
                    await call

    @agent
    async def stubborn(ctx: Context) -> None:
        try:
            await ctx.sleep(100)
        finally:
            await late(ctx)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(stubborn)
        await trio.sleep(1)
        receipt = await run.stop()
    assert receipt.operations.refused == 9
    assert receipt.operations.finished == 0
    assert await keys_of(desk.store) == []


async def test_a_stop_lets_a_set_in_flight_finish(desk: Desk, autojump_clock: MockClock) -> None:
    """Interleaving: the store holds the write when the stop comes, and takes it in the grace."""
    held = trio.Event()

    @agent
    async def worker(ctx: Context) -> None:
        desk.store.held = held
        await shared(ctx).set("a", 1)
        await shared(ctx).set("b", 2)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        await trio.sleep(1)
        run.request_stop(grace_s=30)
        await trio.sleep(5)
        assert not run.exited.is_set()
        held.set()
        await run.ended.wait()
    receipt = run.receipt
    assert receipt is not None
    assert (receipt.reached, receipt.operations.finished, receipt.operations.cut) == (
        "graceful",
        1,
        0,
    )
    assert await keys_of(desk.store) == ["a"]


async def test_a_set_that_is_cut_is_stored_all_the_same(
    desk: Desk, autojump_clock: MockClock
) -> None:
    @agent
    async def worker(ctx: Context) -> None:
        await shared(ctx).set("a", 1)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        desk.store.held = trio.Event()
        await trio.sleep(1)
        run.request_stop(grace_s=5)
        await trio.sleep(6)
        assert run.record.status is RunStatus.STOPPED
        desk.store.held.set()
        await run.ended.wait()
    assert await desk.store.data("", "shared", "a") == b"1"
    events = await desk.store.events(run.id, after=0, limit=99)
    (cut,) = [event.data for event in events if event.type == "operation.cut"]
    assert (cut["label"], cut["effect"]) == (
        "set shared/a",
        "stored as soon as the store takes it",
    )


async def test_an_outage_is_told_and_what_was_set_is_stored_after_it(
    desk: Desk, autojump_clock: MockClock
) -> None:
    outage, over = trio.Event(), trio.Event()

    @agent
    async def worker(ctx: Context) -> list[Any]:
        space = shared(ctx)
        await space.set("k", "old")
        desk.store.failing = True
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            await space.set("k", "new")
        with pytest.raises(StoreUnavailable):
            await space.delete("other")
        during = await space.get("k")
        outage.set()
        await over.wait()
        return [during, await space.get("k")]

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        await outage.wait()
        desk.store.failing = False
        await trio.sleep(2)
        over.set()
        assert (await run.wait()).result == ["old", "new"]


async def test_no_set_returns_before_it_is_durable(desk: Desk, autojump_clock: MockClock) -> None:
    at: list[float] = []

    @agent
    async def worker(ctx: Context) -> None:
        await shared(ctx).set("k", 1)
        at.append(trio.current_time())
        assert await keys_of(desk.store) == ["k"]

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        desk.store.held = trio.Event()
        await trio.sleep(7)
        desk.store.held.set()
        assert (await run.wait()).error is None
    assert at == [pytest.approx(7, abs=0.1)]


async def test_a_discarding_stop_takes_what_the_run_wrote_last(
    desk: Desk, autojump_clock: MockClock
) -> None:
    @agent
    async def worker(ctx: Context, keys: list[str]) -> None:
        for key in keys:
            await shared(ctx).set(key, 1)
        await ctx.sleep(100)

    async with open_orchestrator() as orchestrator:
        first = await orchestrator.start(worker, {"keys": ["a", "b"]})
        await trio.sleep(1)
        second = await orchestrator.start(worker, {"keys": ["b", "c"]})
        await trio.sleep(1)
        await first.stop(discard=True)
        assert await keys_of(desk.store) == ["b", "c"]
        await second.stop(discard=False)
    assert await keys_of(desk.store) == ["b", "c"]

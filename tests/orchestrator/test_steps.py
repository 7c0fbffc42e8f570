"""Durable steps: done once, whatever comes between. Time is virtual, and a crash is a copy of
what was durable at that moment, except in the last test, in which a process really dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock, wait_all_tasks_blocked

from orchestrator import (
    AgentFailed,
    Context,
    InvalidInput,
    OperationsAreLeaves,
    Orchestrator,
    Run,
    RunId,
    RunRecord,
    RunStatus,
    StoreUnavailable,
    agent,
    open_orchestrator,
)
from orchestrator.steps import Steps, before
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import NOBODY, RunFilter, StoredStep, Told
from orchestrator.store.writes import SaveRun, SaveStep
from tests.orchestrator.store.samples import AT, step
from tests.race.isolated import alone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from orchestrator.store.writes import Write

CLEANUP_S = 5.0


class OddStore(MemoryStore):
    """A store that refuses writes while ``failing``, and holds them until ``held`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.failing = False
        self.held: trio.Event | None = None
        self.reads = 0

    async def write(self, batch: Sequence[Write], told: Told = NOBODY) -> None:
        if self.failing:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailable("the disk is full")
        if self.held is not None:
            # So that a test that fails does not hang as well.
            with trio.move_on_after(1000):
                await self.held.wait()
        await super().write(batch, told)

    async def steps(self, root_id: str) -> list[StoredStep]:
        self.reads += 1
        return await super().steps(root_id)


class Desk:
    """Opens orchestrators on one store after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = OddStore()
        monkeypatch.setattr("orchestrator.runtime.open_store", self._open)

    @asynccontextmanager
    async def _open(self, url: str) -> AsyncIterator[OddStore]:
        yield self.store

    def crash(self) -> None:
        """Go on with what a crash would leave at this moment; the life before goes on unseen."""
        left = OddStore()
        for name in ("_runs", "_order", "_events", "_partials", "_artifacts", "_steps", "_data"):
            value = getattr(self.store, name)
            # Records are frozen; the containers around them are not.
            setattr(left, name, copy(value) if name == "_runs" else deepcopy(value))
        self.store = left


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(monkeypatch)


class Work:
    """Functions for steps that count their calls, by argument."""

    def __init__(self) -> None:
        self.calls: Counter[Any] = Counter()

    def quick(self, what: Any = None) -> Any:
        self.calls[what] += 1
        return what

    async def slow(self, what: Any = None, seconds: float = 1) -> Any:
        self.calls[what] += 1
        await trio.sleep(seconds)
        return what


async def told(store: MemoryStore, run: Run | str) -> list[tuple[str, bool]]:
    """The steps that the feed tells of: the name, and whether it was reused."""
    root = run if isinstance(run, str) else run.id
    events = await store.events(root, after=0, limit=10_000)
    return [(e.data["name"], e.data["reused"]) for e in events if e.type == "step.finished"]


async def names(store: MemoryStore, run: Run) -> list[str]:
    return [each.name for each in await store.steps(run.id)]


async def ended(orchestrator: Orchestrator, run_id: str) -> RunRecord:
    live = orchestrator.live(run_id)
    return await live.wait() if live is not None else await orchestrator.get(run_id)


@dataclass
class Page:
    url: str
    links: tuple[str, ...] = ()


# Once


async def test_a_step_is_called_once_and_returns_what_a_replay_returns(
    desk: Desk, autojump_clock: MockClock
) -> None:
    got: list[Any] = []
    calls = 0

    async def fetch(url: str) -> Page:
        nonlocal calls
        calls += 1
        await trio.sleep(1.5)
        return Page(url, ("a", "b"))

    @agent(on_crash="restart")
    async def reader(ctx: Context) -> None:
        got.append(await ctx.step("fetch", fetch, "x"))
        await ctx.sleep(10)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(reader)
        await trio.sleep(5)
        desk.crash()
    async with open_orchestrator(agents=[reader]) as orchestrator:
        assert (await ended(orchestrator, run.id)).status is RunStatus.SUCCEEDED

    assert calls == 1
    assert got == [{"url": "x", "links": ["a", "b"]}] * 2
    assert await told(desk.store, run) == [("fetch", False), ("fetch", True)]
    events = await desk.store.events(run.id, after=0, limit=99)
    assert [e.data["seconds"] for e in events if e.type == "step.finished"] == [1.5, 0.0]


@pytest.mark.parametrize("value", [None, 0, "", [], {}, False, [None, {"é": 2**70}], 0.1 + 0.2])
async def test_any_json_is_kept(desk: Desk, autojump_clock: MockClock, value: Any) -> None:
    work, got = Work(), []

    @agent(on_crash="restart")
    async def worker(ctx: Context) -> None:
        got.append(await ctx.step("it", lambda: (work.quick(), value)[1]))
        await ctx.sleep(10)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        await trio.sleep(1)
        desk.crash()
    async with open_orchestrator(agents=[worker]) as orchestrator:
        await ended(orchestrator, run.id)
    assert (work.calls[None], got) == (1, [value, value])


async def test_a_crash_repeats_only_the_step_that_was_under_way(
    desk: Desk, autojump_clock: MockClock
) -> None:
    work = Work()

    @agent(on_crash="restart")
    async def worker(ctx: Context) -> list[str]:
        return [await ctx.step(f"step {n}", work.slow, n, 10) for n in range(5)]

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        await trio.sleep(35)
        desk.crash()
    began = trio.current_time()
    async with open_orchestrator(agents=[worker]) as orchestrator:
        record = await ended(orchestrator, run.id)
    assert trio.current_time() - began == pytest.approx(20, abs=0.1)
    assert record.result == [0, 1, 2, 3, 4]
    assert work.calls == {0: 1, 1: 1, 2: 1, 3: 2, 4: 1}
    assert [name for name, reused in await told(desk.store, run) if reused] == [
        "step 0",
        "step 1",
        "step 2",
    ]


async def test_what_a_run_does_not_need_is_not_read(desk: Desk, autojump_clock: MockClock) -> None:
    work = Work()

    @agent(on_crash="restart")
    async def worker(ctx: Context, steps: int) -> None:
        async with trio.open_nursery() as nursery:
            for n in range(steps):
                nursery.start_soon(ctx.step, str(n), work.quick, n)
        await ctx.sleep(10)

    async with open_orchestrator() as orchestrator:
        many = await orchestrator.start(worker, {"steps": 10})
        await orchestrator.start(worker, {"steps": 0})
        await trio.sleep(1)
        assert desk.store.reads == 0
        desk.crash()
    async with open_orchestrator(agents=[worker]) as orchestrator:
        await ended(orchestrator, many.id)
    # Ten at once read them once; the run without steps reads nothing.
    assert desk.store.reads == 1
    assert set(work.calls.values()) == {1}


async def steps_of(ctx: Context, store: MemoryStore) -> Steps:
    """The steps of a tree that was begun earlier, with one of them stored."""
    await store.write([SaveStep(ctx.run_id, "", "a", b'"stored"')])
    return Steps(ctx.run_id, store, fresh=False)


async def test_whoever_is_cancelled_while_reading_leaves_it_to_the_next(
    desk: Desk, autojump_clock: MockClock
) -> None:
    """Interleaving: one reads, others wait for it, and the one that reads is cancelled."""
    work, got = Work(), []

    class SlowStore(OddStore):
        async def steps(self, root_id: str) -> list[StoredStep]:
            self.reads += 1
            await trio.sleep(10)
            return await MemoryStore.steps(self, root_id)

    store = SlowStore()

    @agent
    async def worker(ctx: Context) -> None:
        steps = await steps_of(ctx, store)

        async def first() -> None:
            with trio.move_on_after(5):
                await steps.do(ctx._run, "a", work.quick)

        async def second() -> None:
            got.append(await steps.do(ctx._run, "a", work.quick))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.sleep(6)
            nursery.start_soon(second)

    async with open_orchestrator() as orchestrator:
        assert (await (await orchestrator.start(worker)).wait()).error is None
    assert (got, store.reads, work.calls) == (["stored"], 2, {})


async def test_steps_that_cannot_be_read_are_read_the_next_time(
    desk: Desk, autojump_clock: MockClock
) -> None:
    work = Work()

    class RefusingStore(OddStore):
        async def steps(self, root_id: str) -> list[StoredStep]:
            self.reads += 1
            if self.reads == 1:
                raise StoreUnavailable("the disk reports an error")
            return await MemoryStore.steps(self, root_id)

    @agent
    async def worker(ctx: Context) -> Any:
        steps = await steps_of(ctx, RefusingStore())
        with pytest.raises(StoreUnavailable, match="reports an error"):
            await steps.do(ctx._run, "a", work.quick)
        return await steps.do(ctx._run, "a", work.quick)

    async with open_orchestrator() as orchestrator:
        assert (await (await orchestrator.start(worker)).wait()).result == "stored"
    assert work.calls == {}


# Stops


async def test_a_stop_while_the_function_runs_leaves_the_step_undone(
    desk: Desk, autojump_clock: MockClock
) -> None:
    work = Work()

    @agent
    async def worker(ctx: Context) -> None:
        await ctx.step("a", work.quick)
        await ctx.step("b", work.slow, "b", 100)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        await trio.sleep(1)
        receipt = await run.stop()
        assert receipt.seconds == pytest.approx(0, abs=0.1)
    assert await names(desk.store, run) == ["a"]
    assert await told(desk.store, run) == [("a", False)]


async def test_a_stop_between_done_and_stored_is_settled_in_favour_of_the_step(
    desk: Desk, autojump_clock: MockClock
) -> None:
    """Interleaving: the function has returned, the store holds its write, the stop comes."""
    work, seen = Work(), []

    @agent
    async def worker(ctx: Context) -> None:
        try:
            seen.append(await ctx.step("a", work.slow, "a"))
        finally:
            seen.append(trio.current_time())

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        desk.store.held = trio.Event()
        await trio.sleep(2)
        run.request_stop()
        await trio.sleep(1)
        assert seen == []
        desk.store.held.set()
        await run.ended.wait()

    # The agent's code goes no further, and yet the step is done.
    assert seen == [pytest.approx(3, abs=0.1)]
    receipt = run.receipt
    assert receipt is not None
    assert (receipt.reached, receipt.cleanup_errors) == ("graceful", ())
    assert await names(desk.store, run) == ["a"]
    events = await desk.store.events(run.id, after=2, limit=99)
    assert [e.type for e in events] == ["step.finished", "run.stopping", "run.stopped"]


async def test_a_store_that_hangs_holds_a_stop_for_the_time_of_cleanup_at_most(
    desk: Desk, autojump_clock: MockClock
) -> None:
    work, left = Work(), []

    @agent(cleanup_s=CLEANUP_S)
    async def worker(ctx: Context) -> None:
        try:
            await ctx.step("a", work.slow, "a")
        finally:
            left.append(trio.current_time())

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        desk.store.held = trio.Event()
        await trio.sleep(2)
        run.request_stop()
        await trio.sleep(20)
        # Counted from when the function returned, which was one second before the stop.
        assert left == [pytest.approx(1 + CLEANUP_S, abs=0.1)]
        assert run.record.status is RunStatus.STOPPED
        assert not run.ended.is_set()
        desk.store.held.set()
        await run.ended.wait()
    assert run.record.stop is not None
    assert run.record.stop.reached == "graceful"
    assert await names(desk.store, run) == ["a"]


async def test_no_step_returns_before_it_is_stored(desk: Desk, autojump_clock: MockClock) -> None:
    work = Work()

    @agent
    async def worker(ctx: Context) -> float:
        await ctx.step("a", work.quick)
        assert await names(desk.store, run) == ["a"]
        return trio.current_time()

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        desk.store.failing = True
        await trio.sleep(60)
        assert not run.exited.is_set()
        desk.store.failing = False
        record = await run.wait()
    assert record.result == pytest.approx(60, abs=0.5)
    assert await told(desk.store, run) == [("a", False)]
    assert work.calls[None] == 1


async def test_a_stop_while_the_store_fails_is_at_once_and_the_step_is_stored_later(
    desk: Desk, autojump_clock: MockClock
) -> None:
    work, left = Work(), []

    @agent
    async def worker(ctx: Context) -> None:
        try:
            await ctx.step("a", work.slow, "a", 9)
        finally:
            left.append(trio.current_time())

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        desk.store.failing = True
        await trio.sleep(10)
        run.request_stop()
        await trio.sleep(3)
        assert left == [pytest.approx(10, abs=0.1)]
        assert await names(desk.store, run) == []
        desk.store.failing = False
        await run.ended.wait()
    assert await names(desk.store, run) == ["a"]


async def test_a_step_that_nobody_waited_for_is_not_done_again(
    desk: Desk, autojump_clock: MockClock
) -> None:
    """Interleaving: done, not stored yet, given up by the agent; then asked for again."""
    work = Work()

    @agent
    async def impatient(ctx: Context) -> list[Any]:
        with trio.move_on_after(1):
            await ctx.step("a", work.quick, "x")
        return [await ctx.step("a", work.quick, "y"), trio.current_time()]

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(impatient)
        desk.store.failing = True
        await trio.sleep(30)
        desk.store.failing = False
        record = await run.wait()
    assert record.result == ["x", pytest.approx(30, abs=0.5)]
    assert work.calls == {"x": 1}
    assert await names(desk.store, run) == ["a"]
    assert await told(desk.store, run) == [("a", False), ("a", True)]


@pytest.mark.parametrize("held", ["reading", "admitted"])
async def test_no_function_is_called_after_a_stop(
    desk: Desk, autojump_clock: MockClock, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interleaving: the stop comes while the stored steps are read, in a thread perhaps."""
    work, reading = Work(), trio.Event()

    @agent(on_crash="restart")
    async def worker(ctx: Context) -> None:
        await ctx.step("a", work.quick)

    async def read(self: OddStore, root_id: str) -> list[StoredStep]:
        reading.set()
        with trio.CancelScope(shield=True):
            await trio.sleep(5)
        return []

    if held == "reading":
        monkeypatch.setattr(OddStore, "steps", read)
    record = RunRecord(
        id=RunId("r"), root_id=RunId("r"), agent="worker", created_at=AT, started_at=AT, input={},
        options=worker.options, status=RunStatus.RUNNING,
    )  # fmt: skip
    await desk.store.write([SaveRun(record)])
    async with open_orchestrator(agents=[worker]) as orchestrator:
        run = orchestrator.live("r")
        assert run is not None
        if held == "reading":
            await reading.wait()
        await run.stop()
    assert work.calls == {}
    assert run.record.status is RunStatus.STOPPED


async def test_a_critical_section_keeps_a_step_whole(desk: Desk, autojump_clock: MockClock) -> None:
    work, got = Work(), []

    @agent
    async def payer(ctx: Context) -> None:
        with ctx.critical("pay", 60):
            got.append(await ctx.step("pay", work.slow, "paid", 10))
        await ctx.step("more", work.quick)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(payer)
        await trio.sleep(1)
        receipt = await run.stop()
    assert got == ["paid"]
    assert receipt.seconds == pytest.approx(9, abs=0.1)
    assert await names(desk.store, run) == ["pay"]
    assert work.calls == {"paid": 1}


@pytest.mark.parametrize(
    ("more", "grace_s", "stored"),
    [(False, 30, ["a"]), (True, 30, []), (False, 5, [])],
    ids=["last", "not last", "cut"],
)
async def test_an_operation_in_flight_that_finishes_last_makes_the_step_done(
    desk: Desk, autojump_clock: MockClock, more: bool, grace_s: float, stored: list[str]
) -> None:
    """What was paid for is kept; but nothing more is awaited, and what was cut is not done."""
    done: list[str] = []

    @agent
    async def worker(ctx: Context) -> None:
        async def call() -> str:
            async with ctx.operation("llm"):
                await trio.sleep(10)
                done.append("operation")
            if more:
                await trio.lowlevel.checkpoint()
                done.append("more")
            return "x"

        await ctx.step("a", call)
        done.append("after the step")

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        await trio.sleep(1)
        receipt = await run.stop(grace_s=grace_s)
    assert done == (["operation"] if grace_s > 10 else [])
    assert (receipt.operations.finished, receipt.operations.cut) == ((1, 0) if done else (0, 1))
    assert await names(desk.store, run) == stored


async def test_a_discarding_stop_takes_the_steps(desk: Desk, autojump_clock: MockClock) -> None:
    work = Work()

    @agent
    async def worker(ctx: Context) -> None:
        await ctx.step("a", work.quick)
        await ctx.sleep(100)

    async with open_orchestrator() as orchestrator:
        kept, discarded = [await orchestrator.start(worker) for _ in range(2)]
        await trio.sleep(1)
        await kept.stop()
        await discarded.stop(discard=True)
    assert (await names(desk.store, kept), await names(desk.store, discarded)) == (["a"], [])


# Names and results


async def failing_with(error: type[BaseException], body: Callable[[Context], Any]) -> str:
    """Run the body as an agent; it must raise the error. Returns what that says."""

    @agent
    async def wrong(ctx: Context) -> str:
        with pytest.raises(error) as caught:
            await body(ctx)
        return str(caught.value)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(wrong)
        record = await run.wait()
    assert record.status is RunStatus.SUCCEEDED, record.error
    return str(record.result)


async def test_a_name_that_is_used_twice_is_refused() -> None:
    work = Work()

    async def body(ctx: Context) -> None:
        await ctx.step("page", work.quick, 1)
        await ctx.step("page", work.quick, 2)

    assert await failing_with(InvalidInput, body) == (
        'step page: is used twice in this run; give each step its own name, such as f"page {n}"'
    )
    assert work.calls == {1: 1}


async def test_a_name_that_is_used_at_the_same_time_is_refused() -> None:
    work = Work()

    async def body(ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ctx.step, "page", work.slow, 1, 0.01)
            await wait_all_tasks_blocked()
            try:
                await ctx.step("page", work.quick, 2)
            finally:
                nursery.cancel_scope.cancel()

    @agent
    async def once(ctx: Context) -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await body(ctx)
        assert caught.group_contains(InvalidInput, match="is used twice", depth=1)

    async with open_orchestrator() as orchestrator:
        assert (await (await orchestrator.start(once)).wait()).error is None
    assert work.calls == {1: 1}


async def test_a_step_that_failed_may_be_tried_again(desk: Desk, autojump_clock: MockClock) -> None:
    tries = 0

    def flaky() -> str:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("no route")
        return "there"

    @agent
    async def stubborn(ctx: Context) -> str:
        for _ in range(2):
            with pytest.raises(OSError, match="no route"):
                await ctx.step("fetch", flaky)
        with trio.move_on_after(1) as limit:
            await ctx.step("fetch", trio.sleep, 5)
        assert limit.cancelled_caught
        return str(await ctx.step("fetch", flaky))

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(stubborn)
        assert (await run.wait()).result == "there"
    assert await told(desk.store, run) == [("fetch", False)]


async def test_runs_of_a_tree_have_names_of_their_own(
    desk: Desk, autojump_clock: MockClock
) -> None:
    work = Work()

    @agent
    async def child(ctx: Context, n: int) -> Any:
        return await ctx.step("same", work.quick, n)

    @agent
    async def parent(ctx: Context) -> list[Any]:
        below = await ctx.map(child, [{"n": n} for n in (1, 2, 2)])
        return [*below, await ctx.step("same", work.quick, 0)]

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        assert (await run.wait()).result == [1, 2, 2, 0]
    stored = await desk.store.steps(run.id)
    assert len({each.path for each in stored}) == 4


@pytest.mark.parametrize("result", [object(), {1, float("nan")}, lambda: 1, float("inf")])
async def test_a_result_that_is_not_json_is_refused(desk: Desk, result: object) -> None:
    async def body(ctx: Context) -> None:
        await ctx.step("odd", lambda: result)

    said = await failing_with(InvalidInput, body)
    assert said.startswith("step odd: its result is not JSON: ")
    assert said.endswith("; return what has a JSON form: plain values, dataclasses, models, dates")
    (run,) = (await desk.store.page(RunFilter(), after=None, limit=9)).runs
    assert await desk.store.steps(run.id) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "name: has 0 characters, but the name of a step has 1 to 200"),
        ("x" * 201, "name: has 201 characters, but"),
        ("ask:1", "name: 'ask:1' begins with 'ask:', which is kept for answers of people"),
        ("a\udcff", "has characters that are no text"),
        (7, "name: must be a string, not int"),
    ],
)
async def test_a_name_that_does_not_fit_is_refused(name: Any, why: str) -> None:
    assert why in await failing_with(InvalidInput, lambda ctx: ctx.step(name, print))


async def test_a_name_of_200_characters_fits() -> None:
    @agent
    async def worker(ctx: Context) -> Any:
        return await ctx.step("é" * 200, lambda: 1)

    async with open_orchestrator() as orchestrator:
        assert (await (await orchestrator.start(worker)).wait()).result == 1


async def test_what_is_no_function_is_refused() -> None:
    async def fetch() -> None: ...

    said = await failing_with(TypeError, lambda ctx: ctx.step("a", fetch()))  # type: ignore[arg-type]
    assert said == "pass the function to ctx.step, not the coroutine of a call of it"
    assert "needs a function" in await failing_with(TypeError, lambda ctx: ctx.step("a", 5))  # type: ignore[arg-type]


async def test_a_step_inside_an_operation_is_refused() -> None:
    async def body(ctx: Context) -> None:
        async with ctx.operation("llm"):
            await ctx.step("a", print)

    said = await failing_with(OperationsAreLeaves, body)
    assert "step 'a' was started inside the operation 'llm'" in said


async def test_steps_may_hold_steps_operations_and_sub_agents(
    desk: Desk, autojump_clock: MockClock
) -> None:
    @agent
    async def child(ctx: Context) -> Any:
        return await ctx.step("inner", lambda: "child")

    @agent
    async def parent(ctx: Context) -> Any:
        async def outer() -> list[Any]:
            async with ctx.operation("llm"):
                await trio.sleep(1)
            return [await ctx.step("inner", lambda: "own"), await ctx.call(child)]

        return await ctx.step("outer", outer)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        assert (await run.wait()).result == ["own", "child"]
    assert await names(desk.store, run) == ["inner", "inner", "outer"]


# Sub-agents


@pytest.mark.parametrize("second", [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]])
async def test_sub_agents_find_their_steps_again_in_whatever_order_they_start(
    desk: Desk, autojump_clock: MockClock, second: list[int]
) -> None:
    work = Work()
    order = [0, 1, 2, 3]

    @agent
    async def child(ctx: Context, n: int) -> list[Any]:
        first = await ctx.step("first", work.slow, f"{n} first", n * 10)
        return [first, await ctx.step("second", work.slow, f"{n} second", 10)]

    @agent(on_crash="restart")
    async def parent(ctx: Context) -> list[Any]:
        return await ctx.map(child, [{"n": n} for n in order])

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        await trio.sleep(25)
        desk.crash()
    order = second
    async with open_orchestrator(agents=[parent, child]) as orchestrator:
        record = await ended(orchestrator, run.id)
    assert record.result == [[f"{n} first", f"{n} second"] for n in second]
    again = {what for what, calls in work.calls.items() if calls == 2}
    # Which steps were under way after 25 seconds.
    assert again == {"2 second", "3 first"}


async def test_equal_sub_agents_are_interchangeable(desk: Desk, autojump_clock: MockClock) -> None:
    work = Work()

    @agent
    async def child(ctx: Context) -> Any:
        return await ctx.step("a", work.slow, "a", 10)

    @agent(on_crash="restart")
    async def parent(ctx: Context) -> list[Any]:
        return [await ctx.call(child) for _ in range(4)]

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        await trio.sleep(25)
        desk.crash()
    async with open_orchestrator(agents=[parent, child]) as orchestrator:
        assert (await ended(orchestrator, run.id)).result == ["a"] * 4
    assert work.calls == {"a": 5}


@pytest.mark.parametrize("nested", [False, True])
async def test_a_sub_agent_in_a_step_that_is_reused_does_not_stand_for_another(
    desk: Desk, autojump_clock: MockClock, nested: bool
) -> None:
    """Otherwise the second one would be the first that starts, and find the steps of that."""
    count = 0

    def next_number() -> int:
        nonlocal count
        count += 1
        return count

    @agent
    async def child(ctx: Context) -> Any:
        number = await ctx.step("number", next_number)
        await ctx.sleep(10)
        return number

    @agent(on_crash="restart")
    async def parent(ctx: Context) -> list[Any]:
        within = await ctx.step("one", ctx.call, child)
        return [within, await ctx.call(child)]

    @agent(on_crash="restart")
    async def grandparent(ctx: Context) -> Any:
        return await ctx.step("one", ctx.call, parent)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(grandparent if nested else parent)
        await trio.sleep(15)
        desk.crash()
    async with open_orchestrator(agents=[grandparent, parent, child]) as orchestrator:
        assert (await ended(orchestrator, run.id)).result == [1, 2]
    assert count == 2


async def test_a_sub_agent_that_is_called_again_does_its_steps_again(
    desk: Desk, autojump_clock: MockClock
) -> None:
    work = Work()

    @agent
    async def child(ctx: Context) -> None:
        await ctx.step("a", work.quick)
        if work.calls[None] == 1:
            raise OSError

    @agent
    async def parent(ctx: Context) -> None:
        with pytest.raises(AgentFailed):
            await ctx.call(child)
        await ctx.call(child)

    async with open_orchestrator() as orchestrator:
        assert (await (await orchestrator.start(parent)).wait()).error is None
    assert work.calls[None] == 2


def paths(*calls: tuple[str, str, Any]) -> list[str]:
    steps = Steps(RunId("r"), MemoryStore(), fresh=True)
    return [steps.child_path(*call) for call in calls]


def test_paths_tell_sub_agents_apart() -> None:
    calls = [("", "a", {}), ("", "b", {}), ("", "a", {"x": 1}), ("/a", "a", {}), ("", "a", {})]
    assert len(set(paths(*calls))) == len(calls)
    assert paths(*calls)[4] == paths(*calls)[0] + ":2"
    assert paths(*reversed(calls[:4])) == paths(*calls[:4])[::-1]
    assert paths(("", "a", {"x": 1, "y": 2})) == paths(("", "a", {"y": 2, "x": 1}))
    # What they are is part of the file: a later version must find the steps of this one.
    assert paths(("/p", "a", {"n": [1, "é"]})) == ["/p/a:13c698bb9ba2"]


# Answers of people, and reruns


async def test_a_recorded_value_is_recalled(autojump_clock: MockClock) -> None:
    got: list[Any] = []

    @agent
    async def asker(ctx: Context) -> None:
        run = ctx._run
        steps = Steps(run.id, run.store, fresh=False)
        got.append(await steps.recall(run, "ask:1"))
        write = steps.record(run, "ask:1", {"yes": None})
        assert write == SaveStep(run.id, "", "ask:1", b'{"yes":null}')
        got.append(await steps.recall(run, "ask:1"))
        with pytest.raises(InvalidInput, match="step ask:1: has its value already"):
            steps.record(run, "ask:1", 2)

    async with open_orchestrator() as orchestrator:
        record = await (await orchestrator.start(asker)).wait()
    assert record.error is None
    assert got == [(False, None), (True, {"yes": None})]


async def test_a_rerun_reuses_what_was_stored_before_its_first_step() -> None:
    store = MemoryStore()
    given = [("", "a"), ("/x", "b"), ("/x", "a"), ("", "b"), ("", "c")]
    await store.write([step("r", name, path=path) for path, name in given])
    stored = [StoredStep(path, name, b"1") for path, name in given]
    assert await before(store, "r", "last") == stored
    assert await before(store, "r", "a") == []
    assert await before(store, "r", "b") == stored[:1]
    assert await before(store, "r", "c") == stored[:4]
    assert await before(store, "other", "last") == []


@pytest.mark.parametrize(
    ("count", "listed"),
    [
        (0, "stored steps: none; 'last' reuses all"),
        (2, "stored steps: '0', '1'; 'last' reuses all"),
        (21, "'18', '19', …; 'last' reuses all"),
    ],
)
async def test_a_rerun_from_an_unknown_step_is_refused(count: int, listed: str) -> None:
    store = MemoryStore()
    await store.write([step("r", str(n)) for n in range(count)])
    with pytest.raises(InvalidInput, match="no step 'x' is stored") as caught:
        await before(store, "r", "x")
    ((field, why),) = caught.value.problems
    assert field == "from_step"
    assert why.endswith(listed)


# A process that dies


def write_down(path: str, word: str) -> str:
    """Leave a trace that no crash takes away."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{word}\n".encode())
    os.close(fd)
    return word


def write_down_and_die_once(path: str, word: str) -> str:
    write_down(path, word)
    if Path(path).read_text().split().count(word) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return word


@agent
async def grandchild(ctx: Context, path: str, word: str) -> list[Any]:
    return [
        await ctx.step("before", write_down, path, f"{word}-before"),
        await ctx.step("dying", write_down_and_die_once, path, f"{word}-dying"),
    ]


@agent(on_crash="restart", max_attempts=9)
async def family(ctx: Context, path: str) -> list[Any]:
    one = await ctx.step("one", write_down, path, "one")
    # One after the other, since each of them takes the process with it.
    below = [await ctx.call(grandchild, path=path, word=word) for word in ("x", "y")]
    return [one, *below, await ctx.step("end", write_down_and_die_once, path, "end")]


async def begin(url: str, path: str) -> None:
    async with open_orchestrator(url) as orchestrator:
        await (await orchestrator.start(family, {"path": path})).wait()


async def go_on(url: str) -> Any:
    async with open_orchestrator(url, agents=[family, grandchild]) as orchestrator:
        (record,) = [r for r in (await orchestrator.runs()).runs if r.parent_id is None]
        return (await ended(orchestrator, record.id)).result


def killed(scenario: Callable[..., Any], *args: str) -> bool:
    command = [sys.executable, "-m", "tests.race.isolated", "real", __name__, scenario.__name__]
    folder = Path(__file__).parents[2]
    done = subprocess.run([*command, *args], cwd=folder, timeout=30, check=False)
    return done.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_what_was_done_before_a_kill_is_never_done_again(tmp_path: Path) -> None:
    url, path = f"sqlite:///{tmp_path}/runs.db", str(tmp_path / "traces")
    assert killed(begin, url, path)
    assert killed(go_on, url)
    assert killed(go_on, url)
    assert alone(go_on, url, virtual=False) == [
        "one",
        ["x-before", "x-dying"],
        ["y-before", "y-dying"],
        "end",
    ]
    # Only what the process died in was done twice.
    assert Counter(Path(path).read_text().split()) == {
        "one": 1,
        "x-before": 1,
        "x-dying": 2,
        "y-before": 1,
        "y-dying": 2,
        "end": 2,
    }

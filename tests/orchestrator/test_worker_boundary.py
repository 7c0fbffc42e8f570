"""A run whose agent is at the other end of a pipe: the same verbs, the same truth.

The other end is a task here, so that time is virtual; real processes are tested beside.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from orchestrator import (
    AgentFailed,
    AgentStopped,
    Context,
    InvalidInput,
    Orchestrator,
    Run,
    RunStatus,
    StopMode,
    StopOutcome,
    agent,
    current_context,
)
from orchestrator.clock import utc_now
from orchestrator.store import open_store
from orchestrator.worker.child import serve
from orchestrator.worker.stage import OnTrio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

    from orchestrator import ProcessLimits
    from orchestrator.worker.wire import Message

did: list[str] = []


class TaskAsProcess:
    """What the driver needs of a process, as a task of this one."""

    def __init__(self, nursery: trio.Nursery, spec: Message) -> None:
        self.control, theirs = trio.testing.memory_stream_pair()
        self.stdout, self._out = trio.testing.memory_stream_one_way_pair()[::-1]
        self.stderr, self._err = trio.testing.memory_stream_one_way_pair()[::-1]
        self.pid = 1
        self.exited = trio.Event()
        self.death: Any = None
        self.terminated = 0
        self.scope = trio.CancelScope()
        nursery.start_soon(self._run, theirs, spec)

    async def _run(self, theirs: trio.StapledStream[Any, Any], spec: Message) -> None:
        with self.scope:
            await serve(theirs, spec, OnTrio())
        for stream in (theirs, self._out, self._err):
            await trio.aclose_forcefully(stream)
        self.exited.set()

    def terminate(self) -> None:
        self.terminated += 1

    def close_streams(self) -> None:
        """Nothing: they are memory."""

    async def kill(self) -> tuple[int, ...]:
        living = not self.exited.is_set()
        self.scope.cancel()
        await self.exited.wait()
        return (1,) if living else ()


class Tasks:
    """Starts such processes."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.started: list[TaskAsProcess] = []

    async def start(
        self, spec: Message, limits: ProcessLimits, spare: trio.CapacityLimiter | None
    ) -> TaskAsProcess:
        await trio.lowlevel.checkpoint()
        self.started.append(TaskAsProcess(self._nursery, spec))
        return self.started[-1]

    def close(self) -> None:
        """Nothing: they end by themselves."""


@asynccontextmanager
async def opened() -> AsyncIterator[tuple[Orchestrator, Tasks]]:
    """An orchestrator whose workers are tasks."""
    did.clear()
    async with open_store("memory://") as store, trio.open_nursery() as nursery:
        tasks = Tasks(nursery)
        orchestrator = Orchestrator(store, nursery, [], utc_now)
        orchestrator._services = replace(orchestrator._services, workers=tasks)  # type: ignore[arg-type]
        await orchestrator._open()
        try:
            yield orchestrator, tasks
        finally:
            await orchestrator._close(StopMode.GRACEFUL)
            nursery.cancel_scope.cancel()


@agent(isolation="process")
async def adder(ctx: Context, a: int, b: int = 1) -> int:
    """Add, and tell of it."""
    assert current_context() is ctx
    await ctx.progress(50, "half")
    await ctx.log("adding")
    await ctx.emit("sum.made", {"sum": a + b})
    await ctx.partial({"so": "far"})
    await ctx.artifact("sum.txt", str(a + b).encode(), media_type="text/plain")
    return a + b


@agent(isolation="process")
async def operator(ctx: Context, times: int = 3) -> str:
    """Do operations of a second each."""
    for n in range(times):
        async with ctx.operation("op", str(n)):
            did.append(f"{n} began")
            await trio.sleep(1)
            did.append(f"{n} ended")
    return "done"


@agent(isolation="process")
async def failing(ctx: Context) -> None:
    """Fail."""
    raise ValueError("no luck")


@agent
async def inner(ctx: Context, name: str) -> str:
    """Work in a task of the orchestrator's."""
    async with ctx.operation("op", name):
        await trio.sleep(1)
    if name == "bad":
        raise ValueError("bad name")
    return f"inner {name}"


@agent(isolation="process")
async def parent(ctx: Context, name: str = "x") -> list[Any]:
    """Call sub-agents from the worker."""
    found: list[Any] = [await ctx.call(inner, name=name)]
    found += await ctx.map("inner", [{"name": "a"}, {"name": "b"}], limit=2)
    child = await ctx.start(adder, a=1)
    found.append(await child.wait())
    return found


@agent(isolation="process")
async def careful(ctx: Context) -> None:
    """Register compensations and wait."""

    async def undo(name: str) -> None:
        async with ctx.operation("op", name):
            await trio.sleep(1)
            did.append(f"undid {name}")

    ctx.on_stop(undo, "one")
    ctx.on_stop(undo, "two")
    try:
        await ctx.sleep(1000)
    finally:
        with ctx.cleanup():
            await trio.sleep(1)
            did.append("cleaned up")


async def test_what_it_tells_and_returns_arrives(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, _):
        run = await orchestrator.start(adder, {"a": 2})
        record = await run.wait()
        assert (record.status, record.result) == (RunStatus.SUCCEEDED, 3)
        assert (record.progress.percent, record.progress.message) == (50, "half")
        events = await orchestrator.store.events(run.id, after=0, limit=100)
        assert [event.type for event in events] == [
            "run.queued",
            "run.started",
            "run.progress",
            "run.log",
            "sum.made",
            "run.partial",
            "run.artifact",
            "run.succeeded",
        ]
        assert await orchestrator.partial(run.id) == {"so": "far"}
        assert await orchestrator.artifact(run.id, "sum.txt") == b"3"


async def test_its_failure_arrives_with_its_traceback(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, _):
        record = await (await orchestrator.start(failing)).wait()
        assert record.error is not None
        assert (record.status, record.error.type) == (RunStatus.FAILED, "ValueError")
        assert record.error.message == "no luck"
        assert "test_worker_boundary.py" in record.error.traceback


@pytest.mark.parametrize(
    ("mode", "took", "ended"),
    [("graceful", 0.5, ["0 began", "0 ended"]), ("now", 0, ["0 began"]), ("kill", 0, ["0 began"])],
)
async def test_a_stop_lets_finish_or_cuts_what_is_in_flight(
    autojump_clock: MockClock, mode: str, took: float, ended: list[str]
) -> None:
    async with opened() as (orchestrator, _):
        run = await orchestrator.start(operator)
        await trio.sleep(0.5)
        began = trio.current_time()
        receipt = await run.stop(mode=mode)
        assert trio.current_time() - began == pytest.approx(took, abs=0.1)
        assert (receipt.outcome, receipt.processes_killed) == (StopOutcome.STOPPED, 0)
        counted = receipt.operations
        assert (counted.finished, counted.cut) == ((1, 0) if mode == "graceful" else (0, 1))
        assert did == ended


async def test_sub_agents_are_runs_of_the_same_tree(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, tasks):
        run = await orchestrator.start(parent)
        assert (await run.wait()).result == ["inner x", "inner a", "inner b", 2]
        tree = await orchestrator.tree(run.id)
        assert sorted(record.agent for record in tree) == [
            "adder",
            "inner",
            "inner",
            "inner",
            "parent",
        ]
        assert all(record.root_id == run.id for record in tree)
        assert len(tasks.started) == 2


async def test_a_failure_of_a_sub_agent_arrives(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, _):
        record = await (await orchestrator.start(parent, {"name": "bad"})).wait()
        assert record.error is not None
        assert record.error.type == AgentFailed.__name__
        assert "ValueError: bad name" in record.error.message


async def test_a_stop_takes_the_sub_agents_first(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, _):
        run = await orchestrator.start(parent)
        await trio.sleep(0.5)
        receipt = await run.stop(grace_s=0.2)
        assert (receipt.outcome, receipt.runs_stopped) == (StopOutcome.STOPPED, 2)
        events = await orchestrator.store.events(run.id, after=0, limit=100)
        assert [e.run_id == run.id for e in events if e.type == "run.stopped"] == [False, True]


@agent(isolation="process")
async def forgiving(ctx: Context) -> str:
    """Go on when a sub-agent is stopped alone."""
    try:
        await ctx.call(inner, name="x")
    except AgentStopped as error:
        return f"{error.receipt.source}: {error.receipt.reason}"
    return "nobody was stopped"


async def test_a_child_that_is_stopped_alone_is_an_error_to_its_parent(
    autojump_clock: MockClock,
) -> None:
    async with opened() as (orchestrator, _):
        run = await orchestrator.start(forgiving)
        await trio.sleep(0.5)
        (child,) = run.children
        child.request_stop(mode="now", reason="alone")
        assert (await run.wait()).result == "user: alone"


async def test_clean_up_and_compensations_run_there_in_order(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, _):
        run = await orchestrator.start(careful)
        await trio.sleep(1)
        receipt = await run.stop()
        assert did == ["cleaned up", "undid two", "undid one"]
        assert (receipt.outcome, receipt.cleanup_errors) == (StopOutcome.STOPPED, ())
        assert receipt.seconds == pytest.approx(3, abs=0.1)


async def test_pause_and_resume(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, _):
        run = await orchestrator.start(operator)
        await trio.sleep(0.5)
        run.request_pause()
        await trio.sleep(100)
        assert run.record.status is RunStatus.PAUSED
        assert did == ["0 began", "0 ended"]
        run.request_resume()
        assert (await run.wait()).result == "done"


@agent(isolation="process")
async def stubborn(ctx: Context) -> None:
    """Shield for ever."""
    with trio.CancelScope(shield=True):
        await trio.sleep(10_000)


async def test_code_that_does_not_exit_is_killed(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, tasks):
        run = await orchestrator.start(stubborn, cleanup_s=5)
        await trio.sleep(1)
        # The fake process cannot be ended by force either, so it is let go here.
        tasks.started[0].kill = fake_kill(tasks.started[0])  # type: ignore[method-assign]
        receipt = await run.stop(grace_s=1)
        assert (receipt.outcome, receipt.reached) == (StopOutcome.STOPPED, StopMode.KILL)
        assert receipt.processes_killed == 1
        assert receipt.seconds == pytest.approx(5.5, abs=0.1)
        assert tasks.started[0].terminated == 1


def fake_kill(process: TaskAsProcess) -> Any:
    """A kill that closes the pipe, as the death of a process does."""

    async def kill() -> tuple[int, ...]:
        first = not process.exited.is_set()
        process.exited.set()
        process.scope.shield = False
        for stream in (process.control, process._out, process._err):
            await trio.aclose_forcefully(stream)
        return (1,) if first else ()

    return kill


@agent(isolation="process")
async def asking(ctx: Context) -> Any:
    """Ask, keep data, and do steps."""
    await ctx.data.set("k", [1])
    first = await ctx.step("one", lambda: {"n": 1})
    answer = await ctx.ask("Which?", int)
    return [await ctx.data.get("k"), await ctx.data.list(), first, answer]


async def test_data_steps_and_questions(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, _):
        run = await orchestrator.start(asking)
        while run.record.waiting_for is None:
            await trio.sleep(0.01)
        question_id = run.record.waiting_for.id
        with pytest.raises(InvalidInput):
            run.answer(question_id, "no number")
        run.answer(question_id, 7)
        assert (await run.wait()).result == [[1], ["k"], {"n": 1}, 7]
        stored = await orchestrator.store.steps(run.id)
        assert [step.name for step in stored] == ["one", f"ask:{question_id}"]


async def test_a_limit_of_the_agents_own_around_an_operation(autojump_clock: MockClock) -> None:
    async with opened() as (orchestrator, _):
        run: Run = await orchestrator.start(limited)
        assert (await run.wait()).result == [True, "inner y"]
        events = await orchestrator.store.events(run.id, after=0, limit=100)
        assert "operation.cut" in [event.type for event in events]


@agent(isolation="process")
async def limited(ctx: Context) -> list[Any]:
    """Give up on an operation and on a sub-agent, and go on."""
    with trio.move_on_after(0.5) as first:
        async with ctx.operation("op", "long"):
            await trio.sleep(10)
    with trio.move_on_after(0.5):
        await ctx.call(inner, name="x")
    return [first.cancelled_caught, await ctx.call(inner, name="y")]


async def test_an_agent_that_no_process_can_import_is_refused(autojump_clock: MockClock) -> None:
    @agent(isolation="process")
    async def local(ctx: Context) -> None:
        """Nothing."""

    async with opened() as (orchestrator, _):
        record = await (await orchestrator.start(local)).wait()
        assert record.error is not None
        assert "move it to the top level of a module" in record.error.message


@agent(isolation="process")
async def absurd(ctx: Context, what: str) -> None:
    """Call the context with what fits nothing."""
    child = await ctx.start(inner, name="x")
    match what:
        case "digits":
            ctx.spend(input_tokens=10**5_000)
        case "dollars":
            ctx.spend(cost=10**400)
        case "schema":
            await ctx.ask("Which?", {"maximum": 10**5_000})
        case "object":
            await ctx.ask("Which?", {"const": object()})
        case "NaN":
            await ctx.ask("Which?", {"const": math.nan})
        case "within":
            await ctx.ask("Which?", within_s="5")  # type: ignore[arg-type]
        case "file":
            await ctx.file(object())  # type: ignore[arg-type]
        case "reason":
            await child.stop(reason=object())  # type: ignore[arg-type]
        case "grace":
            await child.stop(grace_s="5")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("digits", "input_tokens: is more than can be spent"),
        ("dollars", f"cost: 1{99 * '0'}… is no sum of dollars"),
        ("schema", "schema: is not JSON: "),
        ("object", "schema: is not JSON: "),
        ("NaN", "schema: is not JSON: "),
        ("within", "within_s: must be 0 or more seconds, not '5'"),
        ("file", "name: must be a string, not object"),
        ("reason", "reason: must be a string, not object"),
        ("grace", "grace_s: must be 0 or more seconds, not '5'"),
    ],
)
async def test_absurd_values_are_refused_where_they_are_given(
    autojump_clock: MockClock, what: str, why: str
) -> None:
    """Sent on, they would be taken for garbage of the agent's code, and end the worker."""
    async with opened() as (orchestrator, _):
        record = await (await orchestrator.start(absurd, {"what": what})).wait()
        assert record.error is not None
        assert record.error.type == InvalidInput.__name__, record.error.message
        assert record.error.message.startswith(why)

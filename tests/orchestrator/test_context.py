"""What an agent can ask of its context."""

from __future__ import annotations

import contextvars
import math
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orchestrator import (
    AgentFailed,
    Context,
    InvalidInput,
    OperationsAreLeaves,
    Orchestrator,
    OrchestratorError,
    RunStatus,
    UnknownAgent,
    agent,
    current_context,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock


@agent
async def double(ctx: Context, n: int) -> int:
    await ctx.sleep(n)
    return 2 * n


@agent
async def failing(ctx: Context) -> None:
    raise ValueError("as asked")


async def result_of(orchestrator: Orchestrator, body: Callable[[Context], Awaitable[Any]]) -> Any:
    """Run the body as an agent; return its result, or raise what it raised."""

    @agent
    async def doer(ctx: Context) -> Any:
        return await body(ctx)

    run = await orchestrator.start(doer)
    record = await run.wait()
    if run.failure is not None:
        raise run.failure
    assert record.status is RunStatus.SUCCEEDED
    return record.result


async def test_call_returns_what_the_sub_agent_returns(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    assert await result_of(orchestrator, lambda ctx: ctx.call(double, n=21)) == 42


async def test_map_keeps_the_order_and_the_limit(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    async def body(ctx: Context) -> Any:
        began = trio.current_time()
        doubled = await ctx.map(double, [{"n": n} for n in (3, 2, 1, 3)], limit=2)
        return [doubled, round(trio.current_time() - began)]

    # Two at a time: 3 beside 2, then 1, then the last 3 beside nothing: 3 + 3.
    assert await result_of(orchestrator, body) == [[6, 4, 2, 6], 6]


async def test_map_of_nothing_is_nothing(orchestrator: Orchestrator) -> None:
    assert await result_of(orchestrator, lambda ctx: ctx.map(double, [])) == []


async def test_the_first_failure_ends_a_map(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def picky(ctx: Context, n: int) -> None:
        await ctx.sleep(n)
        raise ValueError(f"number {n}")

    began = trio.current_time()
    with pytest.raises(AgentFailed, match="ValueError: number 1"):
        await result_of(orchestrator, lambda ctx: ctx.map(picky, [{"n": 50}, {"n": 1}]))
    assert trio.current_time() - began == pytest.approx(1, abs=0.05)


async def test_a_failing_sub_agent_raises_in_its_parent_with_the_cause(
    orchestrator: Orchestrator,
) -> None:
    with pytest.raises(AgentFailed, match="as asked") as caught:
        await result_of(orchestrator, lambda ctx: ctx.call(failing))
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.error.type == "ValueError"


async def test_a_parent_waits_for_the_children_that_it_started(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    async def body(ctx: Context) -> str:
        await ctx.start(double, n=7)
        await ctx.start(failing)  # nobody waits for it, so nobody sees it fail
        return "returned early"

    began = trio.current_time()
    assert await result_of(orchestrator, body) == "returned early"
    assert trio.current_time() - began == pytest.approx(7, abs=0.05)


async def test_a_child_that_code_elsewhere_starts_as_its_parent_ends_is_none(
    orchestrator: Orchestrator,
) -> None:
    """It was queued for ever. Who of the two goes on first is up to Trio; so there are many."""
    end = trio.Event()

    @agent
    async def ending(ctx: Context) -> None:
        await end.wait()

    async def start(ctx: Context) -> None:
        with pytest.raises(OrchestratorError, match="has ended"):
            await ctx.start(double, n=7)

    runs = [await orchestrator.start(ending) for _ in range(20)]
    await wait_all_tasks_blocked()
    async with trio.open_nursery() as elsewhere:
        for run in runs:
            run.request_pause()
            elsewhere.start_soon(start, run.context)
        # Both wait where the pause holds them: the one at the gate, the other at its end.
        end.set()
        await wait_all_tasks_blocked()
        for run in runs:
            run.request_resume()
    for run in runs:
        await run.wait()
    assert list(orchestrator.registry) == []


async def test_a_scope_around_a_call_ends_the_sub_agent(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    async def body(ctx: Context) -> bool:
        with trio.move_on_after(3) as limit:
            await ctx.call(double, n=1000)
        return limit.cancelled_caught

    assert await result_of(orchestrator, body) is True
    page = await orchestrator.runs()
    (child,) = [record for record in page.runs if record.agent == "double"]
    assert child.status is RunStatus.STOPPED
    assert child.stop is not None
    assert child.stop.source == "parent"


async def call_inside(ctx: Context) -> None:
    async with ctx.operation("tool", "search"):
        await ctx.call(double, n=1)


async def nest(ctx: Context) -> None:
    async with ctx.operation("tool", "search"), ctx.operation("http"):
        pass


async def hold_back_inside(ctx: Context) -> None:
    async with ctx.operation("tool", "search"):
        with ctx.critical("commit", 1):
            pass


@pytest.mark.parametrize("body", [call_inside, nest, hold_back_inside])
async def test_nothing_may_start_inside_an_operation_and_the_error_says_so(
    orchestrator: Orchestrator, body: Callable[[Context], Awaitable[None]]
) -> None:
    with pytest.raises(OperationsAreLeaves, match="inside the operation 'tool search'"):
        await result_of(orchestrator, body)


async def test_a_detached_run_outlives_the_stop_of_its_starter(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def starter(ctx: Context) -> None:
        await ctx.start_detached(double, n=100)
        await ctx.sleep(1000)

    run = await orchestrator.start(starter)
    await trio.sleep(1)
    receipt = await run.stop()

    (detached,) = receipt.detached
    other = orchestrator.live(detached)
    assert other is not None
    assert other.parent is None
    assert (await other.wait()).result == 200


@pytest.mark.parametrize(
    ("ask", "field"),
    [
        (lambda ctx: ctx.progress(101), "percent"),
        (lambda ctx: ctx.progress(-1), "percent"),
        (lambda ctx: ctx.progress(math.nan), "percent"),
        (lambda ctx: ctx.log("x", level="loud"), "level"),
        (lambda ctx: ctx.emit("Nonsense", {}), "type"),
        (lambda ctx: ctx.emit("run.stopped", {}), "type"),
        (lambda ctx: ctx.emit("my.event", {"x": object()}), "data"),
        (lambda ctx: ctx.emit("my.event", {"x": math.inf}), "data"),
        (lambda ctx: ctx.partial(object()), "partial"),
        (lambda ctx: ctx.artifact("../etc/passwd", b""), "name"),
        (lambda ctx: ctx.artifact("", b""), "name"),
        (lambda ctx: ctx.call(double, n="many"), "input.n"),
        (lambda ctx: ctx.call(double, m=1), "input.n"),
    ],
)
async def test_bad_arguments_name_the_field(
    orchestrator: Orchestrator, ask: Callable[[Context], Awaitable[Any]], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await result_of(orchestrator, ask)
    assert caught.value.problems[0][0] == field


async def test_an_unknown_agent_is_named_with_the_known_ones(orchestrator: Orchestrator) -> None:
    with pytest.raises(UnknownAgent, match=r"'nobody'; registered agents: doer"):
        await result_of(orchestrator, lambda ctx: ctx.call("nobody"))


@pytest.mark.parametrize("value", [object(), math.nan, {"x": {1, 2}.__iter__}])
async def test_a_result_that_is_not_json_is_a_failure(
    orchestrator: Orchestrator, value: object
) -> None:
    @agent
    async def odd(ctx: Context) -> object:
        return value

    record = await (await orchestrator.start(odd)).wait()
    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert record.error.message.startswith("result: is not JSON")


async def test_what_is_told_is_kept(orchestrator: Orchestrator) -> None:
    async def body(ctx: Context) -> None:
        await ctx.log("hello", level="warning")
        await ctx.progress(12.5, "an eighth")
        await ctx.emit("order.paid", {"euro": 3})
        await ctx.partial({"pages": 1})
        await ctx.partial({"pages": 2})
        await ctx.artifact("log.txt", b"one,", append=True)
        await ctx.artifact("log.txt", b"two", append=True)

    await result_of(orchestrator, body)
    (record,) = (await orchestrator.runs()).runs
    events = [(e.type, e.data) async for e in await orchestrator.events(record.id)]

    assert ("run.log", {"level": "warning", "message": "hello"}) in events
    assert ("run.progress", {"percent": 12.5, "message": "an eighth"}) in events
    assert ("order.paid", {"euro": 3}) in events
    assert await orchestrator.partial(record.id) == {"pages": 2}
    assert await orchestrator.artifact(record.id, "log.txt") == b"one,two"


async def test_code_that_was_not_handed_the_context_finds_it(orchestrator: Orchestrator) -> None:
    async def deep_down() -> str:
        await trio.lowlevel.checkpoint()
        return current_context().run_id

    @agent
    async def inner(ctx: Context) -> list[str]:
        return [ctx.run_id, await deep_down()]

    async def body(ctx: Context) -> list[Any]:
        before, child, after = await deep_down(), await ctx.call(inner), await deep_down()
        return [before == ctx.run_id, child[0] == child[1] != ctx.run_id, after == ctx.run_id]

    assert await result_of(orchestrator, body) == [True, True, True]
    with pytest.raises(LookupError, match="does not run in an agent"):
        current_context()


async def test_a_run_does_not_inherit_the_context_variables_of_its_starter(
    orchestrator: Orchestrator,
) -> None:
    secret: contextvars.ContextVar[str] = contextvars.ContextVar("secret", default="none")
    secret.set("of the request")

    async def body(ctx: Context) -> str:
        return secret.get()

    assert await result_of(orchestrator, body) == "none"


async def test_cleanup_may_await_although_the_run_is_being_stopped(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    done: list[str] = []

    @agent
    async def careful(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            with ctx.cleanup():
                await trio.sleep(2)
                done.append("clean")
            with ctx.cleanup():
                await trio.sleep(1000)
            done.append("bounded")

    run = await orchestrator.start(careful, cleanup_s=3)
    await trio.sleep(1)
    receipt = await run.stop()

    assert done == ["clean", "bounded"]
    assert receipt.outcome == "stopped"
    assert receipt.seconds == pytest.approx(3, abs=0.05)


async def test_the_deadline_is_visible_to_the_agent(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def looking(ctx: Context) -> list[float | bool]:
        return [round(ctx.deadline - trio.current_time()), ctx.should_stop]

    assert (await (await orchestrator.start(looking, deadline_s=60)).wait()).result == [60, False]
    record = await (await orchestrator.start(looking)).wait()
    assert record.status is RunStatus.FAILED  # infinity is not JSON


@pytest.mark.parametrize("given", ["text", "text/plain\r\nX-Evil: 1", "text/ plain", "", "é/x"])
async def test_a_media_type_that_is_none_is_refused(orchestrator: Orchestrator, given: str) -> None:
    @agent
    async def keeper(ctx: Context) -> None:
        await ctx.artifact("file", b"x", media_type=given)

    record = await (await orchestrator.start(keeper)).wait()
    assert record.error is not None
    assert record.error.message.startswith(f"media_type: {given!r} is not like")


@pytest.mark.parametrize("given", ["text/plain; charset=utf-8", "application/vnd.x+json"])
async def test_a_media_type_is_kept(orchestrator: Orchestrator, given: str) -> None:
    @agent
    async def keeper(ctx: Context) -> None:
        await ctx.artifact("file", b"x", media_type=given)

    run = await orchestrator.start(keeper)
    await run.wait()
    assert [each.media_type for each in await orchestrator.artifacts(run.id)] == [given]


async def test_a_view_is_a_picture_and_the_latest_one(orchestrator: Orchestrator) -> None:
    @agent
    async def painter(ctx: Context) -> None:
        await ctx.view(b"GIF89a first")
        await ctx.view(b"\x89PNG\r\n\x1a\nsecond")
        await ctx.view(b"no picture")

    run = await orchestrator.start(painter)
    record = await run.wait()
    assert record.error is not None
    assert record.error.message == "image: is no PNG, JPEG, GIF or WebP file"
    (kept,) = await orchestrator.artifacts(run.id)
    assert (kept.name, kept.media_type) == ("view", "image/png")

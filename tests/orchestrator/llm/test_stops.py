"""Stops that meet a call of a model, seen from the server at the other end of the wire."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import openai
import pytest
import trio
import trio.testing

from orchestrator import (
    Context,
    OperationCut,
    OperationRefused,
    Orchestrator,
    Run,
    RunStatus,
    StopMode,
    StopOutcome,
    Usage,
    agent,
    open_orchestrator,
)
from tests.orchestrator.llm_server import EVENT_STREAM, fail, hang, say

if TYPE_CHECKING:
    from orchestrator.events import Event
    from tests.orchestrator.llm_server import ModelServer, Talk

# Within this the server sees a connection closed, once the stop has cut it.
CLOSED_S = 0.5


async def events_of(orchestrator: Orchestrator, run: Run) -> list[Event]:
    return [event async for event in await orchestrator.events(run.record.root_id)]


def text_of(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.type == "llm.delta")


@agent
async def asks_twice(ctx: Context, stream: bool) -> None:
    try:
        await ctx.partial(await ctx.llm("first", stream=stream))
    finally:
        with suppress(OperationRefused), ctx.cleanup():
            await ctx.llm("second", stream=stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_graceful_stop_lets_the_call_finish_and_refuses_the_next(
    stream: bool, orchestrator: Orchestrator, server: ModelServer
) -> None:
    go_on = trio.Event()
    server.will(say("one ", go_on, "two"))
    with trio.fail_after(20):
        run = await orchestrator.start(asks_twice, {"stream": stream})
        await server.until_asked()
        run.request_stop(grace_s=15)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert not run.record.status.is_terminal
        go_on.set()
        record = await run.wait()
        await server.until(lambda: server.open == [])
    assert record.status is RunStatus.STOPPED
    assert record.stop is not None
    assert record.stop.reached is StopMode.GRACEFUL
    assert (record.stop.operations.finished, record.stop.operations.refused) == (1, 1)
    assert [asked.body["messages"][0]["content"] for asked in server.asked] == ["first"]
    assert server.asked[0].finished is not None
    assert record.usage == Usage(requests=1, input_tokens=10, output_tokens=5)
    events = await events_of(orchestrator, run)
    assert text_of(events) == ("one two" if stream else "")
    assert [e.type for e in events if e.type.startswith("operation.")] == [
        "operation.started",
        "operation.finished",
        "operation.refused",
    ]


@pytest.mark.parametrize("mode", ["now", "kill", "a short grace"])
@pytest.mark.parametrize("where", ["stream", "plain", "before headers"])
async def test_a_cut_closes_the_connection(
    where: str, mode: str, orchestrator: Orchestrator, server: ModelServer
) -> None:
    never = trio.Event()
    server.will(hang() if where == "before headers" else say("so ", "far", never))
    with trio.fail_after(20):
        run = await orchestrator.start(asks_twice, {"stream": where == "stream"})
        await server.until_asked()
        await trio.testing.wait_all_tasks_blocked(0.02)
        began = trio.current_time()
        if mode == "a short grace":
            receipt = await run.stop(grace_s=0.1)
        else:
            receipt = await run.stop(mode=mode)
        await server.until(lambda: server.open == [])
    closed = server.connections[0].closed
    assert closed is not None
    assert closed - began < CLOSED_S
    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.operations.cut == 1
    assert len(server.asked) == 1
    assert server.asked[0].finished is None
    # The request is counted; what it used was never reported.
    assert run.record.usage == Usage(requests=1)
    events = await events_of(orchestrator, run)
    assert text_of(events) == ("so far" if where == "stream" else "")
    [cut] = [event for event in events if event.type == "operation.cut"]
    assert (cut.data["kind"], cut.data["label"]) == ("llm", "small")
    assert cut.data["effect"] == "connection closed"
    told = [event.type for event in events]
    assert "llm.delta" not in told[told.index("operation.cut") :]


async def test_usage_that_was_seen_before_the_cut_is_counted(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    """Some endpoints report the usage so far with every piece."""
    never = trio.Event()

    async def reports(talk: Talk) -> None:
        await talk.begin(200, EVENT_STREAM)
        for n in (1, 2):
            usage = {"prompt_tokens": 10, "completion_tokens": n, "cost": n / 8}
            await talk.chunk(choices=[{"index": 0, "delta": {"content": "x"}}], usage=usage)
        await never.wait()

    server.will(reports)
    with trio.fail_after(20):
        run = await orchestrator.start(asks_twice, {"stream": True})
        async for event in await orchestrator.events(run.id):
            if event.type == "llm.delta":
                run.request_stop(mode="now")
    assert run.record.usage == Usage(requests=1, input_tokens=10, output_tokens=2, cost=0.25)


@pytest.mark.parametrize("shielded", [False, True])
@pytest.mark.parametrize("mode", ["graceful", "now"])
async def test_a_stop_during_back_off_ends_at_once_and_nothing_more_is_sent(
    mode: str, shielded: bool, orchestrator: Orchestrator, server: ModelServer
) -> None:
    errors: list[BaseException] = []

    @agent
    async def patient(ctx: Context) -> None:
        try:
            with trio.CancelScope(shield=shielded):
                await ctx.llm("hi")
        except BaseException as error:
            errors.append(error)
            raise

    server.will(fail(429, retry_after_s=0.3), say("too late"))
    with trio.fail_after(20):
        run = await orchestrator.start(patient)
        await server.until(lambda: bool(server.asked and server.asked[0].finished))
        await trio.testing.wait_all_tasks_blocked(0.02)
        began = trio.current_time()
        receipt = await run.stop(mode=mode, grace_s=10 if mode == "graceful" else None)
        assert trio.current_time() - began < 0.2
        # Beyond the time at which the next try was due.
        await trio.sleep(0.5)
    assert len(server.asked) == 1
    assert receipt.outcome is StopOutcome.STOPPED
    assert run.record.usage == Usage()
    [error] = errors
    if mode == "graceful" and shielded:
        assert isinstance(error, OperationRefused)
        assert isinstance(error.__cause__, openai.RateLimitError)
    if not shielded:
        assert isinstance(error, trio.Cancelled)


async def test_a_failure_after_the_stop_is_not_tried_again(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    """Interleaving: the request is in flight, the stop comes, and then the endpoint says 503."""
    go_on = trio.Event()

    async def late(talk: Talk) -> None:
        await go_on.wait()
        await fail(503, retry_after_s=0)(talk)

    server.will(late)
    with trio.fail_after(20):
        run = await orchestrator.start(asks_twice, {"stream": False})
        await server.until_asked()
        run.request_stop(grace_s=15)
        go_on.set()
        record = await run.wait()
        await trio.sleep(0.1)
    assert record.status is RunStatus.STOPPED
    assert len(server.asked) == 1


@pytest.mark.slow
async def test_a_hundred_calls_are_cut_at_once(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    never = trio.Event()
    server.will(*[say("x", never) if n % 2 else hang() for n in range(100)])

    @agent
    async def crowd(ctx: Context) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(100):

                async def one(stream: bool = number % 3 == 0) -> None:
                    await ctx.llm("hi", stream=stream)

                nursery.start_soon(one)

    with trio.fail_after(30):
        run = await orchestrator.start(crowd)
        await server.until_asked(100)
        assert len(server.open) == 100
        began = trio.current_time()
        receipt = await run.stop(mode="now")
        await server.until(lambda: server.open == [])
        assert trio.current_time() - began < 2
    assert receipt.operations.cut == 100
    assert run.record.usage == Usage(requests=100)
    assert len(server.asked) == 100


async def test_an_abandoned_run_has_no_connection_left(server: ModelServer) -> None:
    """Its agent shields and swallows whatever comes, asks again, and stays."""
    release = trio.Event()
    server.will(say("so ", "far", trio.Event()))

    @agent
    async def unkillable(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(release.wait)
                for _ in range(3):
                    with suppress(OperationCut, OperationRefused):
                        await ctx.llm("hi", stream=True)

    async with open_orchestrator() as orchestrator:
        with trio.fail_after(20):
            run = await orchestrator.start(unkillable, cleanup_s=0.2)
            await server.until_asked()
            await trio.testing.wait_all_tasks_blocked(0.02)
            began = trio.current_time()
            receipt = await run.stop(mode="kill")
            await server.until(lambda: server.open == [])
            assert trio.current_time() - began < 1.5
            assert receipt.outcome is StopOutcome.ABANDONED
            release.set()
            await run.exited.wait()
        assert len(server.asked) == 1
        assert run.record.usage == Usage(requests=1)


async def test_a_critical_section_may_ask_after_the_stop_but_not_try_again(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    said: list[str] = []
    within = trio.Event()

    @agent
    async def commits(ctx: Context) -> None:
        with ctx.critical("commit", max_seconds=10):
            within.set()
            while not ctx.should_stop:
                await trio.sleep(0.001)
            said.append(await ctx.llm("first"))
            with suppress(OperationRefused):
                await ctx.llm("second")

    server.will(say("done"), fail(503, retry_after_s=0))
    with trio.fail_after(20):
        run = await orchestrator.start(commits)
        await within.wait()
        await run.stop()
    assert said == ["done"]
    assert len(server.asked) == 2


async def test_a_limit_of_the_agent_cuts_a_call_too(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    @agent
    async def hurried(ctx: Context) -> str:
        with trio.move_on_after(0.1):
            await ctx.llm("hi", stream=True)
        return await ctx.llm("once more")

    server.will(hang(), say("fine"))
    with trio.fail_after(20):
        record = await (await orchestrator.start(hurried)).wait()
    assert record.result == "fine"
    assert record.usage.requests == 2
    assert len(server.connections) == 2

"""A run that has ended is freed at once; what a traceback holds waits for the collector."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import ref

import pytest
import trio
import trio.testing

from orchestrator import Agent, Context, OperationRefused, agent, open_orchestrator
from orchestrator.agents.command import command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from trio.testing import MockClock

    from orchestrator.run import Run


@agent
async def quick(ctx: Context) -> None:
    pass


@agent
async def telling(ctx: Context) -> None:
    for value in range(3):
        await ctx.partial(value)
    await ctx.progress(50)
    async with ctx.operation("one"):
        await ctx.log("said")
    ctx.on_stop(quick.function, ctx)


@agent
async def parent(ctx: Context) -> None:
    await ctx.call(quick)
    await ctx.map(quick, [{}, {}])
    await (await ctx.start(quick)).wait()


@agent
async def asking(ctx: Context) -> None:
    ctx.http.headers["x"] = "a client was made"
    await ctx.ask("go on?", bool)


@agent
async def sleeping(ctx: Context) -> None:
    ctx.on_stop(quick.function, ctx)
    await trio.sleep_forever()


@contextmanager
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def is_freed(run: ref[Run]) -> bool:
    """Return whether nothing holds the run, once its last tasks have ended."""
    await trio.testing.wait_all_tasks_blocked()
    return run() is None


@pytest.mark.parametrize("of", [quick, telling, parent], ids=lambda of: of.name)
async def test_a_run_that_ends_by_itself_is_freed(of: Agent) -> None:
    with no_collector():
        async with open_orchestrator() as orchestrator:
            run = await orchestrator.start(of, deadline_s=60, idle_timeout_s=60)
            await run.wait()
            weak = ref(run)
            del run
            # The journal still holds what it wrote last.
            await (await orchestrator.start(quick)).wait()
            assert await is_freed(weak)


@pytest.mark.parametrize("mode", ["graceful", "now", "kill"])
@pytest.mark.parametrize("of", [sleeping, asking], ids=lambda of: of.name)
async def test_a_run_that_is_stopped_is_freed(of: Agent, mode: str) -> None:
    with no_collector():
        async with open_orchestrator() as orchestrator:
            run = await orchestrator.start(of)
            await trio.testing.wait_all_tasks_blocked()
            await run.stop(mode=mode)
            weak = ref(run)
            del run
            await (await orchestrator.start(quick)).wait()
            assert await is_freed(weak)


async def test_a_run_in_a_process_of_its_own_is_freed() -> None:
    with no_collector():
        async with open_orchestrator(agents=[command]) as orchestrator:
            run = await orchestrator.start("command", {"argv": ["true"]})
            await run.wait()
            await run.exited.wait()
            weak = ref(run)
            del run
            await (await orchestrator.start(quick)).wait()
            assert await is_freed(weak)


async def test_a_run_that_never_began_is_freed() -> None:
    with no_collector():
        async with open_orchestrator() as orchestrator:
            run = await orchestrator.start(quick, start_after_s=60)
            await run.stop()
            weak = ref(run)
            del run
            await (await orchestrator.start(quick)).wait()
            assert await is_freed(weak)


async def test_a_context_that_is_kept_says_what_it_was_and_starts_nothing_after_the_end() -> None:
    kept: list[Context] = []

    @agent
    async def keeping(ctx: Context) -> None:
        kept.append(ctx)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(keeping)
        run_id = run.id
        await run.wait()
        del run
        (ctx,) = kept
        assert ctx.run_id == run_id
        assert ctx.should_stop
        assert ctx.stopping.is_set()
        events = [event.type async for event in await orchestrator.events(run_id)]
        await ctx.log("too late")
        with pytest.raises(OperationRefused, match="or has ended"):
            async with ctx.operation("late"):
                pytest.fail("it began")
        with pytest.raises(OperationRefused):
            await ctx.http.get("http://127.0.0.1:9/")
        with pytest.raises(OperationRefused):
            await ctx.call(quick)
        with pytest.raises(OperationRefused):
            await ctx.start_detached(quick)
        with pytest.raises(OperationRefused), ctx.critical("late", max_seconds=1):
            pytest.fail("it began")
        assert [event.type async for event in await orchestrator.events(run_id)] == events
        assert [each.agent for each in (await orchestrator.runs()).runs] == ["keeping"]


async def _in_critical_section(ctx: Context, leave: trio.Event) -> None:
    with ctx.critical("commit", max_seconds=60):
        del ctx
        await leave.wait()


async def _in_operation_that_swallows(ctx: Context, leave: trio.Event) -> None:
    async with ctx.operation("one"):
        del ctx
        with trio.CancelScope(shield=True):
            await leave.wait()


async def _before_operation(ctx: Context, leave: trio.Event) -> None:
    operation = ctx.operation("late")
    del ctx
    await leave.wait()
    with pytest.raises(OperationRefused):
        async with operation:
            pytest.fail("it began")


@pytest.mark.parametrize(
    ("work", "mode"),
    [
        (_in_critical_section, "now"),
        (_in_operation_that_swallows, "kill"),
        (_before_operation, "now"),
    ],
)
async def test_code_elsewhere_may_leave_what_it_began_when_nobody_holds_the_run(
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
    work: Callable[[Context, trio.Event], Awaitable[None]],
    mode: str,
) -> None:
    began: list[Context] = []
    leave, exit_now = trio.Event(), trio.Event()

    @agent
    async def shielded(ctx: Context) -> None:
        began.append(ctx)
        del ctx
        with trio.CancelScope(shield=mode == "kill"):
            await exit_now.wait()

    async with open_orchestrator() as orchestrator, trio.open_nursery() as elsewhere:
        run = await orchestrator.start(shielded)
        await trio.testing.wait_all_tasks_blocked()
        # Popped in the argument, so that nothing holds the run but what the code has begun.
        elsewhere.start_soon(_given, began, work, leave)
        await trio.testing.wait_all_tasks_blocked()
        await run.stop(mode=mode)
        exit_now.set()
        await run.exited.wait()
        del run
        await (await orchestrator.start(quick)).wait()
        await trio.testing.wait_all_tasks_blocked()
        leave.set()
        # Long enough for any alarm of the stop.
        await trio.sleep(120)
    assert "an alarm failed" not in caplog.text


async def _given(
    contexts: list[Context],
    work: Callable[[Context, trio.Event], Awaitable[None]],
    leave: trio.Event,
) -> None:
    await work(contexts.pop(), leave)

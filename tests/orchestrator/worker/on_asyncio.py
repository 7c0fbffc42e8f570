"""Agents that are written for asyncio."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from orchestrator import AsyncioContext, OperationCut, OperationRefused, agent, current_context
from tests.orchestrator.worker.blocking import (
    CLEANING_S,
    LONG_S,
    double,
    in_main_thread,
    is_current,
    waiting_child,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@agent(runtime="asyncio")
async def everything(ctx: AsyncioContext) -> dict[str, Any]:
    """Use all that a context has."""
    found: dict[str, Any] = {"current": is_current(ctx), "run_id": ctx.run_id}
    await ctx.progress(50, "half")
    await ctx.log("hello", "warning")
    await ctx.emit("sum.made", {"n": 1})
    growing = {"so": "far"}
    await ctx.partial(growing)
    growing["so"] = "later"
    await ctx.artifact("a.txt", b"1")
    async with ctx.operation("op", "x"):
        await asyncio.sleep(0.01)
    await ctx.data.set("k", [1])
    found["data"] = [await ctx.data.get("k"), await ctx.data.list()]
    found["step"] = [
        await ctx.step("one", _in_a_step, ctx, 1),
        await ctx.step("two", lambda: is_current(ctx)),
    ]
    found["call"] = await asyncio.gather(ctx.call(double, x=3), ctx.call("double", x=4))
    child = await ctx.start("double", x=4)
    found["child"] = await child.wait()
    with ctx.critical("commit", 5):
        await ctx.data.set("k", [2])
    await ctx.checkpoint()
    await ctx.sleep(0.01)
    found |= {"left": ctx.deadline - asyncio.get_running_loop().time(), "stop": ctx.should_stop}
    return found


async def _in_a_step(ctx: AsyncioContext, n: int) -> dict[str, Any]:
    async with ctx.operation("op", "in a step"):
        await asyncio.sleep(0.01)
        return {"n": n, "current": is_current(ctx), "thread": in_main_thread()}


@agent(runtime="asyncio")
async def failing(ctx: AsyncioContext, how: str) -> Any:
    """End in one of many ways."""
    match how:
        case "raises":
            raise LookupError("nothing there")
        case "cancels itself":
            raise asyncio.CancelledError("I stop")
        case "has a sub-agent that fails":
            return await ctx.call(double, x=-1)
        case "has a group that fails":
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.call(double, x=-1))
        case "fails in a step":
            await ctx.step("one", _fail)
        case "says too much":
            await ctx.progress(101)
    return None


async def _fail() -> None:
    raise LookupError("not in a step")


@agent(runtime="asyncio")
async def limited(ctx: AsyncioContext) -> list[str]:
    """Give up on what takes too long, and go on."""
    given_up = []

    async def operate() -> None:
        async with ctx.operation("op", "long"):
            await asyncio.sleep(LONG_S)

    things: dict[str, Callable[[], Awaitable[Any]]] = {
        "sleep": lambda: ctx.sleep(LONG_S),
        "operation": operate,
        "sub-agent": lambda: ctx.call(waiting_child),
        "step": lambda: ctx.step("long", asyncio.sleep, LONG_S),
        "question": lambda: ctx.ask("Well?"),
    }
    for name, thing in things.items():
        try:
            async with asyncio.timeout(0.2):
                await thing()
        except TimeoutError:
            given_up.append(name)
    return given_up


@agent(runtime="asyncio")
async def waiting(ctx: AsyncioContext, how: str) -> None:
    """Wait in one of many ways, and then clean up at leisure."""
    ctx.on_stop(undo, "it")
    try:
        await ctx.log("ready")
        await WAYS[how](ctx)
    finally:
        await ctx.log("cleaning up")
        await asyncio.sleep(CLEANING_S)
        await ctx.log("cleaned up")


async def undo(what: str) -> None:
    """Undo something, in an operation."""
    ctx: Any = current_context()
    async with ctx.operation("undo", what):
        await asyncio.sleep(0.01)
    await ctx.log(f"undid {what} in the main thread: {in_main_thread()}")


async def _group(ctx: AsyncioContext) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(asyncio.sleep(LONG_S))


async def _gather(ctx: AsyncioContext) -> None:
    await asyncio.gather(ctx.sleep(LONG_S), asyncio.sleep(LONG_S))


async def _block(ctx: AsyncioContext) -> None:
    time.sleep(LONG_S)  # noqa: ASYNC251  # what nobody should do


async def _block_in_a_task(ctx: AsyncioContext) -> None:
    await asyncio.create_task(_block(ctx))


WAYS: dict[str, Callable[[AsyncioContext], Awaitable[Any]]] = {
    "sleeps": lambda ctx: asyncio.sleep(LONG_S),
    "sleeps in its context": lambda ctx: ctx.sleep(LONG_S),
    "has a group": _group,
    "gathers": _gather,
    "blocks its loop": _block,
    "blocks its loop in a task": _block_in_a_task,
    "calls": lambda ctx: ctx.call(waiting_child),
    "does a step": lambda ctx: ctx.step("one", asyncio.sleep, LONG_S),
    "asks": lambda ctx: ctx.ask("Well?"),
}


@agent(runtime="asyncio")
async def swallowing(ctx: AsyncioContext, times: int) -> str:
    """Swallow the stop so often, or for ever if negative."""
    while times:
        try:
            print("ready")
            await asyncio.sleep(LONG_S)
        except BaseException:
            times -= 1
            print("swallowed")
    return "done"


async def linger(ctx: AsyncioContext, seconds: float) -> None:
    """Wait for the stop, and for so many seconds after that."""
    await ctx.log("ready")
    while not ctx.should_stop:
        await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)


@agent(runtime="asyncio")
async def operating(ctx: AsyncioContext, seconds: float) -> None:
    """Take that long for an operation."""
    async with ctx.operation("op", "long"):
        await linger(ctx, seconds)
        await ctx.log("operation done")
    print("never said")


@agent(runtime="asyncio")
async def in_a_group(ctx: AsyncioContext, seconds: float) -> None:
    """Take that long for an operation in one of several tasks."""

    async def operate() -> None:
        async with ctx.operation("op", "in a task"):
            await linger(ctx, seconds)

    async with asyncio.TaskGroup() as group:
        group.create_task(operate())
        group.create_task(asyncio.sleep(LONG_S))


@agent(runtime="asyncio")
async def committing(ctx: AsyncioContext, seconds: float, max_seconds: float) -> None:
    """Take that long for a critical section."""
    try:
        with ctx.critical("commit", max_seconds):
            await linger(ctx, seconds)
            await ctx.data.set("k", 1)
            async with ctx.operation("op", "inside"):
                await asyncio.sleep(0.01)
            print(f"stored {await ctx.data.get('k')}")
    except OperationCut:
        print("was cut")
        raise
    await asyncio.sleep(LONG_S)


@agent(runtime="asyncio")
async def stepping(ctx: AsyncioContext) -> None:
    """Do a step whose operation a stop meets."""

    async def fetch() -> str:
        async with ctx.operation("op", "fetch"):
            await linger(ctx, 0.2)
        return "fetched"

    await ctx.step("fetch", fetch)
    print("never said")


@agent(runtime="asyncio")
async def refused(ctx: AsyncioContext) -> None:
    """Try in a clean-up what nobody may after a stop."""
    try:
        await ctx.log("ready")
        await asyncio.sleep(LONG_S)
    finally:
        try:
            async with ctx.operation("op", "too late"):
                print("never said")
        except OperationRefused:
            await ctx.log("was refused")


@agent(runtime="asyncio")
async def trailing(ctx: AsyncioContext) -> str:
    """Leave a task behind, in an operation, and a generator."""

    async def operate() -> None:
        try:
            async with ctx.operation("op", "in a task"):
                begun.set()
                await asyncio.sleep(LONG_S)
        finally:
            await ctx.log("the task is cancelled")

    async def generate() -> Any:
        try:
            yield 1
        finally:
            await ctx.log("the generator is closed")

    begun, generator = asyncio.Event(), generate()
    task = asyncio.create_task(operate())
    await anext(generator)
    await begun.wait()
    return f"returned, {task.get_name() != ''}"

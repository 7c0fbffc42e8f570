"""Clean agents that come near to what the sweep looks for: none of this is a fault."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial

import httpx
import trio
import trio.testing

from orchestrator import Context, agent
from orchestrator.testing import ScriptedHTTP

URL = "https://site.test/"


def transport() -> ScriptedHTTP:
    """A body in pieces, and what ``closes_much`` gets."""
    http = ScriptedHTTP()
    http.on("GET", URL, chunks=[(0.1, b"a"), (0.1, b"b"), (0.1, b"c")], delay_s=0.1)
    return http


@agent
async def streams(ctx: Context) -> None:
    async with ctx.operation("http", "read"), ctx.http.stream("GET", URL) as response:
        async for _ in response.aiter_lines():
            pass
    async with ctx.http.stream("GET", URL) as response:
        await response.aread()


@agent
async def races_itself(ctx: Context) -> None:
    async def finish(seconds: float, nursery: trio.Nursery) -> None:
        await ctx.sleep(seconds)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(finish, 1, nursery)
        nursery.start_soon(finish, 2, nursery)
    with trio.move_on_after(1):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            await trio.sleep_forever()
    lock = trio.Lock()
    condition = trio.Condition(lock)
    async with condition:
        with trio.move_on_after(0.1):
            await condition.wait()


@agent
async def closes_much(ctx: Context) -> None:
    """Closers of libraries await although cancelled, and an exit stack raises only at its end."""
    async with AsyncExitStack() as stack:
        send, receive = trio.open_memory_channel[int](1)
        stack.push_async_callback(send.aclose)
        await stack.enter_async_context(receive)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport()))
        await client.get(URL)
        left, right = trio.testing.memory_stream_pair()
        async with left, right:
            await left.send_all(b"x")
            with trio.move_on_after(1):
                await right.receive_some(2)
                await right.receive_some(2)


@agent
async def waits_for_children(ctx: Context) -> None:
    """The stop comes to who waits for a nursery as an exception, through whatever is around it."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport()))
        left, right = trio.testing.memory_stream_pair()
        await stack.enter_async_context(left)
        nursery = await stack.enter_async_context(trio.open_nursery())
        nursery.start_soon(ctx.sleep, 1)
        nursery.start_soon(partial(client.get, URL))
        await stack.enter_async_context(right)
        inner = await stack.enter_async_context(trio.open_nursery())
        inner.start_soon(ctx.sleep, 2)
    try:
        with trio.fail_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
    except trio.TooSlowError:
        await ctx.sleep(0.1)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 1)
            nursery.start_soon(_raises)
    except* ValueError:
        await ctx.sleep(0.1)
    finally:
        with ctx.cleanup():
            await trio.sleep(0.1)


async def _raises() -> None:
    await trio.sleep(0.5)
    raise ValueError("as it should")


@agent
async def short(ctx: Context) -> None:
    await ctx.sleep(1)


@agent
async def fails(ctx: Context) -> None:
    await ctx.sleep(0.1)
    raise ValueError("as it should")


@agent
async def detaches(ctx: Context) -> None:
    await ctx.start_detached(short)
    await ctx.sleep(0.5)


@agent
async def catches(ctx: Context) -> None:
    try:
        await ctx.sleep(1)
    except trio.Cancelled:
        with ctx.cleanup():
            await trio.sleep(0.1)
        raise
    try:
        await ctx.call(fails)
    except Exception:
        await ctx.sleep(1)
    try:
        with trio.fail_after(0.01):
            await ctx.sleep(1)
    except trio.TooSlowError:
        await ctx.sleep(0.1)


@agent
async def holds_back(ctx: Context) -> None:
    with ctx.critical("commit", 5):
        await trio.sleep(1)
        async with ctx.operation("write"):
            await trio.sleep(1)
    async with ctx.operation("look"):
        with trio.move_on_after(0.5):
            await trio.sleep_forever()
    await ctx.artifact("found", b"x")
    await ctx.step("last", _last)


async def _last() -> int:
    await trio.sleep(1)
    return 1


@agent
async def calls_back_from_threads(ctx: Context) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(partial(trio.to_thread.run_sync, sum, range(1000)))
    await trio.to_thread.run_sync(trio.from_thread.run, trio.sleep, 1)


ALL = [
    streams,
    races_itself,
    closes_much,
    waits_for_children,
    detaches,
    catches,
    holds_back,
    calls_back_from_threads,
]

"""Agents that use a server of the Model Context Protocol, on each runtime."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import trio

from orchestrator import (
    AsyncioContext,
    Context,
    InvalidInput,
    SyncContext,
    ToolServerUnavailable,
    agent,
)

TOOLBOX = str(Path(__file__).with_name("toolbox.py"))


def command(folder: str, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-I", TOOLBOX, folder, *words)


def exists(pid: int) -> bool:
    """Whether there is such a process; not a checkpoint."""
    return os.path.exists(f"/proc/{pid}")


@agent
async def on_trio(ctx: Context, folder: str, words: list[str], tools: list[str]) -> list[str]:
    """Call those tools one after the other."""
    found = []
    async with ctx.mcp(*command(folder, *words)) as box:
        for tool in tools:
            found.append(str(await box.call(tool, a=1, b=2)))  # noqa: PERF401
    return found


@agent(runtime="asyncio")
async def on_asyncio(
    ctx: AsyncioContext, folder: str, words: list[str], tools: list[str]
) -> list[str]:
    """Call those tools one after the other."""
    found = []
    async with ctx.mcp(*command(folder, *words)) as box:
        for tool in tools:
            found.append(str(await box.call(tool, a=1, b=2)))  # noqa: PERF401
    return found


@agent
def blocking(ctx: SyncContext, folder: str, words: list[str], tools: list[str]) -> list[str]:
    """Call those tools one after the other."""
    with ctx.mcp(*command(folder, *words)) as box:
        return [str(box.call(tool, a=1, b=2)) for tool in tools]


@agent
async def looking(ctx: Context, folder: str) -> dict[str, Any]:
    """Look at all that there is."""
    async with ctx.mcp(*command(folder)) as box:
        tools = await box.tools()
        added = await box.call("add", a=1, b=2)
        errors = []
        for tool in ("fail", "die", "add"):
            try:
                await box.call(tool, a=1, b=2)
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
    try:
        await box.call("add", a=1, b=2)
    except Exception as error:
        errors.append(f"{type(error).__name__}: {error}")
    return {
        "tools": [tool["function"]["name"] for tool in tools],
        "added": [added, added.value, added.content],
        "errors": errors,
    }


@agent
async def closing(ctx: Context, folder: str) -> bool:
    """Return whether the server's process is gone as soon as the body is left."""
    async with ctx.mcp(*command(folder)):
        pid = await trio.Path(folder, "pid").read_text()
        assert exists(int(pid))
    return not exists(int(pid))


@agent
async def over_http(ctx: Context, url: str, tools: list[str]) -> list[str]:
    """Call those tools one after the other."""
    async with ctx.mcp(url, headers={"x-of": ctx.run_id}) as box:
        return [str(await box.call(tool, a=1, b=2)) for tool in tools]


@agent
async def trying(ctx: Context, url: str, tools: list[str]) -> list[str]:
    """Call those tools one after the other, also if one fails."""
    found = []
    async with ctx.mcp(url) as box:
        for tool in tools:
            try:
                found.append(str(await box.call(tool, a=1, b=2)))
            except Exception as error:
                found.append(f"{type(error).__name__}: {error}")
    return found


@agent
async def at_once(ctx: Context, url: str, calls: int) -> None:
    """Call a tool several times at once."""
    async with ctx.mcp(url) as box, trio.open_nursery() as nursery:
        for _ in range(calls):
            nursery.start_soon(box.call, "wait")


@agent
async def misusing(ctx: Context, folder: str) -> list[str]:
    """Call a tool with what is no JSON, and then as it should be."""
    found = []
    async with ctx.mcp(*command(folder)) as box:
        for a in ("\ud800", object(), 1):
            try:
                found.append(str(await box.call("add", a=a, b=2)))
            except InvalidInput as error:
                found.append(str(error))
    return found


@agent
async def flooded(ctx: Context, folder: str) -> str:
    """Return what a call is told after the server has been ended."""
    async with ctx.mcp(*command(folder)) as box:
        with suppress(Exception):
            await box.call("flood")
        while box._client is not None:
            await trio.sleep(0.01)  # another process
        try:
            return await box.call("add", a=1, b=2)
        except ToolServerUnavailable as error:
            return str(error)


@agent
async def opening(ctx: Context, server: str, arguments: list[str], options: dict[str, Any]) -> None:
    """Open a server, and do nothing with it."""
    async with ctx.mcp(server, *arguments, **options):
        pass


@agent
async def leaving_open(ctx: Context, folder: str, then: str) -> None:
    """Open a server and never close it; a stop is to open another."""
    box = ctx.mcp(*command(folder))
    await box.open()
    ctx.on_stop(ctx.mcp("another").open)
    match then:
        case "raise":
            raise LookupError("nothing there")
        case "wait":
            await box.call("wait")


@agent
def leaving_open_blocking(ctx: SyncContext, folder: str, then: str) -> None:
    """Open a server and never close it; a stop is to open another."""
    box = ctx.mcp(*command(folder)).__enter__()
    ctx.on_stop(ctx.mcp("another").__enter__)
    if then == "wait":
        box.call("wait")

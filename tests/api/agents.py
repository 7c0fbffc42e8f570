"""Agents that the tests of the interface start."""

from __future__ import annotations

import trio

from orchestrator import Context, agent


@agent
async def sleeper(ctx: Context, seconds: float = 1000) -> None:
    """Sleep."""
    await ctx.sleep(seconds)


@agent
async def echo(ctx: Context, text: str) -> str:
    """Return the text."""
    await ctx.progress(50, "half")
    await ctx.partial({"text": text[:1]})
    await ctx.artifact("text.txt", text.encode(), media_type="text/plain")
    return text


@agent
async def failing(ctx: Context) -> None:
    """Raise."""
    raise ValueError("as asked")


@agent
async def family(ctx: Context, children: int = 2) -> None:
    """Sleep in sub-agents."""
    await ctx.map(sleeper, [{}] * children)


@agent
async def busy(ctx: Context, seconds: float = 1000) -> None:
    """Be in one long operation."""
    async with ctx.operation("work", "long"):
        await trio.sleep(seconds)


@agent
async def shielded(ctx: Context) -> None:
    """Never exit."""
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


ALL = [sleeper, echo, failing, family, busy, shielded]

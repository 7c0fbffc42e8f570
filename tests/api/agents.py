"""Agents that the tests of the interface start."""

from __future__ import annotations

from typing import Any, Literal

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


@agent
async def visitor(ctx: Context, url: str, times: int = 3) -> int:
    """Make requests, one after the other."""
    for n in range(times):
        await ctx.get(f"{url}/{n}")
    return times


@agent
async def asker(ctx: Context, question: str = "Go on?", within_s: float | None = None) -> Any:
    """Ask a person."""
    answer = await ctx.ask(question, Literal["yes", "no"], within_s=within_s)
    return f"they said {answer}"


@agent
async def boss(ctx: Context) -> list[Any]:
    """Have two sub-agents ask."""
    return await ctx.map(asker, [{"question": "One?"}, {"question": "Two?"}])


@agent
async def stepper(ctx: Context, url: str) -> list[str]:
    """Make a request in each of three durable steps."""

    async def fetch(name: str) -> str:
        return (await ctx.get(f"{url}/{name}")).text

    return [await ctx.step(name, fetch, name) for name in ("a", "b", "c")]


@agent
async def painter(ctx: Context, frames: int = 1) -> None:
    """Keep files, and show pictures when somebody says so."""
    await ctx.artifact("page.html", b"<script>alert(1)</script>", media_type="text/html")
    await ctx.artifact("odd", b"x", media_type="x/odd")
    await ctx.artifact("notes.txt", b"hello", media_type="text/plain; charset=utf-8")
    for n in range(frames):
        await ctx.view(PNG + bytes([n]))
        if n + 1 < frames:
            await ctx.ask("Next?")


PNG = b"\x89PNG\r\n\x1a\n"
ALL = [
    *(sleeper, echo, failing, family, busy, shielded),
    *(visitor, asker, boss, stepper, painter),
]

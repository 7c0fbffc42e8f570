"""Agents that the tests of the dashboard start."""

from __future__ import annotations

import struct
import zlib
from typing import Any, Literal

import trio

from orchestrator import Context, agent


@agent(grace_s=20)
async def writer(ctx: Context, pages: int = 1000, seconds: float = 1000, topic: str = "") -> int:
    """Write pages, each in one call of a model."""
    for number in range(pages):
        async with ctx.operation("llm", f"page {number}"):
            await trio.sleep(seconds)
        await ctx.progress(100 * (number + 1) / pages, f"{number + 1} of {pages} pages")
        await ctx.partial({"pages": number + 1})
    return pages


@agent
async def waiter(ctx: Context, seconds: float = 1000) -> str:
    """Wait."""
    await ctx.log("waiting, see https://example.org/help")
    await ctx.sleep(seconds)
    return "waited"


@agent(grace_s=20)
async def family(
    ctx: Context, children: int = 3, seconds: float = 1000, limit: int | None = None
) -> int:
    """Write in sub-agents, all of which must succeed."""
    inputs = [{"pages": 1, "seconds": seconds} for _ in range(children)]
    return sum(await ctx.map(writer, inputs, limit=limit))


@agent
async def household(ctx: Context, children: int = 3) -> None:
    """Wait in sub-agents, each of which may be stopped alone."""
    for _ in range(children):
        await ctx.start(waiter)
    await ctx.sleep(1000)


@agent
async def asker(ctx: Context, question: str = "Publish it?") -> Any:
    """Ask a person."""
    return await ctx.ask(question, Literal["yes", "no"])


@agent
async def counter(ctx: Context) -> Any:
    """Ask a person for a number."""
    return await ctx.ask("How many?", int)


@agent
async def panellist(ctx: Context, questions: int = 2) -> None:
    """Ask so many questions at once."""
    async with trio.open_nursery() as nursery:
        for number in range(1, questions + 1):
            nursery.start_soon(ctx.ask, f"Question {number}?", str)


@agent
async def panel(ctx: Context) -> None:
    """Ask in sub-agents: at first, and again as soon as that was said in the log."""
    await ctx.start(panellist)
    await ctx.ask("Another panellist?", Literal["yes"])
    await ctx.start(panellist)
    await ctx.sleep(1000)


@agent
async def decided(ctx: Context, limit: int | None) -> int | None:
    """Return a limit, or that there is none."""
    return limit


@agent
async def nearly(ctx: Context) -> None:
    """Be too far to be stopped."""
    await ctx.progress(90, "nearly there")
    await ctx.sleep(1000)


@agent
async def drafter(ctx: Context, seconds: float | None = None) -> None:
    """Write drafts, each when somebody has asked for it or after so many seconds."""
    for draft in range(1, 1000):
        await ctx.partial({"draft": draft})
        if seconds is None:
            await ctx.ask(f"Draft {draft}?", Literal["again"])
        else:
            await ctx.sleep(seconds)


@agent
async def failing(ctx: Context) -> None:
    """Raise."""
    await ctx.progress(30, "so far so good")
    raise ValueError("as asked")


@agent
async def stubborn(ctx: Context) -> None:
    """Never exit."""
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()


@agent
async def tidy(ctx: Context, seconds: float = 1000) -> None:
    """Take a while to clean up."""
    try:
        await ctx.sleep(1000)
    finally:
        with ctx.cleanup():
            await trio.sleep(seconds)


@agent
async def painter(ctx: Context) -> list[str]:
    """Keep a file and a picture, and return a result."""
    await ctx.artifact("notes.txt", b"hello", media_type="text/plain")
    await ctx.view(picture())
    await ctx.step("paint", paint)
    return ["a", "b"]


@agent
async def keeper(ctx: Context) -> None:
    """Keep a file and a picture, and wait."""
    await ctx.artifact("notes.txt", b"hello", media_type="text/plain")
    await ctx.view(picture())
    await ctx.sleep(1000)


@agent
async def camera(ctx: Context) -> None:
    """Show pictures, each wider than the one before."""
    for width in range(1, 10_000):
        await ctx.view(picture(width))
        await ctx.sleep(0.1)


@agent
async def studio(ctx: Context) -> None:
    """Let a sub-agent show pictures."""
    await ctx.call(camera)


@agent
async def reader(ctx: Context, names: list[str]) -> dict[str, str]:
    """Return files that it was started with."""
    return {name: (await ctx.file(name)).decode() for name in names}


@agent
async def echo(ctx: Context, text: str) -> list[str]:
    """Return what it is given."""
    return [text]


async def paint() -> str:
    """The work of a step."""
    return "painted"


@agent
async def talker(ctx: Context, lines: int = 100, seconds: float = 0) -> None:
    """Say many lines, and then wait."""
    for number in range(lines):
        await ctx.log(f"line {number}")
    await ctx.sleep(seconds)


def picture(width: int = 1) -> bytes:
    """Return a PNG of grey pixels beside each other."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"\0" + b"\x80" * width))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")

"""What the wrapped agents of all frameworks share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from orchestrator import AsyncioContext, current_context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLEANING_S = 0.3


async def look_up(title: str) -> str:
    """Return where a book stands; for the slow one, never."""
    ctx: Any = current_context()
    await ctx.log(f"looks for {title}")
    if title == "slow":
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(CLEANING_S)
            await ctx.log("the tool has cleaned up")
    async with ctx.operation("shelf", title):
        return "shelf 7"


async def within(
    ctx: AsyncioContext,
    limits_s: list[float | None],
    ask: Callable[[], Awaitable[Any]],
    read: Callable[[Any], str],
) -> str:
    """Ask once for each limit in seconds, and return the last answer."""
    answer = ""
    for limit_s in limits_s:
        try:
            async with asyncio.timeout(limit_s):
                answer = read(await ask())
        except TimeoutError:
            await ctx.log("it was too late")
    return answer

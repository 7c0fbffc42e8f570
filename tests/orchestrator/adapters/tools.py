"""What the wrapped agents of all frameworks share."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from orchestrator import AsyncioContext, current_context

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

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


async def attempts(
    ctx: AsyncioContext,
    give_up: list[str],
    ask: Callable[[], Coroutine[Any, Any, Any]],
    read: Callable[[Any], str],
) -> str:
    """Ask once for each file, and give up when it is there; then ask for good."""
    for file in give_up:
        asking = asyncio.create_task(ask())
        while not os.path.exists(file):  # noqa: ASYNC240  # a moment
            await asyncio.sleep(0.01)
        asking.cancel()
        await asyncio.wait({asking})
        await ctx.log("gave up" if asking.cancelled() else f"{asking.result()}")
    return read(await ask())

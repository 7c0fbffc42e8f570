"""Several lives of an orchestrator on one disk, with a wall clock that can be set."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from unittest.mock import patch

import trio
from pydantic import AfterValidator

from orchestrator import Context, Orchestrator, agent, open_orchestrator
from tests.model.disk import Disk, Mount

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)

# What began, in all lives.
began: list[str] = []


@agent
async def nap(ctx: Context, name: str = "", seconds: float = 10) -> str:
    """Sleep."""
    began.append(name)
    await ctx.sleep(seconds)
    return name


# Files that the check of an input finds.
files: set[str] = set()


def _is_there(name: str) -> str:
    if name not in files:
        raise FileNotFoundError(name)
    return name


@agent
async def read(ctx: Context, name: Annotated[str, AfterValidator(_is_there)]) -> None:
    """Take a file whose name is checked, in a way that raises what it likes."""
    began.append(name)


class Wall:
    """A wall clock: Trio's clock, and how much it was set beyond that."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self, seconds: float) -> str:
        at = EPOCH + timedelta(seconds=trio.current_time() + self.ahead_s + seconds)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Machine:
    """A disk and a clock that outlive the orchestrators which use them."""

    def __init__(self) -> None:
        self.disk = Disk(0.0)
        self.wall = Wall()

    @asynccontextmanager
    async def life(self, *, crash: bool = False, **limits: Any) -> AsyncIterator[Orchestrator]:
        """Open an orchestrator; leave it in good order, or by a crash."""
        mount = Mount(self.disk)

        @asynccontextmanager
        async def mounted(url: str) -> AsyncIterator[Mount]:
            yield mount

        with patch("orchestrator.runtime.open_store", mounted):
            known = {"agents": [nap, read]} | limits
            opening = open_orchestrator("sqlite:///disk", now=self.wall, **known)
            async with opening as orchestrator:
                yield orchestrator
                if crash:
                    await mount.crash()

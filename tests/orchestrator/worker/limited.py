"""Agents whose processes have limits."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import agent

if TYPE_CHECKING:
    from orchestrator import AsyncioContext, Context, SyncContext

_LIMITS: dict[str, Any] = {"memory_mib": 256, "cpu_s": 1}


@agent(**_LIMITS)
async def on_trio(ctx: Context, how: str) -> int:
    """Exceed a limit."""
    return exceed(how)


@agent(**_LIMITS)
def blocking(ctx: SyncContext, how: str) -> int:
    """Exceed a limit."""
    ctx.on_stop(print, "never said")
    return exceed(how)


@agent(runtime="asyncio", **_LIMITS)
async def on_asyncio(ctx: AsyncioContext, how: str) -> int:
    """Exceed a limit."""
    return exceed(how)


def exceed(how: str) -> int:
    """Take too much of something."""
    if how == "memory":
        return len([bytearray(1 << 20) for _ in range(1 << 20)])
    while how == "time":
        pass
    return len(bytearray(100 << 20))


@agent(env=("QUIETLY_PASSED_ON", "NOT_SET_AT_ALL"), cwd="/usr")
def surrounded(ctx: SyncContext) -> dict[str, Any]:
    """Return what surrounds it."""
    names = ("QUIETLY_PASSED_ON", "NOT_SET_AT_ALL", "KEPT_BACK")
    return {"env": {name: os.environ.get(name) for name in names}, "cwd": os.getcwd()}


@agent
def alone(ctx: SyncContext) -> tuple[str, list[str]]:
    """Leave a file in its folder, and return which that is and what was in it."""
    there = os.listdir()
    Path("left").write_text("something")
    return os.getcwd(), there


@agent(cwd="/nowhere/at/all")
def lost(ctx: SyncContext) -> None:
    """Nothing."""


@agent
def slow(ctx: SyncContext) -> list[float]:
    """Return when it ran."""
    began = time.monotonic()
    time.sleep(0.3)
    return [began, time.monotonic()]


@agent
def meddling(ctx: SyncContext, said: str) -> None:
    """Write to what is not its own, or close it, and do not end."""
    ctx.log(str(os.getpid()))
    # What is told goes out by itself; this must come after it.
    time.sleep(0.3)
    if said:
        os.write(3, f"{said}\n".encode())
    else:
        os.close(3)
    while True:
        try:
            time.sleep(1000)
        except BaseException:
            continue

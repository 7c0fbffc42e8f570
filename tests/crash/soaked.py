"""The server of a soak: ``python -m tests.crash.soaked STORE VICTIM``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from functools import partial

import trio

from api.service import serve_forever
from orchestrator import Context, agent
from tests.bench.processes import say

VICTIM = sys.argv[2] if len(sys.argv) > 2 else ""


@agent
async def worker(ctx: Context) -> None:
    """Do short operations for ever."""
    while True:
        async with ctx.operation("work"):
            await trio.sleep(0.2)


@agent
async def reader(ctx: Context) -> None:
    """Read a stream that never ends."""
    async with ctx.operation("read"), ctx.http.stream("GET", f"{VICTIM}/stream") as stream:
        async for _ in stream.aiter_raw():
            await ctx.progress(50)


@agent
async def family(ctx: Context) -> None:
    """Have sub-agents that never end."""
    await ctx.map(worker, [{}, {}])


@agent
async def short(ctx: Context) -> str:
    """Keep something, and end soon."""
    await ctx.step("one", lambda: 1)
    await ctx.artifact("file", b"f" * 1000)
    await ctx.sleep(0.2)
    return "done"


@agent
async def census(ctx: Context) -> dict[str, int]:
    """Count what a server must not have more and more of."""
    status = await trio.Path("/proc/self/status").read_text()
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "files": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "kib": int(rss.split()[1]),
    }


ALL = [worker, reader, family, short]


if __name__ == "__main__":
    # That runs are lost is what this is for.
    logging.getLogger("quiesce").setLevel(logging.ERROR)
    trio.run(
        partial(
            serve_forever,
            store=sys.argv[1],
            agents=[*ALL, census],
            host="127.0.0.1",
            port=0,
            grace_s=2,
            announce=say,
        )
    )

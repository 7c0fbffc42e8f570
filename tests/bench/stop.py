"""From the stop call to the last connection closed, as the other end of the wire sees it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import httpx
import trio

from orchestrator import Context, Orchestrator, agent, open_orchestrator
from tests.bench.measure import Effort, in_turns
from tests.bench.report import Figure, ratio_at_most
from tests.bench.victim import Victim, open_victim

if TYPE_CHECKING:
    import ssl

READERS = 5


class Stopped(NamedTuple):
    """What one stop took, in milliseconds: until all was closed, and until all was over."""

    closed: float
    over: float


@agent
async def reader(ctx: Context, url: str) -> None:
    """Read an endless stream, as an operation."""
    async with ctx.operation("http", url), ctx.http.stream("GET", url) as response:
        async for _ in response.aiter_raw():
            pass


@agent
async def family(ctx: Context, url: str) -> None:
    """Read several streams in sub-agents."""
    await ctx.map(reader, [{"url": url}] * READERS)


async def bench_stop(effort: Effort) -> list[Figure]:
    """Stop a parent with five children, each of which reads an endless stream."""
    tls = httpx.create_ssl_context()
    with TemporaryDirectory() as folder:
        async with (
            open_victim() as victim,
            open_orchestrator() as in_memory,
            open_orchestrator(f"sqlite:///{Path(folder) / 'runs.db'}") as on_disk,
        ):
            taken = await in_turns(
                effort.times(100),
                {
                    "floor": partial(_bare, victim, tls),
                    "memory": partial(_stopped, in_memory, victim),
                    "sqlite": partial(_stopped, on_disk, victim),
                },
            )
    floor = taken.pop("floor")
    closed, over = "bare nursery, all closed", "bare nursery, left"
    return [
        Figure(
            f"stop to {READERS} connections closed, {store}",
            "ms",
            [each.closed for each in stops],
            closed,
            [each.closed for each in floor],
            ratio_at_most(1.5),
        )
        for store, stops in taken.items()
    ] + [
        Figure(
            f"stop to the receipt, {store}",
            "ms",
            [each.over for each in stops],
            over,
            [each.over for each in floor],
        )
        for store, stops in taken.items()
    ]


async def _stopped(orchestrator: Orchestrator, victim: Victim) -> Stopped:
    run = await orchestrator.start(family, {"url": victim.url})
    await victim.streaming(READERS)
    began = time.monotonic()
    await run.stop(mode="now")
    over = time.monotonic()
    closed = await victim.last_close(READERS)
    return Stopped((closed - began) * 1e3, (over - began) * 1e3)


async def _bare(victim: Victim, tls: ssl.SSLContext) -> Stopped:
    async with trio.open_nursery() as nursery:
        for _ in range(READERS):
            nursery.start_soon(_bare_reader, victim.url, tls)
        await victim.streaming(READERS)
        began = time.monotonic()
        nursery.cancel_scope.cancel()
    over = time.monotonic()
    closed = await victim.last_close(READERS)
    return Stopped((closed - began) * 1e3, (over - began) * 1e3)


async def _bare_reader(url: str, tls: ssl.SSLContext) -> None:
    with trio.CancelScope():
        async with (
            trio.open_nursery(),
            httpx.AsyncClient(verify=tls, timeout=None) as client,
            client.stream("GET", url) as response,
        ):
            async for _ in response.aiter_raw():
                pass

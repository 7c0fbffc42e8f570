"""Many runs stopped at once, and one large tree stopped by its root: is it linear?"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import trio
import trio.testing

from orchestrator import Context, Orchestrator, StopMode, StopSource, agent, open_orchestrator
from tests.bench.idle import all_running, sleeper
from tests.bench.measure import Effort, bare_run, in_turns
from tests.bench.report import Figure, ratio_at_most

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Measure = Callable[[int], Awaitable[float]]

# A larger crowd may cost that much more for each of it.
LINEAR = 1.5


@agent
async def family(ctx: Context, children: int) -> None:
    """Sleep in that many sub-agents."""
    await ctx.map(sleeper, [{}] * children)


async def bench_crowd(effort: Effort) -> list[Figure]:
    """Stop 1,000 and 10,000 idle runs at once, until all of it is durable."""
    sizes = effort.of(1_000), effort.of(10_000)
    return await _compared(effort.times(3), "idle runs", sizes, _stop_all, _bare_crowd)


async def bench_tree(effort: Effort) -> list[Figure]:
    """Stop one root with 1,000 and 2,000 idle children, until all of it is durable."""
    sizes = effort.of(1_000), effort.of(2_000)
    return await _compared(effort.times(7), "children of one root", sizes, _stop_tree, _bare_tree)


async def _compared(
    times: int,
    what: str,
    sizes: tuple[int, int],
    stop: Callable[[Orchestrator, int], Awaitable[float]],
    bare: Measure,
) -> list[Figure]:
    figures = []
    for store in ("memory", "sqlite"):
        with TemporaryDirectory() as folder:
            url = "memory://" if store == "memory" else f"sqlite:///{Path(folder) / 'runs.db'}"
            async with open_orchestrator(url) as orchestrator:
                measures = {
                    f"{name} {size}": partial(measure, size)
                    for size in sizes
                    for name, measure in (("bare", bare), ("ours", partial(stop, orchestrator)))
                }
                taken = await in_turns(times, measures)
        figures += [
            Figure(
                f"stop {size:,} {what}, {store}",
                "µs a run",
                taken[f"ours {size}"],
                "bare scopes with nurseries",
                taken[f"bare {size}"],
            )
            for size in sizes
        ]
        small, large = sizes
        figures.append(
            Figure(
                f"the same, {large:,} beside {small:,}, {store}",
                "µs a run",
                taken[f"ours {large}"],
                f"{small:,} {what}",
                taken[f"ours {small}"],
                ratio_at_most(LINEAR),
            )
        )
    return figures


async def _stop_all(orchestrator: Orchestrator, size: int) -> float:
    await all_running([orchestrator.admit(sleeper) for _ in range(size)])
    began = time.monotonic()
    orchestrator.stop_all(mode=StopMode.NOW, grace_s=None, source=StopSource.ADMIN)
    while live := list(orchestrator.registry):
        await live[-1].ended.wait()
    return (time.monotonic() - began) / size * 1e6


async def _stop_tree(orchestrator: Orchestrator, size: int) -> float:
    root = orchestrator.admit(family, {"children": size})
    while len(orchestrator.registry) <= size:
        await trio.sleep(0.001)
    await all_running(orchestrator.registry)
    began = time.monotonic()
    receipt = await root.stop(mode=StopMode.NOW)
    took = time.monotonic() - began
    assert receipt.runs_stopped == size + 1
    return took / size * 1e6


async def _bare_crowd(size: int) -> float:
    scopes: list[trio.CancelScope] = []
    async with trio.open_nursery() as nursery:
        for _ in range(size):
            nursery.start_soon(bare_run, scopes)
        await trio.testing.wait_all_tasks_blocked()
        began = time.monotonic()
        for scope in scopes:
            scope.cancel()
    return (time.monotonic() - began) / size * 1e6


async def _bare_tree(size: int) -> float:
    async with trio.open_nursery() as nursery:
        for _ in range(size):
            nursery.start_soon(bare_run, [])
        await trio.testing.wait_all_tasks_blocked()
        began = time.monotonic()
        nursery.cancel_scope.cancel()
    return (time.monotonic() - began) / size * 1e6

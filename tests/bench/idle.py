"""What an idle run costs in memory, measured in a process of its own each time.

python -m tests.bench.idle sqlite 5000 1 /tmp
"""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from orchestrator import Context, Run, agent, open_orchestrator
from tests.bench.measure import Effort, bare_run, in_turns
from tests.bench.processes import ROOT, open_peer, say
from tests.bench.report import Figure, at_most

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

RUNS = 5_000
# Runs that are there before the first look, so that what is made once is not counted.
EARLIER = 100
# Started at once: few, or what starting needs in passing would be counted too.
TOGETHER = 50


async def bench_idle(effort: Effort) -> list[Figure]:
    """Keep many runs that do nothing, and see by how much the process has grown."""
    runs = effort.of(RUNS, least=500)
    with TemporaryDirectory() as folder:
        measures = {kind: partial(_measured, kind, runs, folder) for kind in _KINDS}
        taken = await in_turns(effort.times(5), measures)
        traces = {
            kind: (await _report_of(kind, runs, folder, trace=True))["top"] if effort.trace else []
            for kind in _KINDS
        }
    floor = taken.pop("bare")
    return [
        Figure(
            f"memory of {runs:,} idle runs, {kind}",
            "KiB a run",
            sizes,
            "bare scopes with nurseries",
            floor,
            at_most(24) if kind == "sqlite" else None,
            tuple(traces[kind]),
        )
        for kind, sizes in taken.items()
    ]


async def _measured(kind: str, runs: int, folder: str) -> float:
    return float((await _report_of(kind, runs, folder, trace=False))["kib"])


async def _report_of(kind: str, runs: int, folder: str, *, trace: bool) -> dict[str, Any]:
    async with open_peer("idle", kind, str(runs), str(int(trace)), folder) as peer:
        report: dict[str, Any] = await peer.read()
    return report


@agent
async def sleeper(ctx: Context) -> None:
    """Do nothing, for ever."""
    await trio.sleep_forever()


async def all_running(runs: Iterable[Run]) -> None:
    """Wait until every run is running, and that is durable. Polls, since nothing tells."""
    for run in runs:
        while run.status != "running":
            await trio.sleep(0.001)


async def _bare(runs: int, folder: str, trace: bool) -> None:
    async with trio.open_nursery() as nursery:
        scopes: list[trio.CancelScope] = []

        async def start(count: int) -> None:
            for _ in range(count):
                nursery.start_soon(bare_run, scopes)
            await trio.testing.wait_all_tasks_blocked()

        await _report_growth(start, runs, trace)


async def _ours(url: str, runs: int, folder: str, trace: bool) -> None:
    with TemporaryDirectory(dir=folder) as own:
        async with open_orchestrator(url.format(folder=own)) as orchestrator:

            async def start(count: int) -> None:
                for _ in range(count // TOGETHER):
                    await all_running([orchestrator.admit(sleeper) for _ in range(TOGETHER)])

            await _report_growth(start, runs, trace)


async def _report_growth(start: Callable[[int], Awaitable[None]], runs: int, trace: bool) -> None:
    await start(EARLIER)
    if trace:
        tracemalloc.start()
    gc.collect()
    before = _resident_kib()
    await start(runs)
    gc.collect()
    top = _top(tracemalloc.take_snapshot(), runs) if trace else []
    say({"kib": (_resident_kib() - before) / runs, "top": top})
    # The report is all that is wanted; an orderly end would only take time.
    os._exit(0)


def _resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def _top(snapshot: tracemalloc.Snapshot, runs: int) -> list[str]:
    """Return the ten files that allocated most of what is alive."""
    lines = snapshot.statistics("filename")
    total = sum(each.size for each in lines)
    return [f"{total / runs:8,.0f} bytes a run are traced"] + [
        f"{each.size / runs:8,.0f} bytes in {each.count / runs:5.1f} blocks:"
        f" {_place(each.traceback[0].filename)}"
        for each in lines[:10]
    ]


def _place(filename: str) -> str:
    short = filename.removeprefix(f"{ROOT}/")
    return short.rpartition("site-packages/")[2]


_KINDS: dict[str, Callable[[int, str, bool], Awaitable[None]]] = {
    "bare": _bare,
    "memory": partial(_ours, "memory://"),
    "sqlite": partial(_ours, "sqlite:///{folder}/runs.db"),
}


def _main(kind: str, runs: str, trace: str, folder: str) -> None:
    trio.run(_KINDS[kind], int(runs), folder, trace == "1")


if __name__ == "__main__":
    _main(*sys.argv[1:])

"""Pages of a large list of runs over HTTP, beside a call that answers a page it has already."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import trio
from quart_trio import QuartTrio

from api.answers import run_json
from api.server import serve
from api.service import open_server
from orchestrator import Orchestrator, RunId, RunOptions, RunRecord, RunStatus, open_orchestrator
from orchestrator.store.writes import SaveRun
from tests.api.wire import connect
from tests.bench.measure import Effort, in_turns
from tests.bench.report import Figure, ratio_at_most

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.api.wire import Wire

RUNS = 100_000
AGENTS = 50
BATCH = 1_000
PAGE = 50
AT = "2026-01-01T00:00:00.000Z"


async def bench_lists(effort: Effort) -> list[Figure]:
    """Read the first page, one of the middle, and filtered ones, of 100,000 runs."""
    runs = effort.of(RUNS, least=4 * PAGE)
    with TemporaryDirectory() as folder:
        async with open_orchestrator(f"sqlite:///{Path(folder) / 'runs.db'}") as orchestrator:
            await _fill(orchestrator, runs)
            async with open_server(orchestrator) as url, trio.open_nursery() as nursery:
                closing = trio.Event()
                plain = await nursery.start(
                    partial(serve, _plain(), host="127.0.0.1", port=0, closing=closing)
                )
                async with connect(_address(url)) as wire, connect(plain) as floor:
                    measures = await _measures(wire, floor, runs)
                    taken = await in_turns(effort.times(30), measures)
                closing.set()
    floor_taken = taken.pop("floor")
    figures = [
        Figure(f"{name} of {runs:,} runs", "ms", times, "a page that is there", floor_taken)
        for name, times in taken.items()
    ]
    steady = Figure(
        f"the middle beside the first page, {runs:,} runs",
        "ms",
        taken["a page in the middle"],
        "the first page",
        taken["the first page"],
        ratio_at_most(1.5),
    )
    return [*figures, steady]


async def _measures(
    wire: Wire, floor: Wire, runs: int
) -> dict[str, Callable[[], Awaitable[float]]]:
    middle = quote(await _cursor_behind(wire, runs // 2), safe="")
    paths = {
        "the first page": "/runs",
        "a page in the middle": f"/runs?after={middle}",
        "a page by agent": "/runs?agent=agent-7",
        "a page by owner": "/runs?owner=owner-3",
        "a page by tag": "/runs?tag=tag-11",
        "a page by status": "/runs?status=failed",
    }
    asked = {name: partial(_timed, wire, path) for name, path in paths.items()}
    return {"floor": partial(_timed, floor, "/"), **asked}


async def _cursor_behind(wire: Wire, count: int) -> str:
    """Return the cursor of a page that lies behind so many runs."""
    path = f"/runs?limit={min(count, 500)}"
    page = await _get(wire, path)
    seen = len(page["runs"])
    while seen < count:
        page = await _get(wire, f"{path}&after={quote(page['next'], safe='')}")
        seen += len(page["runs"])
    cursor: str = page["next"]
    return cursor


async def _timed(wire: Wire, path: str) -> float:
    began = time.monotonic()
    page = await _get(wire, path)
    took = time.monotonic() - began
    assert 0 < len(page["runs"]) <= PAGE
    return took * 1e3


async def _get(wire: Wire, path: str) -> Any:
    answer = await wire.ask(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert answer is not None
    assert answer.status == 200, answer
    return json.loads(answer.body)


def _record(number: int) -> RunRecord:
    run_id = RunId(f"run_{number:020x}")
    status = RunStatus.FAILED if number % 20 == 0 else RunStatus.SUCCEEDED
    return RunRecord(
        id=run_id,
        root_id=run_id,
        agent=f"agent-{number % AGENTS}",
        status=status,
        created_at=AT,
        ended_at=AT,
        owner=f"owner-{number % 10}",
        input={"number": number},
        options=RunOptions(tags=(f"tag-{number % 100}",)),
    )


async def _fill(orchestrator: Orchestrator, runs: int) -> None:
    for first in range(0, runs, BATCH):
        numbers = range(first, min(first + BATCH, runs))
        await orchestrator.store.write([SaveRun(_record(number)) for number in numbers])


def _plain() -> QuartTrio:
    app = QuartTrio("plain", static_folder=None)
    page = {"runs": [run_json(_record(number)) for number in range(PAGE)], "next": None}

    @app.get("/")
    async def there() -> dict[str, Any]:
        return page

    return app


def _address(url: str) -> tuple[str, int]:
    return "127.0.0.1", int(url.rpartition(":")[2])

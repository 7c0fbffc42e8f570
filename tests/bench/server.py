"""A server process for the benchmarks: Quiesce, and beside it calls that do next to nothing.

    python -m tests.bench.server sqlite:////tmp/runs.db

They are calls of Quiesce's own interface, which pass what every call of it passes, and calls of a
bare application. All are in one process and served in the same way.
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import trio
from quart import request
from quart_trio import QuartTrio

from api.answers import run_json
from api.app import create_app
from api.server import Address, serve
from api.service import serve_forever, tune_collector
from orchestrator import Context, RunId, RunRecord, RunStatus, agent, open_orchestrator
from orchestrator.store.sqlite.connection import connect
from orchestrator.store.sqlite.thread import WorkThread
from tests.bench.processes import end_with_parent, open_peer, say
from tests.bench.stop import family, reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

NOTHING, COMMIT = "/nothing", "/commit"


@agent
async def sleeper(ctx: Context) -> None:
    """Do nothing, for ever."""
    await trio.sleep_forever()


class Addresses(NamedTuple):
    """Where Quiesce is, and where the other calls are: those of its own, and the bare ones."""

    quiesce: Address
    empty: Address
    bare: Address


@asynccontextmanager
async def open_server(store: str) -> AsyncIterator[Addresses]:
    """Run the process for the time of the body."""
    async with open_peer("server", store) as peer:
        bare, empty, url = await peer.read(), await peer.read(), await peer.read()
        host, _, port = str(url).removeprefix("http://").partition(":")
        yield Addresses((host, int(port)), (empty[0], empty[1]), (bare[0], bare[1]))


def doing_little(app: QuartTrio, commit: Callable[[], Awaitable[object]]) -> QuartTrio:
    """Give an application calls that read JSON and answer as if they had started a run.

    Args:
        commit: what one of them does before it answers.
    """
    run_id = RunId("run_" + 20 * "0")
    at = "2026-01-01T00:00:00.000Z"
    record = RunRecord(
        id=run_id, root_id=run_id, agent="sleeper", status=RunStatus.QUEUED, created_at=at
    )
    answer = run_json(record) | {"partial": None}

    @app.post(NOTHING)
    async def nothing() -> tuple[dict[str, Any], int]:
        await request.get_json()
        return answer, 201

    @app.post(COMMIT)
    async def committing() -> tuple[dict[str, Any], int]:
        await request.get_json()
        await commit()
        return answer, 201

    return app


@contextmanager
def bare_commits(path: Path) -> Iterator[Callable[[], Awaitable[object]]]:
    """Yield what makes a row of a plain table durable, in a thread as the store does."""
    with closing(connect(path)) as db, closing(WorkThread("bare commits")) as thread:
        db.pragma("journal_mode", "wal")
        db.execute("CREATE TABLE rows(value)")
        insert = partial(db.execute, "INSERT INTO rows VALUES (?)", (400 * "x",))
        yield partial(thread.run, insert)


async def _main(store: str) -> None:
    path = Path(store.removeprefix("sqlite:///")).with_suffix(".bare")
    with bare_commits(path) as commit:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_with_parent)
            end = trio.Event()
            async with open_orchestrator() as orchestrator:
                for app in (QuartTrio("bare", static_folder=None), create_app(orchestrator)):
                    beside = doing_little(app, commit)
                    at = partial(serve, beside, host="127.0.0.1", port=0, closing=end)
                    say(await nursery.start(at))
                await serve_forever(
                    store=store,
                    agents=[sleeper, family, reader],
                    host="127.0.0.1",
                    port=0,
                    grace_s=0,
                    announce=say,
                )
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    tune_collector()
    trio.run(_main, sys.argv[1])

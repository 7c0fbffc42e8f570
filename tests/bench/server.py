"""A server process for the benchmarks: Quiesce, and beside it an application that does nothing.

    python -m tests.bench.server sqlite:////tmp/runs.db

Both are in one process and served in the same way, so that only what a call does differs.
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from quart import request
from quart_trio import QuartTrio

from api.answers import run_json
from api.server import Address, serve
from api.service import serve_forever
from orchestrator import Context, RunId, RunRecord, RunStatus, agent
from tests.bench.processes import end_with_parent, open_peer, say
from tests.bench.stop import family, reader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@agent
async def sleeper(ctx: Context) -> None:
    """Do nothing, for ever."""
    await trio.sleep_forever()


@asynccontextmanager
async def open_server(store: str) -> AsyncIterator[tuple[Address, Address]]:
    """Run the process for the time of the body; yields where Quiesce is, and the other one."""
    async with open_peer("server", store) as peer:
        plain, url = await peer.read(), await peer.read()
        host, _, port = str(url).removeprefix("http://").partition(":")
        yield (host, int(port)), (plain[0], plain[1])


def plain_app() -> QuartTrio:
    """Return an application that reads JSON, does nothing, and answers as if it had."""
    app = QuartTrio("plain", static_folder=None)
    run_id = RunId("run_" + 20 * "0")
    at = "2026-01-01T00:00:00.000Z"
    record = RunRecord(
        id=run_id, root_id=run_id, agent="sleeper", status=RunStatus.QUEUED, created_at=at
    )
    answer = run_json(record) | {"partial": None}

    @app.post("/")
    async def nothing() -> tuple[dict[str, Any], int]:
        await request.get_json()
        return answer, 201

    return app


async def _main(store: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_with_parent)
        closing = trio.Event()
        plain = partial(serve, plain_app(), host="127.0.0.1", port=0, closing=closing)
        say(await nursery.start(plain))
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
    trio.run(_main, sys.argv[1])

"""Durable commits: how long one takes, and how many a second, beside the database itself.

Each commit makes one event durable. Raw is one row, inserted in a transaction of its own by a
thread, as a program on Trio would. With many callers each waits for its own event: ours share
commits through the journal, while the raw ones take turns on one connection.
"""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import psycopg
import trio

from orchestrator.clock import utc_now
from orchestrator.events import Event
from orchestrator.journal import Journal
from orchestrator.starting import new_run_id
from orchestrator.store import open_store
from orchestrator.store.codec import event_row
from orchestrator.store.sqlite.connection import Transaction, connect
from orchestrator.store.sqlite.schema import prepare
from orchestrator.store.writes import AppendEvent
from orchestrator.timers import Timers
from tests import postgres
from tests.bench.measure import Effort, in_turns
from tests.bench.report import Figure, ratio_at_least, ratio_at_most

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator.store import Store

    Insert = Callable[[Event], None]

COMMITS = 400
CALLERS = 32
DATA = {"step": 17, "url": "https://example.org/" + 60 * "x", "title": 80 * "t", "ok": True}

_COLUMNS = "(root_id, seq, run_id, type, at, data)"
_SQLITE = f"INSERT INTO events{_COLUMNS} VALUES (?, ?, ?, ?, ?, ?)"
_POSTGRES = f"INSERT INTO quiesce.events{_COLUMNS} VALUES (%s, %s, %s, %s, %s, %s)"


async def bench_commits(effort: Effort) -> list[Figure]:
    """Make events durable one by one and by many callers, in SQLite and, if it is there, in
    PostgreSQL with ``fsync``."""
    with TemporaryDirectory() as folder:
        raw = Path(folder) / "raw.db"
        with closing(connect(raw)) as db:
            prepare(db, raw)

            def insert(event: Event) -> None:
                with Transaction(db):
                    db.execute(_SQLITE, event_row(event))

            figures = await _bench(effort, f"sqlite:///{folder}/ours.db", "sqlite", "apsw", insert)
    if postgres.programs() is not None:
        with postgres.serving(fsync="on", full_page_writes="on") as server:
            figures += await _bench_postgres(effort, server)
    return figures


async def _bench_postgres(effort: Effort, server: postgres.Server) -> list[Figure]:
    ours, other = server.make_database("ours"), server.make_database("other")
    # The raw inserts go into the same tables, of another database.
    async with open_store(other):
        pass
    with closing(psycopg.connect(other, autocommit=True)) as db:

        def insert(event: Event) -> None:
            with db.transaction():
                db.execute(_POSTGRES, event_row(event))

        return await _bench(effort, ours, "postgresql", "psycopg", insert)


async def _bench(effort: Effort, url: str, kind: str, library: str, insert: Insert) -> list[Figure]:
    count = effort.of(COMMITS, least=CALLERS)
    async with open_store(url) as store, trio.open_nursery() as nursery:
        journal = Journal(store, Timers())
        nursery.start_soon(journal.run)
        measures: dict[str, Callable[[], Awaitable[tuple[float, float]]]] = {
            "raw": partial(_serial, partial(_raw, insert), count),
            "ours": partial(_serial, partial(_ours, store), count),
            "raw crowd": partial(_crowd, partial(_raw, insert), count),
            "our crowd": partial(_crowd, partial(_journalled, journal), count),
        }
        taken = await in_turns(effort.times(7), measures)
        journal.close(1)
    alone = partial(_figure, taken, "ours", "raw", library)
    crowd = partial(_figure, taken, "our crowd", "raw crowd", library)
    return [
        alone("ms", f"a commit, {kind}"),
        alone("1/s", f"commits by 1 caller, {kind}"),
        crowd("1/s", f"commits by {CALLERS} callers, {kind}"),
        crowd("ms", f"a commit of {CALLERS} callers, {kind}"),
    ]


def _figure(
    taken: dict[str, list[tuple[float, float]]],
    ours: str,
    raw: str,
    library: str,
    unit: str,
    name: str,
) -> Figure:
    place = 0 if unit == "ms" else 1
    samples, floor = ([each[place] for each in taken[key]] for key in (ours, raw))
    target = ratio_at_most(3) if unit == "ms" else ratio_at_least(1 / 3)
    return Figure(name, unit, samples, library, floor, target)


def _event(seq: int, root: str) -> Event:
    return Event(seq, root, root, "bench.tick", utc_now(0), DATA)  # type: ignore[arg-type]


async def _raw(insert: Insert, event: Event) -> None:
    await trio.to_thread.run_sync(insert, event, limiter=_ONE)


async def _ours(store: Store, event: Event) -> None:
    await store.write([AppendEvent(event)])


async def _journalled(journal: Journal, event: Event) -> None:
    await journal.durable(journal.append([AppendEvent(event)], urgent=True))


async def _serial(commit: Callable[[Event], Awaitable[None]], count: int) -> tuple[float, float]:
    """Return the median time of a commit in milliseconds, and commits per second."""
    return await _crowd(commit, count, callers=1)


async def _crowd(
    commit: Callable[[Event], Awaitable[None]], count: int, callers: int = CALLERS
) -> tuple[float, float]:
    """Let so many callers wait for their own commits; as for ``_serial``."""
    times: list[float] = []

    async def call() -> None:
        root = new_run_id()
        for seq in range(1, count // callers + 1):
            began = time.monotonic()
            await commit(_event(seq, root))
            times.append(time.monotonic() - began)

    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for _ in range(callers):
            nursery.start_soon(call)
    took = time.monotonic() - began
    return sorted(times)[len(times) // 2] * 1e3, len(times) / took


_ONE = trio.CapacityLimiter(1)

"""Events into SQLite, beside SQLite itself: through the store alone, and all the way from agents.

The store takes events as they are and makes rows of them, in a thread; SQLite itself is given
rows that were made beforehand. From an agent's ``ctx.emit`` until the event is durable it is a
longer way, whose floor is what a program on Trio must do at the least: a checkpoint, one JSON
encoding and one row for each, and apsw in a thread.
"""

from __future__ import annotations

import time
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import trio

from orchestrator import Context, Event, Orchestrator, agent, open_orchestrator
from orchestrator.clock import utc_now
from orchestrator.starting import new_run_id
from orchestrator.store.codec import event_row
from orchestrator.store.sqlite.connection import Transaction, connect
from orchestrator.store.sqlite.schema import prepare
from orchestrator.store.writes import AppendEvent
from tests.bench.measure import Effort, in_turns
from tests.bench.report import Figure, ratio_at_least

if TYPE_CHECKING:
    import apsw

    from orchestrator.store.codec import Row
    from orchestrator.store.protocol import Store

EVENTS = 20_000
# What the raw inserts put into one transaction.
BATCH = 500
# About 200 bytes of JSON.
TICK = {"step": 17, "url": "https://example.org/" + 60 * "x", "title": 80 * "t", "ok": True}

_INSERT = "INSERT INTO events(root_id, seq, run_id, type, at, data) VALUES (?, ?, ?, ?, ?, ?)"


async def bench_events(effort: Effort) -> list[Figure]:
    """Emit events in one run and in eight, beside batched inserts of the same rows."""
    events = effort.of(EVENTS, least=8)
    figures = []
    with TemporaryDirectory() as folder, closing(_raw_store(Path(folder) / "raw.db")) as db:
        async with open_orchestrator(f"sqlite:///{Path(folder) / 'runs.db'}") as orchestrator:
            for runs in (1, 8):
                share = events // runs
                taken = await in_turns(
                    effort.times(9),
                    {
                        "raw": partial(_raw, db, runs, share),
                        "store": partial(_stored, orchestrator.store, runs, share),
                        "told": partial(_told, db, runs, share),
                        "emit": partial(_emitted, orchestrator, runs, share),
                    },
                )
                figures += _figures(f"events by {runs} run{'s' * (runs > 1)}, sqlite", taken)
    return figures


def _figures(name: str, taken: dict[str, list[float]]) -> list[Figure]:
    raw, told = f"apsw executemany, {BATCH} a commit", "checkpoint, JSON, apsw in a thread"
    return [
        Figure(f"{name}, store", "1/s", taken["store"], raw, taken["raw"], ratio_at_least(0.5)),
        Figure(f"{name}, ctx.emit", "1/s", taken["emit"], told, taken["told"], ratio_at_least(0.5)),
        Figure(f"{name}, ctx.emit", "1/s", taken["emit"], raw, taken["raw"]),
    ]


@agent
async def teller(ctx: Context, events: int) -> None:
    """Emit so many events."""
    for _ in range(events):
        await ctx.emit("bench.tick", TICK)


async def _emitted(orchestrator: Orchestrator, runs: int, share: int) -> float:
    """Return events per second; a run has ended when all that it said is durable."""
    began = time.monotonic()
    tellers = [orchestrator.admit(teller, {"events": share}) for _ in range(runs)]
    for run in tellers:
        await run.wait()
    took = time.monotonic() - began
    assert all(run.record.status == "succeeded" for run in tellers)
    return runs * share / took


async def _stored(store: Store, runs: int, share: int) -> float:
    """Give events to the store in batches of the size that the raw inserts have."""
    ids = [new_run_id() for _ in range(runs)]
    writes = [
        AppendEvent(Event(seq, run_id, run_id, "bench.tick", utc_now(0), TICK))
        for seq in range(1, share + 1)
        for run_id in ids
    ]
    began = time.monotonic()
    for first in range(0, len(writes), BATCH):
        await store.write(writes[first : first + BATCH])
    return len(writes) / (time.monotonic() - began)


def _raw_store(path: Path) -> apsw.Connection:
    db = connect(path)
    prepare(db, path)
    return db


async def _raw(db: apsw.Connection, runs: int, share: int) -> float:
    """Insert rows like those of so many runs that take turns; they are made beforehand."""
    rows = _rows(runs, share)
    began = time.monotonic()
    for first in range(0, len(rows), BATCH):
        with Transaction(db):
            db.executemany(_INSERT, rows[first : first + BATCH])
    return len(rows) / (time.monotonic() - began)


async def _told(db: apsw.Connection, runs: int, share: int) -> float:
    """Do the least that must be done for events that a task tells one by one."""

    def insert(rows: list[Row]) -> None:
        with Transaction(db):
            db.executemany(_INSERT, rows)

    ids = [new_run_id() for _ in range(runs)]
    began = time.monotonic()
    rows: list[Row] = []
    for seq in range(1, share + 1):
        for run_id in ids:
            await trio.lowlevel.checkpoint()
            rows.append(event_row(Event(seq, run_id, run_id, "bench.tick", utc_now(0), TICK)))
        if len(rows) >= BATCH or seq == share:
            await trio.to_thread.run_sync(insert, rows)
            rows = []
    return share * runs / (time.monotonic() - began)


def _rows(runs: int, share: int) -> list[Row]:
    ids = [new_run_id() for _ in range(runs)]
    return [
        event_row(Event(seq, run_id, run_id, "bench.tick", utc_now(0), TICK))
        for seq in range(1, share + 1)
        for run_id in ids
    ]

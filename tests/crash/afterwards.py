"""What must be true of a store after its process was killed, whatever the moment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import apsw

from orchestrator import (
    Context,
    Event,
    Orchestrator,
    RunRecord,
    RunStatus,
    StopOutcome,
    agent,
    open_orchestrator,
)
from orchestrator.events import ENDINGS
from orchestrator.store import open_store

_reborn: Counter[str] = Counter()


async def _say(ctx: Context) -> None:
    _reborn[ctx.run_id] += 1


@agent(name="ticker")
async def _ticker(ctx: Context) -> None:
    await _say(ctx)


@agent(name="worker")
async def _worker(ctx: Context, root: bool = True) -> None:
    await _say(ctx)


@agent(name="family")
async def _family(ctx: Context) -> None:
    await _say(ctx)


# Under the names of those that were killed, and over at once.
BRIEF = [_ticker, _worker, _family]


@dataclass
class Told:
    """What the lives of a store have acknowledged, in their order."""

    started: dict[str, dict[str, Any]] = field(default_factory=dict)
    stopping: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    began: Counter[str] = field(default_factory=Counter)
    ticks: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def next_life(self) -> None:
        """Forget what only concerns one life."""
        self.ticks.clear()

    def hear(self, words: dict[str, Any]) -> None:
        """Take in one line. What was stopped in an earlier life must never begin again."""
        match words:
            case {"started": run_id}:
                self.started[run_id] = words
            case {"stopping": run_id}:
                self.stopping.add(run_id)
            case {"ended": run_id, "status": status}:
                self.ended[run_id] = status
            case {"began": run_id}:
                assert run_id not in self.stopping, f"{run_id} was stopped, and began again"
                assert run_id not in self.ended, f"{run_id} had ended, and began again"
                self.began[run_id] += 1
            case {"tick": run_id, "n": n, "at": at}:
                self.ticks.setdefault(run_id, []).append((n, at))


@dataclass
class Figures:
    """What was checked, for the record."""

    kills: int = 0
    starts: int = 0
    stops: int = 0
    ends: int = 0
    events: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    lost_s: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        lost = sorted(self.lost_s) or [0.0]
        return (
            f"{self.kills} kills; acknowledged: {self.starts} starts, {self.stops} stops,"
            f" {self.ends} ends; {self.events} events; final {dict(self.statuses)};"
            f" progress lost: median {lost[len(lost) // 2] * 1e3:.1f} ms,"
            f" max {lost[-1] * 1e3:.1f} ms of {len(self.lost_s)} runs"
        )


async def look(url: str, told: Told, figures: Figures) -> dict[str, RunRecord]:
    """Read the store as the kill has left it, before anybody settles anything."""
    if url.startswith("sqlite:///"):
        db = apsw.Connection(url.removeprefix("sqlite:///"))
        assert db.pragma("integrity_check") == "ok"
        db.close()
    async with open_store(url) as store:
        found = {run_id: await store.get(run_id) for run_id in told.started}
        for run_id, ticks in told.ticks.items():
            feed = await store.events(run_id, after=0, limit=1_000_000)
            _check_ticks(feed, ticks, figures)
        unfinished = {run.id: run for run in await store.unfinished()}
    missing = [run_id for run_id, run in found.items() if run is None]
    assert missing == [], "acknowledged starts are gone"
    for run_id in told.stopping:
        run = found.get(run_id)
        assert run is None or run.stop is not None, "an acknowledged stop is gone"
    for run_id, status in told.ended.items():
        run = found.get(run_id)
        assert run is None or run.status == status, "an end that was seen is gone"
    return {run_id: run for run_id, run in found.items() if run is not None} | unfinished


def _check_ticks(feed: list[Event], ticks: list[tuple[int, float]], figures: Figures) -> None:
    """The stored progress is a gapless beginning of what was told; note how much is missing."""
    # Only the last life's: an earlier one began to count at 1 too.
    began = max((e.seq for e in feed if e.type == "run.started"), default=0)
    stored = [int(e.data["message"]) for e in feed if e.type == "run.progress" and e.seq > began]
    assert stored == list(range(1, len(stored) + 1))
    lost = [at for n, at in ticks if n > len(stored)]
    figures.lost_s.append(ticks[-1][1] - lost[0] if lost else 0.0)


async def settle(url: str, told: Told, before: dict[str, RunRecord], figures: Figures) -> None:
    """Open the store for good and check what has become of everything."""
    _reborn.clear()
    async with open_orchestrator(url, agents=BRIEF) as orchestrator:
        for run in orchestrator.registry:
            await run.wait()
        records = {run_id: await orchestrator.get(run_id) for run_id in before}
        for run_id, record in records.items():
            _check_fate(before[run_id], record, run_id in told.stopping)
            assert record.attempt >= told.began[run_id]
            figures.statuses[record.status] += 1
        for root in {record.root_id for record in records.values()}:
            figures.events += await _check_feed(orchestrator, root)
    async with open_orchestrator(url, agents=BRIEF) as orchestrator:
        assert len(orchestrator.registry) == 0
        assert records == {run_id: await orchestrator.get(run_id) for run_id in before}
    assert max(_reborn.values(), default=1) == 1


def _check_fate(before: RunRecord, after: RunRecord, told_stopped: bool) -> None:
    again = before.options.on_crash == "restart" and before.attempt < before.options.max_attempts
    if before.status.is_terminal:
        assert after == before
    elif before.stop is not None:
        assert after.status is RunStatus.STOPPED
    elif before.parent_id is not None:
        assert after.status in (RunStatus.STOPPED, RunStatus.LOST)
    elif before.status is RunStatus.QUEUED:
        assert (after.status, after.attempt) == (RunStatus.SUCCEEDED, before.attempt)
    elif again:
        assert (after.status, after.attempt) == (RunStatus.SUCCEEDED, before.attempt + 1)
    else:
        assert after.status is RunStatus.LOST
    born_again = not before.status.is_terminal and after.status is RunStatus.SUCCEEDED
    assert _reborn[after.id] == born_again
    if told_stopped:
        assert after.status is RunStatus.STOPPED
        assert not born_again
        assert after.stop is not None
        assert after.stop.outcome is StopOutcome.STOPPED
        assert after.stop.settled_at is not None


async def _check_feed(orchestrator: Orchestrator, root_id: str) -> int:
    events = await orchestrator.store.events(root_id, after=0, limit=1_000_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    ends = {event.run_id: event for event in events if event.type in ENDINGS}
    tree = await orchestrator.tree(root_id)
    assert len(ends) == len(tree) == sum(event.type in ENDINGS for event in events)
    assert events[-1] == ends[tree[0].id]
    for run in tree:
        assert ends[run.id].type == f"run.{run.status}"
        assert run.parent_id is None or ends[run.id].seq < ends[run.parent_id].seq
    return len(events)

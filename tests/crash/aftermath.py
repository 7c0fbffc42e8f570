"""What clients of lives that were killed have heard, and whether the store still says so."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import apsw
import trio

from orchestrator import RunStatus, open_orchestrator
from orchestrator.agent import Agent
from orchestrator.events import ENDINGS
from orchestrator.lifecycle import TRANSITIONS
from orchestrator.schedules.schedule import stamp_of
from orchestrator.store import open_store
from tests.crash.session import ALL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator import Context, Event, Orchestrator, RunRecord
    from orchestrator.store import Store


def _reachable(status: RunStatus) -> set[RunStatus]:
    found = {status}
    while more := {to for each in found for to in TRANSITIONS[each].values()} - found:
        found |= more
    return found


_DELETE = "DELETE /runs/"
LATER = {status: _reachable(status) for status in RunStatus}


@dataclass
class Heard:
    """All that was said by some lives of a store, one after the other.

    Attributes:
        seen: of each run, the statuses and attempts that were shown, in their order.
        whole: of each run, what else an answer has shown of it.
        stopped: runs whose stop was acknowledged or shown.
        discarding, discarded: runs of which everything was to be thrown away, and of which that
            was acknowledged.
        events: what was shown of each feed: number -> (run, type).
        asked, granted: requests, as often as they were made and answered.
        steps, data: what agents were told is durable; of data also what they tried since.
    """

    seen: dict[str, list[tuple[RunStatus, int]]] = field(default_factory=dict)
    whole: dict[str, dict[str, Any]] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    discarding: set[str] = field(default_factory=set)
    discarded: set[str] = field(default_factory=set)
    events: dict[str, dict[int, tuple[str, str]]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    granted: Counter[str] = field(default_factory=Counter)
    steps: list[tuple[str, str, Any]] = field(default_factory=list)
    data: dict[str, list[Any]] = field(default_factory=dict)
    # How much of each run had been seen when the client last asked for something.
    _when_asked: dict[str, int] | None = None

    def hear(self, said: dict[str, Any]) -> None:
        """Take in one line."""
        match said:
            case {"asking": [method, path], "discarding": run_ids}:
                self.asked[f"{method} {path}"] += 1
                self.discarding.update(run_ids)
                self._when_asked = {run_id: len(seen) for run_id, seen in self.seen.items()}
            case {"granted": [method, path]}:
                self.granted[f"{method} {path}"] += 1
            case {"discarded": run_ids}:
                self.discarded.update(run_ids)
            case {"step": [run_id, name, value]}:
                self.steps.append((run_id, name, value))
            case {"setting": [key, value]}:
                self.data.setdefault(key, [None]).append(value)
            case {"set": [key, value]}:
                self.data[key] = [value]
        if "event" in said:
            root_id, seq, run_id, type_ = said["event"]
            self.events.setdefault(root_id, {})[seq] = (run_id, type_)
        if "run" in said:
            self._see(said)

    def _see(self, said: dict[str, Any]) -> None:
        now = RunStatus(said["status"]), said["attempt"]
        seen = self.seen.setdefault(said["run"], [])
        known = len(seen)
        if "event" not in said and self._when_asked is not None:
            # An answer may be on its way while events are shown that are newer than it.
            known = self._when_asked.get(said["run"], 0)
        fits = not known or may_follow(seen[known - 1], now)
        assert fits, f"{said['run']} went back: {seen[:known]}, {now}"
        if not seen or may_follow(seen[-1], now):
            seen.append(now)
        if said.get("stop") or now[0] is RunStatus.STOPPING:
            self.stopped.add(said["run"])
        if "whole" in said:
            self.whole[said["run"]] = said["whole"]

    def is_certain(self, request: str) -> bool:
        """Whether the last of these requests was answered."""
        return self.asked[request] == self.granted[request]

    @property
    def deleted(self) -> set[str]:
        """The runs that were to be deleted."""
        return {each.removeprefix(_DELETE) for each in self.asked if each.startswith(_DELETE)}


def may_follow(before: tuple[RunStatus, int], after: tuple[RunStatus, int]) -> bool:
    """Whether a run may be shown so after it was shown so."""
    return after[0] in LATER[before[0]] and after[1] >= before[1]


def check(path: Path, said: list[dict[str, Any]], say: Callable[..., None]) -> None:
    """Check a store, and what becomes of it, against what was said; say how much was checked."""
    heard = Heard()
    for words in said:
        heard.hear(words)
    trio.run(_check, path, heard)
    events = sum(map(len, heard.events.values()))
    shown = sum(map(len, heard.seen.values()))
    say(runs=len(heard.seen), events=events, shown=shown, granted=heard.granted.total())


async def _check(path: Path, heard: Heard) -> None:
    url = f"sqlite:///{path}"
    before = await _look(path, url, heard)
    after = await _settle(url, before, heard)
    for run_id, record in after.items():
        for seen in heard.seen.get(run_id, []):
            assert may_follow(seen, (record.status, record.attempt)), f"{run_id} went back"
        if run_id in heard.stopped:
            assert record.status is not RunStatus.LOST
            assert record.stop is not None
            assert record.stop.settled_at is not None


# As the kill has left it


async def _look(path: Path, url: str, heard: Heard) -> dict[str, RunRecord]:
    """Compare what is stored with what was heard, before anybody settles anything."""
    db = apsw.Connection(str(path))
    assert db.pragma("integrity_check") == "ok"
    db.close()
    async with open_store(url) as store:
        found: dict[str, RunRecord] = {run.id: run for run in await store.unfinished()}
        for run_id in heard.seen:
            record = await store.get(run_id)
            if record is not None:
                found[run_id] = record
            else:
                assert run_id in heard.deleted, f"{run_id} was acknowledged, and is not there"
        await _look_at_requests(store, heard)
        await _look_at_events(store, heard)
        await _look_at_schedules(store, heard)
    for run_id, record in found.items():
        _look_at_run(record, heard)
        assert run_id not in heard.stopped or record.stop is not None
    return found


def _look_at_run(record: RunRecord, heard: Heard) -> None:
    for seen in heard.seen.get(record.id, []):
        assert may_follow(seen, (record.status, record.attempt)), f"{record.id} went back"
    whole = heard.whole.get(record.id)
    if whole is not None and heard.is_certain(f"PATCH /runs/{record.id}"):
        if whole["deadline_at"] is not None:
            assert record.deadline_at == whole["deadline_at"]
        assert list(record.tags) == whole["tags"]
    if whole is not None and whole["ended_at"] is not None:
        assert (record.ended_at, record.result) == (whole["ended_at"], whole["result"])


async def _look_at_requests(store: Store, heard: Heard) -> None:
    for run_id in heard.deleted:
        if heard.granted[_DELETE + run_id]:
            assert await store.get(run_id) is None
            assert await store.last_seq(run_id) == 0
    for run_id, name, value in heard.steps:
        if run_id not in heard.deleted | heard.discarding:
            stored = {step.name: json.loads(step.value) for step in await store.steps(run_id)}
            assert stored[name] == value
    for key, values in heard.data.items():
        found = await store.data("anonymous", "keeper", key)
        # Who deletes a run deletes the data that it wrote last.
        may_be_gone = not (heard.deleted | heard.discarding).isdisjoint(values)
        assert json.loads(found) in values if found is not None else may_be_gone or None in values
    halt = await store.document("orchestrator", "halt")
    if heard.is_certain("POST /halt") and heard.is_certain("DELETE /halt"):
        assert (halt is None) == (heard.granted["POST /halt"] == heard.granted["DELETE /halt"])


async def _look_at_events(store: Store, heard: Heard) -> None:
    for root_id, events in heard.events.items():
        stored = await store.events(root_id, after=0, limit=1_000_000)
        if root_id not in heard.deleted:
            assert [event.seq for event in stored] == list(range(1, len(stored) + 1))
            there = {event.seq: (event.run_id, event.type) for event in stored}
            assert events.items() <= there.items(), f"events of {root_id} are gone"
            await _look_at_artifacts(store, stored)


async def _look_at_artifacts(store: Store, feed: list[Event]) -> None:
    """What was told of files is as long as the files are."""
    told = Counter[tuple[str, str]]()
    for event in feed:
        if event.type == "run.started":
            # Who starts again writes its files again.
            told = Counter({file: size for file, size in told.items() if file[0] != event.run_id})
        if event.type == "run.artifact":
            told[event.run_id, event.data["name"]] += event.data["size"]
    for (run_id, name), size in told.items():
        record = await store.get(run_id)
        assert record is not None
        data = await store.artifact(run_id, name)
        discarded = record.status is RunStatus.STOPPED and data is None
        assert discarded or (data is not None and len(data) == size), (name, size)


async def _look_at_schedules(store: Store, heard: Heard) -> None:
    stored = {key: json.loads(value) for key, value in await store.documents("schedules", limit=9)}
    made = heard.granted["POST /schedules"]
    assert made <= len(stored) + heard.asked["DELETE /schedules/often"]
    if heard.granted["DELETE /schedules/often"]:
        assert "often" not in stored
    if "often" in stored:
        # The tick and its run are one.
        last = stored["often"]["last_run_id"]
        fired = [run for run in heard.seen if run == last]
        assert last is None or await store.get(last) is not None
        assert not fired or last is not None


# What becomes of it


# A clock that stands, later than all that has happened: nothing is due a second time.
_NOW = datetime.now(UTC) + timedelta(days=1)


def _still(seconds: float) -> str:
    return stamp_of(_NOW + timedelta(seconds=seconds))


async def _settle(url: str, before: dict[str, RunRecord], heard: Heard) -> dict[str, RunRecord]:
    """Open the store for good, and check what has become of everything."""
    reborn = Counter[str]()
    agents = [_brief(each.name, reborn) for each in ALL]
    async with open_orchestrator(url, agents=agents, now=_still) as orchestrator:
        halted = orchestrator.halted is not None
        for run in orchestrator.registry:
            if run.is_held:
                run.request_resume()
            await run.wait()
        after = {run_id: await orchestrator.get(run_id) for run_id in before}
        for run_id, record in after.items():
            expected = fate(before, before[run_id], halted=halted)
            assert (record.status, record.attempt) in expected, f"{run_id}: {record}"
            assert reborn[run_id] == (
                record.status is RunStatus.SUCCEEDED and not before[run_id].status.is_terminal
            )
        for run_id in heard.discarded - heard.deleted:
            await _check_discarded(orchestrator.store, run_id)
        for root_id in {record.root_id for record in after.values()}:
            await check_feed(orchestrator, root_id)
    async with open_orchestrator(url, agents=agents, now=_still) as orchestrator:
        assert len(orchestrator.registry) == 0
        assert after == {run_id: await orchestrator.get(run_id) for run_id in before}
    return after


def _brief(name: str, reborn: Counter[str]) -> Agent:
    """Return an agent of that name which is over at once."""

    async def perform(ctx: Context) -> None:
        reborn[ctx.run_id] += 1

    return Agent(perform, name=name)


def fate(
    all_runs: dict[str, RunRecord], run: RunRecord, *, halted: bool
) -> set[tuple[RunStatus, int]]:
    """Return as what a run may end that was left so, and with which attempt; the rule is that
    of "Surviving a crash"."""
    stopped = (RunStatus.STOPPED, run.attempt)
    if run.status.is_terminal:
        return {(run.status, run.attempt)}
    above: RunRecord | None = run
    while above is not None:
        if above.stop is not None or halted:
            return {stopped}
        above = all_runs.get(above.parent_id or "")
    if run.status is RunStatus.QUEUED:
        never = run.parent_id is not None
        return {stopped if never else (RunStatus.SUCCEEDED, run.attempt)}
    options = run.options
    again = options.on_crash == "restart" and run.attempt < options.max_attempts
    if run.parent_id is None and again:
        return {(RunStatus.SUCCEEDED, run.attempt + 1)}
    return {(RunStatus.LOST, run.attempt)}


async def _check_discarded(store: Store, run_id: str) -> None:
    assert await store.partial(run_id) is None
    assert await store.artifacts(run_id) == []
    assert await store.steps(run_id) == []


async def check_feed(orchestrator: Orchestrator, root_id: str) -> list[Event]:
    """Check the whole feed of a tree that is over, and return it."""
    events = await orchestrator.store.events(root_id, after=0, limit=1_000_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    ends = [event for event in events if event.type in ENDINGS]
    tree = await orchestrator.tree(root_id)
    assert sorted(event.run_id for event in ends) == sorted(run.id for run in tree)
    assert events[-1].run_id == root_id
    places = {event.run_id: event.seq for event in ends}
    for run in tree:
        assert run.parent_id is None or places[run.id] < places[run.parent_id]
    return events

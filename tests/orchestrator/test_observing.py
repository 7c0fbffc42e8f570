"""The one seam through which metrics, logs, traces and webhooks hear of what happens."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, Observer, Orchestrator, RunStatus, agent, open_orchestrator
from orchestrator.store import AppendEvent, SaveDocument, SaveRun, open_store
from orchestrator.testing import record
from tests.crash.test_recovery import _queued, _record
from tests.orchestrator.test_journal import FailingStore
from tests.orchestrator.test_journal import store as store  # a fixture
from tests.orchestrator.test_stop import sleeper

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from orchestrator import Event, RunRecord
    from orchestrator.store import Write


class Watcher(Observer):
    """Notes all that it is told, and writes a document with every last event."""

    def __init__(self) -> None:
        self.heard: list[tuple[Event, RunRecord]] = []
        self.endings: list[str] = []
        self.commits: list[tuple[int, float]] = []

    def shown(self, event: Event, record: RunRecord) -> None:
        self.heard.append((event, record))

    def ending(self, event: Event, record: RunRecord) -> Sequence[Write]:
        self.endings.append(event.type)
        return [SaveDocument("seen", event.run_id, b'"ended"')]

    def committed(self, writes: int, seconds: float) -> None:
        self.commits.append((writes, seconds))


@agent
async def child(ctx: Context) -> None:
    await ctx.log("hello")


@agent
async def parent(ctx: Context) -> None:
    async with ctx.operation("work"):
        await trio.sleep(1)
    await ctx.call(child)


async def test_an_observer_hears_every_event_in_the_order_of_the_feed(
    autojump_clock: MockClock,
) -> None:
    watcher = Watcher()
    async with open_orchestrator(observers=[watcher]) as orchestrator:
        run = await orchestrator.start(parent)
        events = await record(run)
    assert [event for event, _ in watcher.heard] == events
    assert [event.type for event, _ in watcher.heard][-1] == "run.succeeded"


async def test_it_is_given_the_record_as_the_event_left_it(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    watcher = Watcher()
    orchestrator.observers.add(watcher)
    orchestrator.observers.add(watcher)
    run = await orchestrator.start(parent)
    await trio.sleep(0.25)
    await run.stop()
    assert [(event.type, str(kept.status)) for event, kept in watcher.heard] == [
        ("run.queued", "queued"),
        ("run.started", "running"),
        ("operation.started", "running"),
        ("run.stopping", "stopping"),
        ("operation.finished", "stopping"),
        ("run.stopped", "stopped"),
    ]
    last = watcher.heard[-1][1]
    assert last.stop is not None
    assert last.stop.seconds == 0.75


async def test_nothing_is_told_that_is_not_durable(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    watcher = Watcher()
    async with open_orchestrator(observers=[watcher]) as orchestrator:
        run = await orchestrator.start(sleeper)
        await trio.sleep(1)
        store.failing = True
        run.request_stop()
        await trio.sleep(1)
        assert [event.type for event, _ in watcher.heard] == ["run.queued", "run.started"]
        assert not run.ended.is_set()
        store.failing = False
        await run.ended.wait()
        assert [event.type for event, _ in watcher.heard][2:] == ["run.stopping", "run.stopped"]


async def test_what_an_observer_writes_with_an_ending_is_in_the_same_batch(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    batches: list[list[Write]] = []
    write = FailingStore.write

    async def spy(self: FailingStore, batch: Sequence[Write], *told: Any) -> None:
        batches.append(list(batch))
        await write(self, batch, *told)

    monkeypatch.setattr(FailingStore, "write", spy)
    async with open_orchestrator(observers=[Watcher()]) as orchestrator:
        run = await orchestrator.start(parent)
        await run.wait()
        assert await store.document("seen", run.id) == b'"ended"'
    (last,) = [batch for batch in batches if SaveDocument("seen", run.id, b'"ended"') in batch]
    assert any(isinstance(each, SaveRun) and each.record.status.is_terminal for each in last)
    assert any(
        isinstance(each, AppendEvent) and each.event.type == "run.succeeded" for each in last
    )


async def test_an_observer_that_raises_harms_nobody_and_cannot_fill_the_log(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    class Broken(Observer):
        def shown(self, event: Event, record: RunRecord) -> None:
            raise RuntimeError("shown")

        def ending(self, event: Event, record: RunRecord) -> Sequence[Write]:
            raise RuntimeError("ending")

        def committed(self, writes: int, seconds: float) -> None:
            raise RuntimeError("committed")

    watcher = Watcher()
    with caplog.at_level(logging.ERROR, "quiesce.observing"):
        async with open_orchestrator(observers=[Broken(), watcher]) as orchestrator:
            run = await orchestrator.start(parent)
            await run.wait()
            assert run.status == "succeeded"
    assert [event.type for event, _ in watcher.heard][-1] == "run.succeeded"
    assert watcher.endings == ["run.succeeded", "run.succeeded"]
    failures = orchestrator.observers.failures
    assert failures == len(watcher.heard) + len(watcher.endings) + len(watcher.commits)
    assert len(caplog.records) == failures.bit_length()


async def test_commits_are_told_with_what_they_took(
    store: FailingStore, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    write, given = FailingStore.write, 0

    async def slow(self: FailingStore, batch: Sequence[Write], *told: Any) -> None:
        nonlocal given
        given += len(batch)
        await trio.sleep(0.25)
        await write(self, batch, *told)

    monkeypatch.setattr(FailingStore, "write", slow)
    watcher = Watcher()
    async with open_orchestrator(observers=[watcher]) as orchestrator:
        run = await orchestrator.start(sleeper)
        await run.stop()
    assert {seconds for _, seconds in watcher.commits} == {0.25}
    assert sum(writes for writes, _ in watcher.commits) == given > 0


@pytest.mark.parametrize(
    ("agents", "became"), [([sleeper], {"lost": 1}), ([], {"lost": 1})], ids=["known", "unknown"]
)
async def test_runs_that_a_crash_left_over_are_told_of_too(
    tmp_path: Path, agents: list[object], became: dict[str, int]
) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    left = _record("run_root", status=RunStatus.RUNNING, started_at="2026-01-01T00:00:00Z")
    watcher = Watcher()
    with trio.fail_after(20):
        async with open_store(url) as opened:
            await opened.write([SaveRun(left), _queued("run_root", 1, None)])
        async with open_orchestrator(url, observers=[watcher]) as orchestrator:
            assert orchestrator.recovered == became
            assert await orchestrator.store.document("seen", "run_root") == b'"ended"'
    (event, kept) = watcher.heard[0]
    assert (event.seq, event.type, kept.status) == (2, "run.lost", "lost")

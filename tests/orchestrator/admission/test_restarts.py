"""The queue after a restart, in good order or by a crash: nothing is lost, and the order stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orchestrator import KeyConflict, Orchestrator, RunStatus, StopSource
from orchestrator.testing import until
from tests.orchestrator.admission.lives import Machine, began, files, nap, read

if TYPE_CHECKING:
    from trio.testing import MockClock

    from orchestrator import Run, RunRecord

BOTH = pytest.mark.parametrize("crash", [False, True], ids=["in good order", "crash"])


@pytest.fixture
def machine() -> Machine:
    began.clear()
    return Machine()


async def ended(orchestrator: Orchestrator, *runs: Run) -> list[RunRecord]:
    """Wait until those runs of an earlier life have ended in this one."""
    for run in runs:
        live = orchestrator.live(run.id)
        if live is not None:
            await live.wait()
    return [await orchestrator.get(run.id) for run in runs]


@BOTH
async def test_the_queue_survives_in_its_order(
    machine: Machine, autojump_clock: MockClock, crash: bool
) -> None:
    async with machine.life(max_running=1, crash=crash) as orchestrator:
        await orchestrator.start(nap, {"name": "running"}, owner="ann")
        for name in ("ann 1", "ann 2", "ann 3"):
            last = await orchestrator.start(nap, {"name": name}, owner="ann")
        for name in ("bob 1", "bob 2"):
            await orchestrator.start(nap, {"name": name}, owner="bob")
        await orchestrator.start(nap, {"name": "urgent"}, priority=9)
        await trio.sleep(1)
    assert began == ["running"]
    assert (await machine.disk.get(last.id)).status is RunStatus.QUEUED  # type: ignore[union-attr]
    async with machine.life(max_running=1) as orchestrator:
        late = await orchestrator.start(nap, {"name": "carl"}, owner="carl")
        records = await ended(orchestrator, last, late)
    assert began[1:] == ["urgent", "ann 1", "bob 1", "carl", "ann 2", "bob 2", "ann 3"]
    assert {record.status for record in records} == {RunStatus.SUCCEEDED}
    assert {record.attempt for record in records} == {1}


@BOTH
@pytest.mark.parametrize(
    ("down_s", "set_s", "starts_at"),
    [(5, 0, 30), (60, 0, 70), (0, -1000, 40), (0, 1000, 10)],
    ids=["in time", "while it is down", "the clock is set back", "the clock is set forward"],
)
async def test_a_delay_goes_on_by_the_wall_clock(
    machine: Machine,
    autojump_clock: MockClock,
    crash: bool,
    down_s: float,
    set_s: float,
    starts_at: float,
) -> None:
    async with machine.life(crash=crash) as orchestrator:
        run = await orchestrator.start(nap, {"name": "delayed"}, start_after_s=30)
        await trio.sleep(10)
    await trio.sleep(down_s)
    machine.wall.ahead_s = set_s
    async with machine.life() as orchestrator:
        live = orchestrator.live(run.id)
        assert live is not None
        await until(live, "running")
        assert trio.current_time() == pytest.approx(starts_at, abs=0.1)
        await live.wait()
    assert began == ["delayed"]


@BOTH
@pytest.mark.parametrize(
    ("down_s", "set_s", "ends_at"),
    [(5, 0, 30), (60, 0, 70), (0, -1000, 40), (0, 1000, 10)],
    ids=["in time", "while it is down", "the clock is set back", "the clock is set forward"],
)
async def test_so_does_the_time_to_start_by(
    machine: Machine,
    autojump_clock: MockClock,
    crash: bool,
    down_s: float,
    set_s: float,
    ends_at: float,
) -> None:
    async with machine.life(crash=crash, max_running=1) as orchestrator:
        await orchestrator.start(nap, {"name": "long", "seconds": 1000})
        await orchestrator.start(nap, {"name": "longer", "seconds": 1000}, priority=1)
        run = await orchestrator.start(nap, {"name": "never"}, start_by_s=30)
        await trio.sleep(10)
    await trio.sleep(down_s)
    machine.wall.ahead_s = set_s
    async with machine.life(max_running=1) as orchestrator:
        (record,) = await ended(orchestrator, run)
        assert trio.current_time() == pytest.approx(ends_at, abs=0.1)
    assert record.status is RunStatus.TIMED_OUT
    assert "never" not in began


@BOTH
@pytest.mark.parametrize("deadline_s", [30.0, None])
async def test_a_deadline_that_was_set_while_it_waited_outlives_a_crash(
    machine: Machine, autojump_clock: MockClock, crash: bool, deadline_s: float | None
) -> None:
    async with machine.life(crash=crash, max_running=1) as orchestrator:
        await orchestrator.start(nap, {"name": "long", "seconds": 1000})
        await orchestrator.start(nap, {"name": "longer", "seconds": 60}, priority=1)
        run = await orchestrator.start(nap, {"name": "next", "seconds": 60}, deadline_s=50)
        run.move_deadline(deadline_s)
        await trio.sleep(10)
    async with machine.life(max_running=1) as orchestrator:
        (record,) = await ended(orchestrator, run)
    if deadline_s is None:
        assert record.status is RunStatus.SUCCEEDED
    else:
        assert trio.current_time() == pytest.approx(30, abs=0.1)
        assert (record.status, record.started_at) == (RunStatus.TIMED_OUT, None)


async def test_a_time_to_start_by_that_was_over_while_nobody_looked(
    machine: Machine, autojump_clock: MockClock
) -> None:
    """There is a slot for it at once, and it must not have it."""
    async with machine.life(max_running=1) as orchestrator:
        await orchestrator.start(nap, {"name": "long"})
        run = await orchestrator.start(nap, {"name": "never"}, start_by_s=30)
    await trio.sleep(31)
    async with machine.life(max_running=1) as orchestrator:
        (record,) = await ended(orchestrator, run)
    assert record.status is RunStatus.TIMED_OUT
    assert began == ["long"]


async def test_what_was_due_while_nobody_looked_goes_behind_the_queue(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life(max_running=1, crash=True) as orchestrator:
        await orchestrator.start(nap, {"name": "running"})
        for name, after_s in (("second", 8), ("first", 5)):
            last = await orchestrator.start(nap, {"name": name}, start_after_s=after_s)
        await orchestrator.start(nap, {"name": "queued"})
    await trio.sleep(20)
    async with machine.life(max_running=1) as orchestrator:
        await ended(orchestrator, last)
        await trio.sleep(15)
    assert began == ["running", "queued", "first", "second"]


@BOTH
async def test_a_run_that_was_due_keeps_its_place(
    machine: Machine, autojump_clock: MockClock, crash: bool
) -> None:
    async with machine.life(max_running=1, crash=crash) as orchestrator:
        await orchestrator.start(nap, {"name": "running"})
        due = await orchestrator.start(nap, {"name": "due"}, start_after_s=1)
        await trio.sleep(2)
        last = await orchestrator.start(nap, {"name": "last"})
        assert due.record.turn < last.record.turn
    async with machine.life(max_running=1) as orchestrator:
        await ended(orchestrator, last)
    assert began == ["running", "due", "last"]


async def test_a_replacement_waited_when_the_process_died(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life(crash=True) as orchestrator:
        old = await orchestrator.start(nap, {"name": "old"}, key="k", on_crash="restart")
        await trio.sleep(1)
        # It keeps the old one from ending before the crash, which comes without any time passing.
        old.context.on_stop(trio.sleep, 1)
        new = await orchestrator.start(nap, {"name": "new"}, key="k", on_conflict="stop_previous")
        assert began == ["old"]
    # What the dead process seems to do afterwards has no effect on anything.
    began.clear()
    async with machine.life() as orchestrator:
        records = await ended(orchestrator, old, new)
    assert [record.status for record in records] == [RunStatus.STOPPED, RunStatus.SUCCEEDED]
    assert records[0].stop is not None
    assert records[0].stop.source is StopSource.SUPERSEDED
    assert began == ["new"]


async def test_a_run_that_starts_again_has_its_slot_and_its_key_before_all_others(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life(max_running=2, crash=True) as orchestrator:
        for name in "ab":
            options = {"key": name, "on_crash": "restart"}
            await orchestrator.start(nap, {"name": name}, options=options)
        queued = await orchestrator.start(
            nap, {"name": "c"}, key="a", on_conflict="enqueue", priority=9
        )
        await trio.sleep(1)
    # A lower limit does not end what runs: it is kept by starting nothing.
    async with machine.life(max_running=1) as orchestrator:
        await trio.sleep(1)
        assert orchestrator.queue[:3] == (2, 1, 0)
        with pytest.raises(KeyConflict):
            await orchestrator.start(nap, key="b", on_conflict="reject")
        (record,) = await ended(orchestrator, queued)
    assert record.status is RunStatus.SUCCEEDED
    assert sorted(began[:4]) == ["a", "a", "b", "b"]
    assert began[4:] == ["c"]


@BOTH
async def test_a_queue_beyond_its_bound_is_taken_over_whole(
    machine: Machine, autojump_clock: MockClock, crash: bool
) -> None:
    async with machine.life(max_running=1, max_queued=4, crash=crash) as orchestrator:
        for _ in range(5):
            last = await orchestrator.start(nap)
    async with machine.life(max_running=1, max_queued=1) as orchestrator:
        assert orchestrator.queue.waiting >= 3
        (record,) = await ended(orchestrator, last)
    assert record.status is RunStatus.SUCCEEDED


async def test_a_queued_run_whose_agent_is_gone_is_stopped_and_never_was_lost(
    machine: Machine, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with machine.life(max_running=1) as orchestrator:
        await orchestrator.start(nap)
        queued = await orchestrator.start(nap)
    monkeypatch.setattr(nap, "name", "another")
    async with machine.life() as orchestrator:
        record = await orchestrator.get(queued.id)
    assert record.status is RunStatus.STOPPED
    assert record.stop is not None
    assert record.stop.source is StopSource.ADMIN
    assert "no agent is named 'nap'" in record.stop.reason


async def test_a_check_of_an_input_that_raises_keeps_nobody_from_opening_the_store(
    machine: Machine, autojump_clock: MockClock
) -> None:
    files.add("list.txt")
    async with machine.life(crash=True) as orchestrator:
        waits = await orchestrator.start(read, {"name": "list.txt"}, start_after_s=60)
    files.clear()
    async with machine.life() as orchestrator:
        [record] = await ended(orchestrator, waits)
    assert record.status is RunStatus.STOPPED
    assert record.stop is not None
    assert record.stop.reason.endswith("input: cannot be checked: FileNotFoundError: list.txt")
    assert began == []


async def test_a_stop_reaches_a_run_that_waits_while_the_orchestrator_closes(
    machine: Machine, autojump_clock: MockClock
) -> None:
    stopped: list[Any] = []
    async with machine.life(max_running=1) as orchestrator:
        await orchestrator.start(nap, {"name": "running"})
        first, second = [await orchestrator.start(nap) for _ in range(2)]

        async def drain() -> None:
            await orchestrator.drain()
            stopped.append("drained")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain)
            await wait_all_tasks_blocked()
            stopped.append((await first.stop()).source)
    assert sorted(map(str, stopped)) == ["drained", "user"]
    async with machine.life(max_running=1) as orchestrator:
        records = await ended(orchestrator, first, second)
    assert [record.status for record in records] == [RunStatus.STOPPED, RunStatus.SUCCEEDED]

"""Recurring starts: when they fire, what becomes of missed and overlapping ticks, and crashes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from weakref import ref
from zoneinfo import ZoneInfo

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import (
    InvalidInput,
    Orchestrator,
    RunStatus,
    Schedule,
    ScheduleExists,
    StopSource,
    UnknownAgent,
    UnknownSchedule,
)
from orchestrator.schedules import cron
from orchestrator.schedules.cron import next_after
from tests.orchestrator.admission.lives import EPOCH, Machine, began, files, nap, read
from tests.orchestrator.test_freeing import is_freed, no_collector

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock


@pytest.fixture
def machine() -> Machine:
    began.clear()
    return Machine()


@pytest.fixture
async def open_one(machine: Machine, autojump_clock: MockClock) -> AsyncIterator[Orchestrator]:
    """An orchestrator whose wall clock is Trio's, from the first of January 2030, 00:00."""
    async with machine.life() as opened:
        yield opened


def minutely(orchestrator: Orchestrator, name: str = "tick", **more: Any) -> Schedule:
    """Start a nap at each full minute."""
    seconds = more.pop("seconds", 1)
    known = {"cron": "* * * * *", "schedule_id": "minutely"} | more
    return orchestrator.schedules.create(nap, {"name": name, "seconds": seconds}, **known)


async def settle(orchestrator: Orchestrator) -> None:
    """Wait until the last change of a schedule is durable, and so shown."""
    await orchestrator.durable(orchestrator.schedules.ticket)


def at(seconds: float) -> str:
    stamp = (EPOCH + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


# When


async def test_it_fires_at_each_tick_and_not_before(
    open_one: Orchestrator, autojump_clock: MockClock
) -> None:
    await trio.sleep(30)
    created = minutely(open_one)
    assert created.next_at == at(60)
    await trio.sleep_until(59.9)
    assert began == []
    for minute in (1, 2, 3):
        await trio.sleep_until(60 * minute + 0.5)
        assert began == ["tick"] * minute
        shown = open_one.schedules.get("minutely")
        assert (shown.last_at, shown.next_at) == (at(60 * minute), at(60 * minute + 60))
        run = await open_one.get(shown.last_run_id or "")
        assert run.tags == ("schedule:minutely",)
        assert run.options.key == "schedule:minutely"


async def test_a_tick_comes_in_its_time_zone(
    open_one: Orchestrator, autojump_clock: MockClock
) -> None:
    created = minutely(open_one, cron="30 9 * * *", zone="Europe/Berlin")
    assert created.next_at == "2030-01-01T08:30:00.000Z"


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("cron", "after", "ticks"),
    [
        # 2026-10-25: 03:00 becomes 02:00, so 02:30 comes twice; it is due in its first pass.
        ("30 2 * * *", "2026-10-24T22:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
        # Asked within the second pass: the first one is over.
        ("30 2 * * *", "2026-10-25T01:15Z", ["2026-10-26T01:30Z"]),
        # What is due at each half hour is due in both.
        (
            "*/30 * * * *",
            "2026-10-25T00:00Z",
            ["2026-10-25T00:30Z", "2026-10-25T01:00Z", "2026-10-25T01:30Z", "2026-10-25T02:00Z"],
        ),
        # 2026-03-29: 02:00 becomes 03:00, so there is no 02:30; it is due at once.
        ("30 2 * * *", "2026-03-28T12:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
        ("0 0 29 2 *", "2026-01-01T00:00Z", ["2028-02-28T23:00Z"]),
    ],
)
def test_ticks_when_clocks_are_changed(cron: str, after: str, ticks: list[str]) -> None:
    found, last = [], datetime.fromisoformat(after)
    for _ in ticks:
        due = next_after(cron, BERLIN, last)
        assert due is not None
        found.append(due)
        last = due
    assert found == [datetime.fromisoformat(each) for each in ticks]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["30 2 * * *", "0 2,3 * * *", "*/7 * * * *", "15 1-3 * * 0", "0 0 L * *"]),
    st.sampled_from([BERLIN, "America/Santiago", "Australia/Lord_Howe", "Africa/Cairo", "UTC"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)),
)
def test_ticks_only_ever_go_forward(cron: str, zone: str, start: datetime) -> None:
    last = start.replace(tzinfo=UTC)
    for _ in range(5):
        due = next_after(cron, zone, last)
        assert due is not None
        assert due > last
        # From anywhere before it, the same tick is found.
        middle = last + (due - last) / 2
        assert next_after(cron, zone, middle) == due
        last = due


# Missed ticks, and clocks that are set


@pytest.mark.parametrize(
    ("missed", "began_then"), [("skip", []), ("once", ["tick"])], ids=["skip", "once"]
)
async def test_ticks_that_were_missed_while_it_was_down(
    machine: Machine, autojump_clock: MockClock, missed: str, began_then: list[str]
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator, cron="0 * * * *", missed=missed)
        await settle(orchestrator)
    await trio.sleep_until(4 * 3600 + 1800)
    async with machine.life() as orchestrator:
        await trio.sleep(10)
        assert began == began_then
        shown = orchestrator.schedules.get("minutely")
        assert shown.next_at == at(5 * 3600)
        assert shown.last_skip == ("" if began_then else "nothing could start at its time")
        await trio.sleep_until(5 * 3600 + 10)
        assert began == [*began_then, "tick"]


async def test_a_tick_during_a_short_restart_is_on_time(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator, cron="0 * * * *")
        await settle(orchestrator)
    await trio.sleep_until(3600 + 40)
    async with machine.life() as orchestrator:
        await trio.sleep(5)
        assert began == ["tick"]


async def test_a_clock_that_is_set_back_fires_nothing_twice(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator)
        await trio.sleep_until(130)
        assert began == ["tick"] * 2
        machine.wall.ahead_s = -120  # it is 00:00:10 again
        await trio.sleep_until(130 + 165)  # 00:02:55: both were fired before
        assert began == ["tick"] * 2
        await trio.sleep_until(130 + 180)
        assert began == ["tick"] * 3
        assert orchestrator.schedules.get("minutely").last_at == at(180)


@pytest.mark.parametrize("missed", ["skip", "once"])
async def test_a_clock_that_is_set_forward_is_no_storm(
    machine: Machine, autojump_clock: MockClock, missed: str
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator, missed=missed, overlap="allow")
        minutely(orchestrator, name="sec", cron="* * * * * *", schedule_id="s", overlap="allow")
        await trio.sleep_until(30.5)
        assert began == ["sec"] * 30
        machine.wall.ahead_s = 400 * 86_400
        await trio.sleep_until(31.6)
        # One look deals with all that is overdue.
        assert began.count("sec") <= 32
        await trio.sleep(LOOK_AND_A_BIT_S)
        assert began.count("tick") == 1


LOOK_AND_A_BIT_S = 16.0


async def test_a_clock_that_is_set_is_noticed_before_the_alarm_would_ring(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator, cron="0 12 * * *")
        await trio.sleep(5)
        machine.wall.ahead_s = 12 * 3600 - 4
        await trio.sleep(LOOK_AND_A_BIT_S)
        assert began == ["tick"]


# Overlaps


@pytest.mark.parametrize(
    ("overlap", "statuses"),
    [
        ("allow", ["running", "running", "running"]),
        ("skip", ["running"]),
        ("enqueue", ["running", "queued", "queued"]),
        ("stop_previous", ["stopped", "stopped", "running"]),
    ],
)
async def test_what_becomes_of_a_tick_while_an_earlier_run_goes_on(
    open_one: Orchestrator, autojump_clock: MockClock, overlap: str, statuses: list[str]
) -> None:
    minutely(open_one, overlap=overlap, seconds=1000)
    await trio.sleep_until(190)
    runs = (await open_one.runs()).runs[::-1]
    assert [str(run.status) for run in runs] == statuses
    shown = open_one.schedules.get("minutely")
    if overlap == "skip":
        assert shown.last_at == at(60)
        assert "has the key 'schedule:minutely'" in shown.last_skip
        assert shown.next_at == at(240)
    if overlap == "stop_previous":
        assert {run.stop.source for run in runs if run.stop} == {StopSource.SUPERSEDED}


async def test_schedules_and_starts_may_share_a_key(
    open_one: Orchestrator, autojump_clock: MockClock
) -> None:
    minutely(open_one, options={"key": "shop", "priority": 3, "tags": ["mine"]})
    await open_one.start(nap, {"name": "by hand", "seconds": 100}, key="shop")
    await trio.sleep_until(170)
    assert began == ["by hand", "tick"]
    run = (await open_one.runs(limit=1)).runs[0]
    assert run.tags == ("mine", "schedule:minutely")
    assert run.options.priority == 3


# Halts, full queues, and stores that take nothing


async def test_nothing_fires_while_all_is_halted(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator, missed="once")
        minutely(orchestrator, "never", schedule_id="skips", cron="0,1,2 * * * *")
        await orchestrator.halt()
        await trio.sleep_until(400)
        assert began == []
        await orchestrator.lift()
        await trio.sleep(0.5)
        assert began == ["tick"]
        assert [each.next_at for each in orchestrator.schedules.shown()] == [at(420), at(3600)]
        assert orchestrator.schedules.get("skips").last_skip == "nothing could start at its time"


async def test_a_tick_that_finds_no_place_is_skipped_and_says_why(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life(max_running=1, max_queued=0) as orchestrator:
        minutely(orchestrator)
        await orchestrator.start(nap, {"name": "busy", "seconds": 90})
        await trio.sleep_until(61)
        assert orchestrator.schedules.get("minutely").last_skip.startswith("0 runs wait already")
        await trio.sleep_until(121)
        assert began == ["busy", "tick"]
        assert orchestrator.schedules.get("minutely").last_skip == ""


async def test_a_tick_waits_for_a_store_that_takes_nothing(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator, cron="1 0 * * *")
        run = await orchestrator.start(nap, {"name": "other", "seconds": 1})
        await run.wait()
        machine.disk.broken_until = 75.0
        orchestrator._services.journal.append([])
        await trio.sleep_until(74.9)
        assert began == ["other"]
        await trio.sleep_until(76)
        assert began == ["other", "tick"]
        assert orchestrator.schedules.get("minutely").next_at == at(86_460)


async def test_a_tick_whose_run_was_not_stored_is_due_again(
    machine: Machine, autojump_clock: MockClock
) -> None:
    """The tick is the first to find that the store takes nothing, so its run is withdrawn."""
    async with machine.life() as orchestrator:
        minutely(orchestrator, cron="1 0 * * *")
        await trio.sleep_until(59)
        machine.disk.broken_until = 75.0
        await trio.sleep_until(74.9)
        (withdrawn,) = orchestrator.registry
        assert (began, withdrawn.shown) == ([], None)
        await trio.sleep_until(76)
        assert began == ["tick"]
        assert (await withdrawn.wait()).status == "stopped"
        shown = orchestrator.schedules.get("minutely")
        assert (shown.last_at, shown.next_at) == (at(60), at(86_460))
        assert (await orchestrator.get(shown.last_run_id or "")).status == "running"
        assert shown.last_run_id != withdrawn.id


@pytest.mark.parametrize("change", ["pause", "delete"])
async def test_a_schedule_that_was_changed_meanwhile_stays_so_if_a_tick_is_withdrawn(
    machine: Machine, autojump_clock: MockClock, change: str
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator)
        await trio.sleep_until(59)
        machine.disk.latency_s = 15.0
        await trio.sleep_until(61)
        getattr(orchestrator.schedules, change)("minutely")
        machine.disk.latency_s = 0.0
        await trio.sleep_until(200)
        assert began == []
        left = [(each.paused, each.next_at) for each in orchestrator.schedules.shown()]
        assert left == ([(True, None)] if change == "pause" else [])


async def test_a_tick_waits_for_a_store_that_does_not_answer(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator, cron="1 0 * * *")
        run = await orchestrator.start(nap, {"name": "other", "seconds": 1})
        await run.wait()
        await trio.sleep_until(45)
        machine.disk.latency_s = 30.0
        orchestrator._services.journal.append([], urgent=True)
        await trio.sleep_until(46)
        machine.disk.latency_s = 0.0
        await trio.sleep_until(74.9)
        assert began == ["other"]
        await trio.sleep_until(76)
        assert began == ["other", "tick"]


async def test_a_schedule_whose_agent_is_gone_says_so(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator)
        await settle(orchestrator)
    async with machine.life(agents=[]) as orchestrator:
        await trio.sleep_until(61)
        assert "no agent is named 'nap'" in orchestrator.schedules.get("minutely").last_skip
    async with machine.life() as orchestrator:
        await trio.sleep_until(121)
    assert began == ["tick"]


async def test_a_check_of_an_input_that_raises_keeps_no_other_schedule_from_firing(
    open_one: Orchestrator, autojump_clock: MockClock
) -> None:
    files.add("list.txt")
    given = {"name": "list.txt"}
    open_one.schedules.create(read, given, cron="* * * * *", schedule_id="a")
    minutely(open_one)
    files.clear()
    await trio.sleep_until(121)
    assert began == ["tick", "tick"]
    skipped = open_one.schedules.get("a").last_skip
    assert skipped == "input: cannot be checked: FileNotFoundError: list.txt"


async def test_a_schedule_whose_time_zone_is_gone_keeps_nobody_from_opening_the_store(
    machine: Machine, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made on a machine with more zones: it says so, and the others fire."""
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(cron, "ZoneInfo", lambda _: ZoneInfo("Europe/Berlin"))
        async with machine.life() as orchestrator:
            minutely(orchestrator, "gone", schedule_id="gone", zone="Mars/Olympus")
            minutely(orchestrator)
            await settle(orchestrator)
    async with machine.life() as orchestrator:
        await trio.sleep_until(61)
        assert began == ["tick"]
        gone = orchestrator.schedules.get("gone")
        assert (gone.next_at, gone.last_skip) == (
            None,
            "zone: 'Mars/Olympus' is no time zone; write one like Europe/Berlin or UTC",
        )
        orchestrator.schedules.pause("gone")
        with pytest.raises(InvalidInput, match="Mars/Olympus"):
            orchestrator.schedules.resume("gone")
        orchestrator.schedules.delete("gone")
        await settle(orchestrator)
        assert [each.id for each in orchestrator.schedules.shown()] == ["minutely"]


# Pause, resume, delete


async def test_a_paused_schedule_fires_no_more_until_it_is_resumed(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator, missed="once")
        for _ in range(2):
            assert orchestrator.schedules.pause("minutely").next_at is None
        await settle(orchestrator)
    async with machine.life() as orchestrator:
        await trio.sleep_until(200)
        assert orchestrator.schedules.get("minutely").paused
        assert began == []
        for _ in range(2):
            assert orchestrator.schedules.resume("minutely").next_at == at(240)
        await trio.sleep_until(245)
        # What was due in the pause was not missed.
        assert began == ["tick"]


async def test_a_deleted_schedule_is_gone_and_its_runs_go_on(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator, seconds=100)
        await trio.sleep_until(61)
        orchestrator.schedules.delete("minutely")
        await settle(orchestrator)
        assert orchestrator.schedules.shown() == []
        for verb in ("get", "pause", "resume", "delete"):
            with pytest.raises(UnknownSchedule, match="minutely"):
                getattr(orchestrator.schedules, verb)("minutely")
        (run,) = (await orchestrator.runs()).runs
        await trio.sleep_until(300)
        assert (await orchestrator.get(run.id)).status is RunStatus.SUCCEEDED
        # Nothing has to be woken any more.
        assert orchestrator.schedules._alarm.when == float("inf")
    async with machine.life() as orchestrator:
        assert orchestrator.schedules.shown() == []
    assert began == ["tick"]


async def test_what_is_not_durable_is_not_shown(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        minutely(orchestrator)
        assert orchestrator.schedules.shown() == []
        await settle(orchestrator)
        orchestrator.schedules.pause("minutely")
        assert not orchestrator.schedules.get("minutely").paused
        await settle(orchestrator)
        assert orchestrator.schedules.get("minutely").paused


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "* * */20 * 1L"}, "cron"),
        ({"cron": "0 " * 200}, "cron"),
        ({"zone": "Europe"}, "zone"),
        ({"zone": "../etc/passwd"}, "zone"),
        ({"missed": "all"}, "missed"),
        ({"overlap": "reject"}, "overlap"),
        ({"schedule_id": "a/b"}, "id"),
        ({"schedule_id": "x" * 101}, "id"),
        ({"options": {"on_conflict": "reject"}}, "options.on_conflict"),
        ({"options": {"grace": 1}}, "options.grace"),
        ({"options": {"tags": "abc"}}, "options.tags"),
        ({"owner": "\ud800"}, "owner"),
        ({"owner": "x" * 256}, "owner"),
    ],
)
async def test_a_schedule_that_makes_no_sense_is_refused(
    open_one: Orchestrator, autojump_clock: MockClock, wrong: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        minutely(open_one, **wrong)
    assert [name for name, _ in raised.value.problems] == [field]
    await trio.sleep(70)
    assert began == []


async def test_unknown_agents_bad_input_and_ids_that_are_taken_are_refused(
    open_one: Orchestrator,
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(UnknownAgent):
        open_one.schedules.create("nobody", cron="* * * * *")
    with pytest.raises(InvalidInput, match=r"input\.seconds"):
        open_one.schedules.create(nap, {"seconds": "many"}, cron="* * * * *")
    first = minutely(open_one)
    with pytest.raises(ScheduleExists, match="minutely"):
        minutely(open_one)
    made_up = [minutely(open_one, schedule_id=None).id for _ in range(2)]
    await settle(open_one)
    assert {each.id for each in open_one.schedules.shown()} == {first.id, *made_up}


# Crashes: a tick and its record are one


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.01, 0.4, 1.0]), st.integers(0, 6)),
        min_size=1,
        max_size=6,
    )
)
def test_a_crash_neither_loses_nor_doubles_a_tick(crashes: list[tuple[float, int]]) -> None:
    """The process dies so many seconds, and then so many turns of the loop, after a tick; it is
    up again before the next one."""

    async def main() -> None:
        began.clear()
        machine = Machine()
        machine.disk.latency_s = 0.005
        async with machine.life() as orchestrator:
            minutely(orchestrator, overlap="allow")
            await settle(orchestrator)
        for minute, (seconds, turns) in enumerate(crashes, start=1):
            async with machine.life(crash=True):
                await trio.sleep_until(60 * minute + seconds)
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
            async with machine.life() as orchestrator:
                await trio.sleep_until(60 * minute + 30)
                page = await orchestrator.runs(limit=100)
                ticks = [run for run in page.runs if run.created_at < at(60 * minute + 30)]
                assert len(ticks) == minute
                assert orchestrator.schedules.get("minutely").last_run_id == ticks[0].id

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_a_run_of_a_schedule_that_never_began_is_freed(
    open_one: Orchestrator, autojump_clock: MockClock
) -> None:
    minutely(open_one, options={"start_after_s": 600})
    await trio.sleep_until(61)
    with no_collector():
        (run,) = open_one.registry
        await run.stop()
        weak = ref(run)
        del run
        open_one.schedules.pause("minutely")
        await settle(open_one)
        assert await is_freed(weak)

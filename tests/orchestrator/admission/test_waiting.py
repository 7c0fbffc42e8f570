"""Runs that wait: for a slot, for their key, for their time. In virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orchestrator import (
    Context,
    IllegalTransition,
    InvalidInput,
    KeyConflict,
    Orchestrator,
    QueueFull,
    Run,
    RunStatus,
    StopOutcome,
    StopSource,
    agent,
    open_orchestrator,
)
from orchestrator.testing import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

began: list[str] = []


@pytest.fixture(autouse=True)
def nothing_began() -> None:
    began.clear()


@agent
async def nap(ctx: Context, name: str = "", seconds: float = 10) -> str:
    """Sleep."""
    began.append(name)
    await ctx.sleep(seconds)
    return name


@agent(max_running=2)
async def narrow(ctx: Context, name: str = "") -> None:
    """Sleep, two at a time."""
    began.append(name)
    await ctx.sleep(10)


@agent
async def stubborn(ctx: Context, name: str = "", seconds: float = 5) -> None:
    """Take a while to be torn down."""
    began.append(name)
    async with ctx.operation("work"):
        await trio.sleep(seconds)
    await ctx.sleep(1000)


@agent
async def parent(ctx: Context) -> list[str]:
    """Have sub-agents that could never run if limits were for them too."""
    results: list[str] = await ctx.map(nap, [{"name": "c", "seconds": 1}] * 3)
    await ctx.call(narrow)
    return results


@pytest.fixture
async def one() -> AsyncIterator[Orchestrator]:
    """An orchestrator in which one run may run, and three wait."""
    async with open_orchestrator(max_running=1, max_queued=3) as opened:
        yield opened


def statuses(*runs: Run) -> list[str]:
    return [str(run.record.status) for run in runs]


# Slots


async def test_runs_beyond_the_limit_wait_and_start_in_order(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    runs = [await one.start(nap, {"name": name}) for name in "abc"]
    await trio.sleep(5)
    assert statuses(*runs) == ["running", "queued", "queued"]
    for run in runs:
        assert (await run.wait()).status is RunStatus.SUCCEEDED
    assert began == ["a", "b", "c"]
    assert trio.current_time() == pytest.approx(30, abs=0.1)


async def test_a_higher_priority_overtakes_and_owners_take_turns(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    await one.start(nap, {"name": "first"}, owner="ann")
    last = await one.start(nap, {"name": "ann 2"}, owner="ann")
    await one.start(nap, {"name": "bob"}, owner="bob")
    await one.start(nap, {"name": "urgent"}, owner="ann", priority=1)
    await last.wait()
    await trio.sleep(15)
    # Ann had the first turn, and two of hers were there before Bob's; but one was urgent.
    assert began == ["first", "urgent", "ann 2", "bob"]


async def test_an_agents_limit_holds_up_its_own_runs_only(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    for name in "abc":
        await orchestrator.start(narrow, {"name": name})
    await orchestrator.start(nap, {"name": "other"})
    await trio.sleep(1)
    assert sorted(began) == ["a", "b", "other"]
    await trio.sleep(10)
    assert began[-1] == "c"


async def test_sub_agents_are_not_limited(one: Orchestrator, autojump_clock: MockClock) -> None:
    run = await one.start(parent)
    assert (await run.wait()).result == ["c", "c", "c"]


async def test_a_full_queue_refuses_and_changes_nothing(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    running = await one.start(nap, {"name": "a"})
    for _ in range(3):
        await one.start(nap)
    with pytest.raises(QueueFull, match="3 runs wait already"):
        await one.start(nap)
    # One that would stop others stops none if it is refused.
    with pytest.raises(QueueFull):
        await one.start(nap, key="k", on_conflict="stop_previous")
    assert len(one.registry) == 4
    assert len((await one.runs()).runs) == 4
    assert running.record.stop is None
    await running.stop()
    await one.start(nap)


async def test_what_takes_the_place_of_a_run_that_waits_needs_no_other(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    await one.start(nap)
    old = [await one.start(nap, key="k") for _ in range(3)]
    new = await one.start(nap, key="k", on_conflict="stop_previous")
    assert statuses(*old, new) == ["stopped", "stopped", "stopped", "queued"]


async def test_the_figures_of_the_queue(one: Orchestrator, autojump_clock: MockClock) -> None:
    assert one.queue == (0, 0, 0, 0.0)
    await one.start(nap)
    await trio.sleep(1)
    await one.start(nap)
    await one.start(nap, start_after_s=60)
    await trio.sleep(2)
    figures = one.queue
    assert (figures.running, figures.waiting, figures.delayed) == (1, 1, 1)
    assert figures.oldest_wait_s == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize(
    ("limits", "field"),
    [
        ({"max_running": 0}, "max_running"),
        ({"max_running": True}, "max_running"),
        ({"max_queued": -1}, "max_queued"),
        ({"max_queued": 1.5}, "max_queued"),
    ],
)
async def test_limits_out_of_their_range_are_refused(limits: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        async with open_orchestrator(**limits):
            pass


def test_an_agents_limit_is_one_or_more() -> None:
    with pytest.raises(InvalidInput, match="max_running"):
        agent(max_running=0)(nap.function)


# Stop and pause


async def test_a_stop_frees_the_place_of_a_run_that_waits_at_once(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    await one.start(nap)
    waiting = [await one.start(nap) for _ in range(3)]
    waiting[1].request_stop(reason="not needed")
    # In the same step: nobody had to wait for the store.
    replacement = one.admit(nap, {"name": "late"})
    record = await waiting[1].wait()
    assert record.status is RunStatus.STOPPED
    assert record.stop is not None
    assert record.stop.previous_status is RunStatus.QUEUED
    assert waiting[1].exited.is_set()
    assert (await replacement.wait()).result == "late"
    assert began == ["", "", "", "late"]


async def test_a_stop_between_the_claim_and_the_first_step_gives_the_slot_back(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    for _ in range(20):
        claimed, waiting = one.admit(nap, {"name": "never"}), one.admit(nap, {"seconds": 1})
        claimed.request_stop()
        await waiting.wait()
        await claimed.exited.wait()
        assert claimed.record.status is RunStatus.STOPPED
    assert "never" not in began
    assert one.queue == (0, 0, 0, 0.0)


async def test_a_run_that_waits_cannot_be_paused(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    await one.start(nap)
    waiting = await one.start(nap)
    with pytest.raises(IllegalTransition, match="queued cannot pause"):
        waiting.request_pause()


async def test_a_slot_is_free_in_the_step_in_which_the_run_leaves_the_registry(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    """Interleaving: whoever waits for the end acts in the turn in which it comes."""
    first, second = await one.start(nap), await one.start(nap)
    await first.ended.wait()
    assert first.id not in one.registry
    assert one.queue.running == 1
    assert not one._engine.waits(second)
    assert not second.ended.is_set()


async def test_the_slot_of_an_abandoned_run_is_given_back(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    release = trio.Event()

    @agent
    async def stuck(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    run = await one.start(stuck)
    following = await one.start(nap, {"name": "b"})
    await trio.sleep(1)
    receipt = await run.stop(mode="kill")
    assert receipt.outcome is StopOutcome.ABANDONED
    await until(following, "running")
    release.set()
    await following.wait()
    assert one.queue.running == 0


# Delays


async def test_a_delayed_run_starts_when_its_time_has_come(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(nap, {"seconds": 1}, start_after_s=30, deadline_s=5)
    await trio.sleep(29)
    assert statuses(run) == ["queued"]
    assert run.record.deadline_at is None
    record = await run.wait()
    assert trio.current_time() == pytest.approx(31, abs=0.1)
    assert record.status is RunStatus.SUCCEEDED


async def test_a_delayed_run_is_stopped_and_never_begins(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(nap, start_after_s=30)
    receipt = await run.stop()
    assert receipt.previous_status is RunStatus.QUEUED
    assert run.exited.is_set()
    await trio.sleep(60)
    assert began == []
    assert orchestrator.queue == (0, 0, 0, 0.0)


async def test_a_run_that_is_due_takes_its_turn_behind_those_that_wait(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    late = await one.start(nap, {"name": "late"}, start_after_s=5)
    for name in "ab":
        await one.start(nap, {"name": name})
    await late.wait()
    assert began == ["a", "b", "late"]


async def test_a_run_that_does_not_start_in_time_never_does(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    await one.start(nap)
    run = await one.start(nap, {"name": "never"}, start_by_s=6)
    record = await run.wait()
    assert trio.current_time() == pytest.approx(6, abs=0.1)
    assert record.status is RunStatus.TIMED_OUT
    assert record.started_at is None
    assert record.stop is not None
    assert (record.stop.source, record.stop.outcome) == (StopSource.DEADLINE, StopOutcome.STOPPED)
    assert record.stop.reason == "it had not started within 6 s"
    await trio.sleep(20)
    assert began == [""]


@pytest.mark.parametrize("waits_for", [{"start_after_s": 20}, {}], ids=["its time", "a slot"])
async def test_a_deadline_that_is_set_while_a_run_waits_counts_from_then_on(
    one: Orchestrator, autojump_clock: MockClock, waits_for: dict[str, Any]
) -> None:
    await one.start(nap, {"seconds": 20})
    run = await one.start(nap, {"name": "never"}, deadline_s=1000, **waits_for)
    await trio.sleep(1)
    run.move_deadline(5)
    record = await run.wait()
    assert trio.current_time() == pytest.approx(6, abs=0.1)
    assert record.status is RunStatus.TIMED_OUT
    assert record.started_at is None
    assert record.stop is not None
    assert record.stop.source is StopSource.DEADLINE
    await trio.sleep(30)
    assert began == [""]


async def test_a_deadline_that_is_removed_while_a_run_waits_stays_so(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await one.start(nap, {"seconds": 50}, start_after_s=5, deadline_s=10)
    run.move_deadline(None)
    record = await run.wait()
    assert (record.status, record.deadline_at) == (RunStatus.SUCCEEDED, None)


async def test_a_slot_that_comes_at_the_deadline_is_not_taken(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    """Interleaving: the slot is free when the time is over, and the alarm has not rung yet."""
    first = await one.start(nap, {"seconds": 6})
    late = await one.start(nap, {"name": "never"})
    late.move_deadline(5.99)
    one._services.timers.close()
    await first.wait()
    assert (await late.wait()).status is RunStatus.TIMED_OUT
    assert "never" not in began


async def test_a_run_that_has_started_in_time_is_left_alone(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    await one.start(nap, {"seconds": 3})
    run = await one.start(nap, start_by_s=6)
    assert (await run.wait()).status is RunStatus.SUCCEEDED


async def test_a_slot_that_comes_too_late_is_not_taken(
    one: Orchestrator, autojump_clock: MockClock
) -> None:
    """Interleaving: the slot is free when the time is over, and the alarm has not rung yet."""
    first = await one.start(nap, {"seconds": 6})
    late = await one.start(nap, {"name": "never"}, start_by_s=6)
    late.limits._start.unset()  # type: ignore[union-attr]  # it has one
    late.limits._start.set(trio.current_time() + 5.99)  # type: ignore[union-attr]
    one._services.timers.close()
    await first.wait()
    assert (await late.wait()).status is RunStatus.TIMED_OUT
    assert "never" not in began


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"start_after_s": -1}, "options.start_after_s"),
        ({"start_after_s": "1"}, "options.start_after_s"),
        ({"start_by_s": 0}, "options.start_by_s"),
        ({"start_after_s": 5, "start_by_s": 5}, "options.start_by_s"),
        ({"priority": 101}, "options.priority"),
        ({"priority": 1.5}, "options.priority"),
        ({"key": ""}, "options.key"),
        ({"key": "k" * 201}, "options.key"),
        ({"key": "\ud800"}, "options.key"),
        ({"key": "k", "on_conflict": "wait"}, "options.on_conflict"),
        ({"on_conflict": "reject"}, "options.on_conflict"),
    ],
)
async def test_options_that_make_no_sense_are_refused(
    orchestrator: Orchestrator, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        orchestrator.admit(nap, options=options)
    assert [name for name, _ in raised.value.problems] == [field]
    assert len(orchestrator.registry) == 0


async def test_an_agent_may_say_what_becomes_of_conflicts_and_leave_the_key_to_the_start(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent(on_conflict="reject")
    async def only(ctx: Context) -> None:
        await ctx.sleep(1)

    for _ in range(2):
        await orchestrator.start(only)
    await orchestrator.start(only, key="k")
    with pytest.raises(KeyConflict):
        await orchestrator.start(only, key="k")


# Keys


async def test_runs_with_one_key_run_beside_each_other_if_they_may(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    runs = [await orchestrator.start(nap, key="k") for _ in range(2)]
    await trio.sleep(1)
    assert statuses(*runs) == ["running", "running"]


@pytest.mark.parametrize("first", [{}, {"start_after_s": 60}])
async def test_a_start_is_rejected_while_another_run_has_its_key(
    orchestrator: Orchestrator, autojump_clock: MockClock, first: dict[str, Any]
) -> None:
    old = await orchestrator.start(nap, key="k", options=first)
    with pytest.raises(KeyConflict, match=old.id) as raised:
        await orchestrator.start(nap, key="k", on_conflict="reject")
    assert (raised.value.key, raised.value.run_id) == ("k", old.id)
    await orchestrator.start(nap, key="l", on_conflict="reject")
    await orchestrator.start(nap, key="k", on_conflict="reject", owner="somebody else")
    await old.wait()
    await orchestrator.start(nap, key="k", on_conflict="reject")


async def test_of_two_starts_with_one_key_at_once_one_is_rejected(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """Interleaving: neither start is durable when the other comes."""
    told: list[str] = []

    async def start() -> None:
        try:
            await orchestrator.start(nap, key="k", on_conflict="reject")
        except KeyConflict:
            told.append("rejected")
        else:
            told.append("started")

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(start)
    assert sorted(told) == ["rejected"] * 4 + ["started"]


async def test_a_start_waits_for_the_run_that_has_its_key(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    runs = [
        await orchestrator.start(nap, {"name": name}, key="k", on_conflict="enqueue")
        for name in "abc"
    ]
    await trio.sleep(1)
    assert statuses(*runs) == ["running", "queued", "queued"]
    await runs[2].wait()
    assert began == ["a", "b", "c"]
    assert trio.current_time() == pytest.approx(30, abs=0.1)


async def test_a_new_run_waits_until_the_one_that_it_replaces_is_torn_down(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    old = await orchestrator.start(stubborn, key="k")
    await trio.sleep(1)
    new = await orchestrator.start(nap, {"name": "new"}, key="k", on_conflict="stop_previous")
    await trio.sleep(3.9)
    assert statuses(old, new) == ["stopping", "queued"]
    assert began == [""]
    record = await old.wait()
    assert trio.current_time() == pytest.approx(5, abs=0.1)
    assert record.stop is not None
    assert record.stop.source is StopSource.SUPERSEDED
    assert record.stop.reason == f"superseded by run {new.id}"
    await until(new, "running")
    assert trio.current_time() == pytest.approx(5, abs=0.1)
    assert record.ended_at is not None
    assert new.record.started_at is not None
    assert record.ended_at <= new.record.started_at


async def test_a_replacement_finds_the_old_run_stopping_already(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    old = await orchestrator.start(stubborn, key="k")
    await trio.sleep(1)
    old.request_stop(reason="by hand")
    new = await orchestrator.start(nap, key="k", on_conflict="stop_previous")
    record = await old.wait()
    assert record.stop is not None
    assert (record.stop.source, record.stop.reason) == (StopSource.USER, "by hand")
    assert record.stop.also == ()
    await until(new, "running")


async def test_the_latest_of_several_replacements_runs(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    old = await orchestrator.start(stubborn, {"name": "old"}, key="k")
    await trio.sleep(1)
    new = [
        await orchestrator.start(nap, {"name": name}, key="k", on_conflict="stop_previous")
        for name in "abc"
    ]
    for run in [old, *new]:
        await run.wait()
    assert began == ["old", "c"]
    assert statuses(*new) == ["stopped", "stopped", "succeeded"]


async def test_a_replacement_is_stopped_while_it_waits_and_another_one_comes(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    old = await orchestrator.start(stubborn, key="k")
    await trio.sleep(1)
    new = await orchestrator.start(nap, {"name": "a"}, key="k", on_conflict="stop_previous")
    await new.stop()
    last = await orchestrator.start(nap, {"name": "b"}, key="k", on_conflict="enqueue")
    await old.wait()
    await last.wait()
    assert began == ["", "b"]


async def test_a_start_meets_the_end_of_the_run_that_has_its_key(
    orchestrator: Orchestrator, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interleaving: the end is decided and not durable yet when the start comes."""
    write = orchestrator.store.write

    async def slowly(batch: Any, *told: Any) -> None:
        await trio.sleep(0.5)
        await write(batch, *told)

    monkeypatch.setattr(orchestrator.store, "write", slowly)
    for on_conflict in ("reject", "stop_previous", "enqueue"):
        old = await orchestrator.start(nap, {"seconds": 1}, key="k")
        await old.exited.wait()
        assert old.id in orchestrator.registry
        new = orchestrator.admit(nap, options={"key": "k", "on_conflict": on_conflict})
        assert orchestrator._engine.waits(new)
        await old.ended.wait()
        assert not orchestrator._engine.waits(new)
        assert (await new.wait()).status is RunStatus.SUCCEEDED
        assert old.record.stop is None


async def test_a_rerun_has_the_key_but_not_the_delay(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    old = await orchestrator.start(
        nap, {"seconds": 1}, key="k", on_conflict="reject", start_after_s=30, priority=2
    )
    await old.wait()
    new = await orchestrator.rerun(old.id)
    await until(new, "running")
    assert new.record.options.priority == 2
    with pytest.raises(KeyConflict):
        await orchestrator.rerun(old.id)


# Closing


async def test_in_memory_runs_that_wait_are_stopped_with_the_others(
    autojump_clock: MockClock,
) -> None:
    async with open_orchestrator(max_running=1) as orchestrator:
        runs = [await orchestrator.start(nap) for _ in range(2)]
        runs.append(await orchestrator.start(nap, start_after_s=60))
        await wait_all_tasks_blocked()
    assert statuses(*runs) == ["stopped"] * 3
    assert {run.record.stop.source for run in runs if run.record.stop} == {StopSource.SHUTDOWN}

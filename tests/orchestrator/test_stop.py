"""The stop ladder, under virtual time: what each rung does, and exactly when."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from orchestrator import (
    AgentStopped,
    Context,
    InvalidInput,
    OperationCut,
    OperationRefused,
    Orchestrator,
    Run,
    RunEnded,
    RunStatus,
    StopMode,
    StopOutcome,
    StopSource,
    TooLateToStop,
    agent,
)

if TYPE_CHECKING:
    from trio.testing import MockClock


@agent
async def sleeper(ctx: Context) -> None:
    await ctx.sleep(1000)


async def event_types(orchestrator: Orchestrator, run_id: str) -> list[str]:
    return [event.type async for event in await orchestrator.events(run_id)]


async def test_a_run_that_sleeps_is_stopped_at_once(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(sleeper)
    await trio.sleep(3)

    receipt = await run.stop(reason="enough", requested_by="ada")

    assert trio.current_time() == pytest.approx(3, abs=0.05)
    assert run.status == RunStatus.STOPPED
    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.source is StopSource.USER
    assert (receipt.reason, receipt.requested_by) == ("enough", "ada")
    assert receipt.previous_status is RunStatus.RUNNING
    assert receipt.runs_stopped == 1
    assert run.id not in orchestrator.registry
    assert await event_types(orchestrator, run.id) == [
        "run.queued",
        "run.started",
        "run.stopping",
        "run.stopped",
    ]


@pytest.mark.parametrize("grace_s", [-1, math.inf, math.nan])
async def test_a_grace_that_is_no_duration_stops_nothing(
    orchestrator: Orchestrator, grace_s: float
) -> None:
    run = await orchestrator.start(sleeper)
    with pytest.raises(InvalidInput, match="grace_s: must be 0 or more seconds"):
        run.request_stop(grace_s=grace_s)
    with pytest.raises(InvalidInput, match="grace_s: must be 0 or more seconds"):
        orchestrator.request_halt(grace_s=grace_s)
    assert run.ladder.stop is None
    assert orchestrator._halt is None


async def test_a_graceful_stop_lets_the_operation_in_flight_finish(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    done: list[str] = []

    @agent
    async def worker(ctx: Context) -> None:
        for n in range(5):
            async with ctx.operation("step", str(n)):
                await trio.sleep(10)
                done.append(str(n))

    run = await orchestrator.start(worker)
    await trio.sleep(12)
    receipt = await run.stop(grace_s=30)

    assert done == ["0", "1"]
    assert receipt.reached is StopMode.GRACEFUL
    assert receipt.seconds == pytest.approx(8, abs=0.05)
    assert (receipt.operations.finished, receipt.operations.cut) == (1, 0)


async def test_the_grace_runs_out_and_the_operation_is_cut(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def worker(ctx: Context) -> None:
        async with ctx.operation("step", "long"):
            await trio.sleep(1000)

    run = await orchestrator.start(worker)
    await trio.sleep(1)
    receipt = await run.stop(grace_s=7)

    assert receipt.reached is StopMode.NOW
    assert receipt.mode is StopMode.GRACEFUL
    assert receipt.seconds == pytest.approx(7, abs=0.05)
    assert receipt.operations.cut == 1
    assert await event_types(orchestrator, run.id) == [
        "run.queued",
        "run.started",
        "operation.started",
        "run.stopping",
        "operation.cut",
        "run.escalated",
        "run.stopped",
    ]


async def test_a_limit_of_the_agents_own_works_in_an_operation(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def worker(ctx: Context) -> str:
        with trio.move_on_after(2) as limit:
            async with ctx.operation("step"):
                await trio.sleep(1000)
        return "limited" if limit.cancelled_caught else "not limited"

    run = await orchestrator.start(worker)
    record = await run.wait()

    assert record.result == "limited"
    assert trio.current_time() == pytest.approx(2, abs=0.05)


async def test_a_second_stop_only_tightens(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def worker(ctx: Context) -> None:
        async with ctx.operation("step"):
            await trio.sleep(1000)

    run = await orchestrator.start(worker)
    await trio.sleep(0.1)
    run.request_stop(grace_s=20, reason="first")
    run.request_stop(grace_s=500, reason="looser")
    run.request_stop(grace_s=5, reason="tighter")
    record = await run.wait()

    assert record.stop is not None
    assert record.stop.seconds == pytest.approx(5, abs=0.05)
    assert record.stop.reason == "first"
    assert [later.reason for later in record.stop.also] == ["looser", "tighter"]


async def test_code_that_swallows_one_cancellation_is_cancelled_again(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    swallowed: list[str] = []

    @agent
    async def swallower(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        except BaseException as error:
            swallowed.append(type(error).__name__)
        await ctx.sleep(1000)

    run = await orchestrator.start(swallower)
    await trio.sleep(1)
    receipt = await run.stop()

    assert swallowed == ["Cancelled"]
    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.seconds == pytest.approx(0, abs=0.05)


async def test_code_in_an_endless_shield_is_abandoned_and_named(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    release = trio.Event()

    @agent
    async def shielder(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    run = await orchestrator.start(shielder, cleanup_s=5)
    bystander = await orchestrator.start(sleeper)
    await trio.sleep(1)
    receipt = await run.stop()

    assert run.status == RunStatus.ABANDONED
    assert receipt.outcome is StopOutcome.ABANDONED
    assert receipt.reached is StopMode.KILL
    assert receipt.seconds == pytest.approx(5.5, abs=0.05)
    assert receipt.cleanup_errors == ()
    assert [(s.function.rpartition(".")[2], s.agent) for s in receipt.still_running] == [
        ("shielder", "shielder")
    ]
    assert receipt.still_running[0].file == __file__
    assert orchestrator.stuck == {run}
    assert bystander.status == RunStatus.RUNNING

    release.set()
    await run.exited.wait()
    assert orchestrator.stuck == frozenset()
    assert (await orchestrator.get(run.id)).status == RunStatus.ABANDONED


async def test_a_kill_does_not_wait_for_the_cleanup_time(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    release = trio.Event()

    @agent
    async def shielder(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    run = await orchestrator.start(shielder)
    await trio.sleep(1)
    receipt = await run.stop(mode="kill")
    release.set()

    assert receipt.outcome is StopOutcome.ABANDONED
    assert receipt.seconds == pytest.approx(0.5, abs=0.05)


async def test_a_run_may_end_before_the_letting_go_of_it_has_its_first_turn(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """Interleaving: the alarm rings, the run ends and nobody holds it, the task begins."""
    run = await orchestrator.start(sleeper)
    await run.stop()
    # What the journal writes now lets it forget the run.
    other = await orchestrator.start(sleeper)
    run.ladder.last.begin(patience_s=0.5)
    del run
    await trio.testing.wait_all_tasks_blocked()
    assert other.status is RunStatus.RUNNING


async def test_an_operation_of_a_task_outside_the_run_is_cut_at_its_end_and_counted(
    orchestrator: Orchestrator, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Such a task is none of the run's, so it cannot be waited for; but it has no alarm either."""
    ends: list[type[BaseException]] = []

    async def stray(ctx: Context) -> None:
        try:
            async with ctx.operation("send"):
                await trio.sleep(50)
        except OperationCut as error:
            ends.append(type(error))

    async with trio.open_nursery() as outside:

        @agent
        async def starter(ctx: Context) -> None:
            outside.start_soon(stray, ctx)
            await trio.sleep_forever()

        run = await orchestrator.start(starter)
        await trio.testing.wait_all_tasks_blocked()
        receipt = await run.stop()
    assert ends == [OperationCut]
    assert (receipt.reached, receipt.operations.cut) == (StopMode.NOW, 1)
    types = await event_types(orchestrator, run.id)
    assert types.index("operation.cut") < types.index("run.stopped") == len(types) - 1
    del run
    await orchestrator.start(sleeper)
    await trio.sleep(60)
    assert "an alarm failed" not in caplog.text


async def test_an_operation_that_was_cut_at_the_end_counts_once_also_for_the_parent(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """The task outside leaves it while the parent, whose receipt it stands on too, cleans up."""

    async def stray(ctx: Context) -> None:
        with pytest.raises(OperationCut):
            async with ctx.operation("send"):
                await trio.sleep(50)

    async with trio.open_nursery() as outside:

        @agent
        async def child(ctx: Context) -> None:
            outside.start_soon(stray, ctx)
            await trio.sleep_forever()

        @agent
        async def parent(ctx: Context) -> None:
            try:
                await ctx.call(child)
            finally:
                with ctx.cleanup():
                    await trio.sleep(1)

        run = await orchestrator.start(parent)
        await trio.testing.wait_all_tasks_blocked()
        receipt = await run.stop()
    assert receipt.operations.cut == 1


@pytest.mark.parametrize("stopped", [True, False])
async def test_nothing_starts_after_the_end_in_a_critical_section_of_a_task_outside(
    orchestrator: Orchestrator, autojump_clock: MockClock, stopped: bool
) -> None:
    done: list[str] = []

    async def commit(ctx: Context) -> None:
        with ctx.critical("commit", max_seconds=60):
            with pytest.raises(OperationCut):
                async with ctx.operation("send"):
                    await trio.sleep(50)
            with pytest.raises(OperationRefused):
                async with ctx.operation("late"):
                    pytest.fail("it began")
            await trio.sleep(5)
            done.append("committed")

    async with trio.open_nursery() as outside:

        @agent
        async def starter(ctx: Context) -> None:
            outside.start_soon(commit, ctx)
            await trio.sleep(100 if stopped else 10)

        run = await orchestrator.start(starter)
        await trio.sleep(10)
        if stopped:
            await run.stop()
        await run.wait()
    assert done == ["committed"]
    types = await event_types(orchestrator, run.id)
    assert types.count("operation.started") == types.count("operation.cut") == 1
    assert types.index("operation.cut") < len(types) - 1


async def test_a_kill_leaves_the_cleanup_its_half_second(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """Interleaving: the agent's code has its turn before the alarm of the kill rings."""
    tidied: list[float] = []

    @agent
    async def tidy(ctx: Context) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with ctx.cleanup():
                await trio.sleep(0.1)
                tidied.append(trio.current_time())

    for _ in range(20):
        run = await orchestrator.start(tidy)
        await trio.testing.wait_all_tasks_blocked()
        asked = trio.current_time()
        run.request_stop(mode="kill")
        assert 0.4 < run.cleanup_left_s <= 0.5
        await run.wait()
        assert tidied.pop() == pytest.approx(asked + 0.1)


async def test_a_busy_loop_does_not_make_a_killed_run_seem_stuck(
    orchestrator: Orchestrator, mock_clock: MockClock
) -> None:
    """Code that gets a turn only every 0.2 s is given turns, and not half a second alone."""

    @agent
    async def tidy(ctx: Context) -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                for _ in range(20):
                    await trio.lowlevel.checkpoint()

    async def be_busy() -> None:
        while True:
            mock_clock.jump(0.2)
            await trio.lowlevel.checkpoint()

    run = await orchestrator.start(tidy)
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(be_busy)
        receipt = await run.stop(mode="kill")
        nursery.cancel_scope.cancel()

    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.still_running == ()
    assert receipt.seconds is not None
    assert receipt.seconds > 4


async def test_compensations_run_last_first_and_one_failure_prevents_none(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    ran: list[str] = []

    async def refund(name: str) -> None:
        await trio.sleep(1)
        ran.append(name)

    def fail() -> None:
        ran.append("fail")
        raise ValueError("no money")

    async def hang() -> None:
        await trio.sleep(1000)

    @agent
    async def buyer(ctx: Context) -> None:
        ctx.on_stop(refund, "first")
        ctx.on_stop(hang)
        ctx.on_stop(fail)
        ctx.on_stop(refund, "last")
        await ctx.sleep(1000)

    run = await orchestrator.start(buyer, cleanup_s=5)
    await trio.sleep(1)
    receipt = await run.stop()

    assert ran == ["last", "fail", "first"]
    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.seconds == pytest.approx(7, abs=0.05)
    assert [error.rpartition(".")[2] for error in receipt.cleanup_errors] == [
        "fail: ValueError: no money",
        "hang: not done within 5 s",
    ]


async def test_compensations_do_not_run_when_the_run_is_not_stopped(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    ran: list[str] = []

    @agent
    async def buyer(ctx: Context) -> None:
        ctx.on_stop(ran.append, "refunded")

    await (await orchestrator.start(buyer)).wait()
    assert ran == []


async def test_a_critical_section_holds_a_stop_back(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    done: list[str] = []

    @agent
    async def committer(ctx: Context) -> None:
        with ctx.critical("commit", max_seconds=10):
            async with ctx.operation("db", "one"):
                await trio.sleep(2)
            async with ctx.operation("db", "two"):
                await trio.sleep(2)
            done.append("committed")
        await ctx.sleep(1000)
        done.append("not reached")

    run = await orchestrator.start(committer)
    await trio.sleep(1)
    receipt = await run.stop(mode="now")

    assert done == ["committed"]
    assert receipt.critical_s == pytest.approx(3, abs=0.05)
    assert receipt.seconds == pytest.approx(3, abs=0.05)
    assert receipt.operations.cut == 0


async def test_a_critical_section_is_cut_at_the_bound_that_it_named(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def committer(ctx: Context) -> None:
        with ctx.critical("commit", max_seconds=4):
            await trio.sleep(1000)

    run = await orchestrator.start(committer)
    await trio.sleep(1)
    receipt = await run.stop(mode="now")

    assert receipt.seconds == pytest.approx(3, abs=0.05)
    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.error is not None
    assert receipt.error.type == "OperationCut"
    assert receipt.reached is StopMode.NOW


async def test_nothing_starts_after_the_stop_not_even_in_a_shielded_finally(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    started: list[str] = []

    @agent
    async def stubborn(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            with trio.CancelScope(shield=True):
                async with ctx.operation("late"):
                    started.append("late")

    run = await orchestrator.start(stubborn)
    await trio.sleep(1)
    receipt = await run.stop()

    assert started == []
    assert receipt.operations.refused == 1
    assert receipt.error is not None
    assert receipt.error.type == "OperationRefused"
    assert "operation.refused" in await event_types(orchestrator, run.id)


async def test_a_deadline_is_the_same_stop_with_another_source(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(sleeper, deadline_s=60)
    record = await run.wait()

    assert record.status is RunStatus.TIMED_OUT
    assert trio.current_time() == pytest.approx(60, abs=0.05)
    assert record.stop is not None
    assert record.stop.source is StopSource.DEADLINE


async def test_an_idle_limit_counts_from_the_last_event(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def slowing(ctx: Context) -> None:
        for n in range(1, 100):
            await ctx.sleep(n)
            await ctx.progress(n)

    run = await orchestrator.start(slowing, idle_timeout_s=5.5)
    record = await run.wait()

    assert record.stop is not None
    assert record.stop.source is StopSource.IDLE
    assert record.progress.percent == 5
    assert trio.current_time() == pytest.approx(1 + 2 + 3 + 4 + 5 + 5.5, abs=0.05)


async def test_stop_then_natural_finish_is_a_success(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    runs: list[Run] = []

    @agent
    async def finisher(ctx: Context) -> str:
        await ctx.sleep(1)
        runs[0].request_stop()
        return "done all the same"

    runs.append(await orchestrator.start(finisher))
    record = await runs[0].wait()

    assert record.status is RunStatus.SUCCEEDED
    assert record.result == "done all the same"
    assert record.stop is not None
    assert record.stop.outcome is StopOutcome.FINISHED_FIRST


async def test_an_error_while_stopping_is_a_stop_with_the_error_on_the_receipt(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def clumsy(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            raise ValueError("in finally")

    run = await orchestrator.start(clumsy)
    await trio.sleep(1)
    receipt = await run.stop()

    assert run.status == RunStatus.STOPPED
    assert receipt.error is not None
    assert (receipt.error.type, receipt.error.message) == ("ValueError", "in finally")
    assert run.record.error is None


@pytest.mark.parametrize(
    ("start_after_s", "previous", "told"),
    [
        (100, RunStatus.QUEUED, ["run.queued", "run.stopped"]),
        # Interleaving: the stop comes between the admission and the first step of the run's task.
        (0, RunStatus.RUNNING, ["run.queued", "run.started", "run.stopping", "run.stopped"]),
    ],
)
async def test_a_run_that_is_stopped_before_its_code_begins_never_runs_it(
    orchestrator: Orchestrator,
    autojump_clock: MockClock,
    start_after_s: int,
    previous: RunStatus,
    told: list[str],
) -> None:
    ran: list[str] = []

    @agent
    async def never(ctx: Context) -> None:
        ran.append("ran")

    run = orchestrator.admit(never, options={"start_after_s": start_after_s})
    run.request_stop()
    record = await run.wait()

    assert record.status is RunStatus.STOPPED
    assert record.stop is not None
    assert record.stop.previous_status is previous
    assert ran == []
    assert await event_types(orchestrator, run.id) == told


async def test_a_stop_of_a_run_that_has_ended_is_an_error(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def quick(ctx: Context) -> None:
        pass

    run = await orchestrator.start(quick)
    await run.wait()

    with pytest.raises(RunEnded, match="succeeded"):
        run.request_stop()


async def test_who_stops_a_run_that_a_stop_has_ended_gets_the_same_receipt(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    """A second click must not depend on how fast the first one was."""

    @agent
    async def parent(ctx: Context) -> bool:
        child = await ctx.start(sleeper)
        return await child.stop() == await child.stop()

    run = await orchestrator.start(sleeper)
    receipt = await run.stop(reason="enough")
    assert await run.stop(mode="now") == receipt
    assert await orchestrator.stop(run.id) == receipt
    assert (await (await orchestrator.start(parent)).wait()).result is True

    ended = await orchestrator.start(parent)
    await ended.wait()
    with pytest.raises(RunEnded, match="succeeded"):
        await ended.stop()
    with pytest.raises(RunEnded, match="succeeded"):
        await orchestrator.stop(ended.id)


async def test_a_child_stopped_alone_leaves_its_parent_going(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def parent(ctx: Context) -> str:
        child = await ctx.start(sleeper)
        await ctx.sleep(1)
        receipt = await child.stop(reason="not needed")
        try:
            await child.wait()
        except AgentStopped as stopped:
            return f"{stopped.receipt.source} {receipt.reason}"
        return "not stopped"

    record = await (await orchestrator.start(parent)).wait()

    assert record.status is RunStatus.SUCCEEDED
    assert record.result == "parent not needed"


async def test_a_stuck_leaf_lets_its_ancestors_be_abandoned_with_it(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    release = trio.Event()

    @agent
    async def leaf(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    @agent
    async def middle(ctx: Context) -> None:
        await ctx.call(leaf)

    @agent
    async def top(ctx: Context) -> None:
        await ctx.map(middle, [{}, {}])

    run = await orchestrator.start(top)
    await trio.sleep(1)
    receipt = await run.stop()
    release.set()

    assert receipt.outcome is StopOutcome.ABANDONED
    assert receipt.seconds == pytest.approx(5.5, abs=0.05)
    assert receipt.runs_stopped == 5
    assert {s.agent for s in receipt.still_running} == {"leaf", "top"}
    statuses = {record.agent: record.status for record in await orchestrator.tree(run.id)}
    assert set(statuses.values()) == {RunStatus.ABANDONED}


async def test_a_stop_that_takes_too_long_names_the_place_although_it_ends(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def slow(ctx: Context) -> None:
        try:
            await ctx.sleep(100)
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(5.3)

    run = await orchestrator.start(slow, cleanup_s=5)
    await trio.sleep(1)
    receipt = await run.stop()

    assert run.record.status is RunStatus.STOPPED
    assert receipt.seconds == pytest.approx(5.3, abs=0.05)
    (said,) = receipt.cleanup_errors
    assert said.startswith(f"its code took longer than its cleanup time, at {__file__}:")
    events = await orchestrator.store.events(run.id, after=0, limit=100)
    (told,) = (event.data["message"] for event in events if event.type == "run.log")
    assert told.startswith(f"still stopping: its code stands at {__file__}:")


@agent
async def half_done(ctx: Context) -> None:
    await ctx.call(told_half)
    await ctx.progress(49.5)
    await ctx.sleep(10)
    await ctx.progress(50)
    await ctx.call(told_half)
    await ctx.sleep(60)


@agent
async def told_half(ctx: Context) -> None:
    await ctx.sleep(10)


async def test_no_user_stops_a_run_that_is_too_far(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(half_done, no_stop_after_percent=50)
    await trio.sleep(25)
    [child] = run.children
    before = run.record
    for each in (run, child):
        for mode in StopMode:
            with pytest.raises(TooLateToStop, match="is at 50 %, and from 50 % on only an admin"):
                each.request_stop(mode=mode)
    assert (run.record, child.record.stop) == (before, None)
    assert not run.gate.closed
    receipt = await run.stop(source=StopSource.ADMIN)
    assert receipt.outcome is StopOutcome.STOPPED
    with pytest.raises(RunEnded):
        run.request_stop()


@pytest.mark.parametrize(
    "source", [source for source in StopSource if source is not StopSource.USER]
)
async def test_nobody_but_users_is_bound_by_how_far_a_run_is(
    orchestrator: Orchestrator, autojump_clock: MockClock, source: StopSource
) -> None:
    """And once somebody has stopped it, a user may tighten that."""
    run = await orchestrator.start(half_done, no_stop_after_percent=50)
    await trio.sleep(25)
    run.request_stop(source=source)
    run.request_stop(mode=StopMode.NOW)
    record = await run.wait()
    assert record.stop is not None
    assert (record.stop.source, len(record.stop.also)) == (source, 1)


async def test_before_that_a_user_stops_it_as_any_other(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(half_done, no_stop_after_percent=50)
    await trio.sleep(15)
    assert run.record.progress.percent == 49.5
    assert (await run.stop()).outcome is StopOutcome.STOPPED

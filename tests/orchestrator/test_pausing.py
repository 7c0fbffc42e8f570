"""Pause, resume and step: what is in flight finishes, and nothing starts until it may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from orchestrator import (
    AgentFailed,
    Context,
    IllegalTransition,
    Orchestrator,
    ParentIsPaused,
    Run,
    RunStatus,
    StopOutcome,
    agent,
    open_orchestrator,
)
from orchestrator.testing import until

if TYPE_CHECKING:
    from trio.testing import MockClock

did: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    did.clear()


@agent
async def worker(ctx: Context, name: str = "op", times: int = 3) -> str:
    """Do so many operations of a second each."""
    for n in range(times):
        async with ctx.operation("op", f"{name}{n}"):
            did.append(f"{name}{n} began")
            await trio.sleep(1)
            did.append(f"{name}{n} ended")
    return name


@agent
async def pair(ctx: Context) -> list[str]:
    """Run two workers side by side."""
    return await ctx.map(worker, [{"name": "a"}, {"name": "b"}])


async def types_of(orchestrator: Orchestrator, run: Run) -> list[str]:
    """Return the types of the run's own events, without those of operations."""
    events = await orchestrator.store.events(run.record.root_id, after=0, limit=1000)
    return [
        event.type
        for event in events
        if event.run_id == run.id and not event.type.startswith("operation.")
    ]


async def test_what_is_in_flight_finishes_and_nothing_starts(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(worker)
    await trio.sleep(0.5)
    run.request_pause(reason="lunch")
    assert [run.record.status] == [RunStatus.PAUSING]
    await trio.sleep(100)
    assert [run.record.status] == [RunStatus.PAUSED]
    assert did == ["op0 began", "op0 ended"]
    run.request_resume()
    began = trio.current_time()
    record = await run.wait()
    assert trio.current_time() - began == pytest.approx(2, abs=0.1)
    assert record.status is RunStatus.SUCCEEDED
    assert await types_of(orchestrator, run) == [
        "run.queued",
        "run.started",
        "run.pausing",
        "run.paused",
        "run.resumed",
        "run.succeeded",
    ]


async def test_a_whole_tree_parks_and_goes_on(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(pair)
    await trio.sleep(0.5)
    run.request_pause()
    assert {each.record.status for each in run.subtree()} == {RunStatus.PAUSING}
    await trio.sleep(100)
    assert {each.record.status for each in run.subtree()} == {RunStatus.PAUSED}
    assert len(run.subtree()) == 3
    assert sorted(did) == ["a0 began", "a0 ended", "b0 began", "b0 ended"]
    run.request_resume()
    assert (await run.wait()).result == ["a", "b"]


async def test_a_parent_is_paused_only_after_its_children(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(pair)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(100)
    events = await orchestrator.store.events(run.id, after=0, limit=1000)
    assert [event.run_id for event in events if event.type == "run.paused"][-1] == run.id


async def test_a_stop_ends_a_paused_tree_at_once(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    undone: list[str] = []

    @agent
    async def careful(ctx: Context) -> None:
        ctx.on_stop(undone.append, "undone")
        await ctx.call(worker)

    run = await orchestrator.start(careful)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(10)
    assert run.record.status is RunStatus.PAUSED
    began = trio.current_time()
    receipt = await run.stop(grace_s=30)
    assert trio.current_time() - began < 0.1
    assert (receipt.outcome, receipt.previous_status) == (StopOutcome.STOPPED, RunStatus.PAUSED)
    assert receipt.runs_stopped == 2
    assert undone == ["undone"]
    assert did == ["op0 began", "op0 ended"]


async def test_stop_beats_pause_and_resume(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(worker)
    await trio.sleep(0.5)
    run.request_stop()
    for refused in (run.request_pause, run.request_resume, run.request_step):
        with pytest.raises(IllegalTransition):
            refused()
    assert (await run.wait()).status is RunStatus.STOPPED
    for refused in (run.request_pause, run.request_resume, run.request_step):
        with pytest.raises(IllegalTransition):
            refused()


async def test_a_deadline_ticks_on_while_paused_and_can_be_moved(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(worker, deadline_s=10)
    other = await orchestrator.start(worker, deadline_s=10)
    began = trio.current_time()
    for each in (run, other):
        each.request_pause()
    await trio.sleep(5)
    other.move_deadline(20)
    assert (await run.wait()).status is RunStatus.TIMED_OUT
    assert trio.current_time() - began == pytest.approx(10, abs=0.1)
    assert (await other.wait()).status is RunStatus.TIMED_OUT
    assert trio.current_time() - began == pytest.approx(25, abs=0.1)


async def test_an_idle_limit_does_not_count_while_paused(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(worker, idle_timeout_s=5)
    run.request_pause()
    await trio.sleep(100)
    run.request_resume()
    assert (await run.wait()).status is RunStatus.SUCCEEDED


async def test_a_paused_run_cannot_end_by_itself(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def short(ctx: Context, fails: bool) -> str:
        await trio.sleep(1)
        if fails:
            raise ValueError("no luck")
        return "done"

    runs = [await orchestrator.start(short, {"fails": fails}) for fails in (False, True, True)]
    await trio.sleep(0.5)
    for run in runs:
        run.request_pause()
    await trio.sleep(10)
    assert [run.record.status for run in runs] == [RunStatus.PAUSED] * 3
    runs[0].request_resume()
    runs[1].request_resume()
    assert (await runs[0].wait()).result == "done"
    failed = await runs[1].wait()
    assert failed.error is not None
    assert (failed.status, failed.error.message) == (RunStatus.FAILED, "no luck")
    receipt = await runs[2].stop()
    assert receipt.error is not None
    assert (receipt.outcome, receipt.error.message) == (StopOutcome.STOPPED, "no luck")


async def test_a_run_that_had_returned_when_paused_has_succeeded(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def short(ctx: Context) -> str:
        await trio.sleep(1)
        return "done"

    run = await orchestrator.start(short)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(10)
    receipt = await run.stop()
    assert receipt.outcome is StopOutcome.FINISHED_FIRST
    assert run.record.result == "done"


async def test_a_step_lets_one_operation_through(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(worker, debug=True)
    await trio.sleep(10)
    assert (run.record.status, did) == (RunStatus.PAUSED, [])
    for n in range(3):
        run.request_step()
        assert [run.record.status] == [RunStatus.PAUSING]
        await trio.sleep(100)
        assert [run.record.status] == [RunStatus.PAUSED]
        assert did[2 * n :] == [f"op{n} began", f"op{n} ended"]
    run.request_resume()
    assert (await run.wait()).status is RunStatus.SUCCEEDED


async def test_steps_go_through_a_tree_one_by_one(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(pair, debug=True)
    await trio.sleep(10)
    seen = []
    for _ in range(10):
        run.request_step()
        await trio.sleep(10)
        assert run.record.status is RunStatus.PAUSED
        seen.append(len(did))
    # The two sub-agents are let in one by one; then one makes its operations and ends, then the
    # other; and then the parent ends.
    assert seen == [0, 0, 2, 4, 6, 6, 8, 10, 12, 12]
    run.request_step()
    assert (await run.wait()).result == ["a", "b"]


async def test_a_step_needs_a_paused_run(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(worker)
    with pytest.raises(IllegalTransition, match="running cannot make a step"):
        run.request_step()
    await run.stop()


async def test_a_child_can_be_paused_alone_but_not_resumed_below_a_pause(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(pair)
    await trio.sleep(0.5)
    child, other = run.subtree()[1:]
    child.request_pause()
    await trio.sleep(1)
    assert [each.record.status for each in (run, child, other)] == [
        RunStatus.RUNNING,
        RunStatus.PAUSED,
        RunStatus.RUNNING,
    ]
    run.request_pause()
    with pytest.raises(ParentIsPaused, match="resume"):
        child.request_resume()
    with pytest.raises(ParentIsPaused):
        child.request_step()
    await trio.sleep(10)
    run.request_resume()
    assert (await run.wait()).status is RunStatus.SUCCEEDED


async def test_a_child_that_is_stopped_alone_lets_its_parent_be_paused(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(pair)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(10)
    run.subtree()[1].request_stop()
    await trio.sleep(10)
    assert run.record.status is RunStatus.PAUSED
    run.request_resume()
    record = await run.wait()
    assert record.error is not None
    assert (record.status, record.error.type) == (RunStatus.FAILED, "AgentStopped")


async def test_a_critical_section_in_flight_goes_on_and_a_new_one_waits(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def committer(ctx: Context) -> None:
        for n in range(2):
            with ctx.critical("commit", 50):
                await trio.sleep(1)
                async with ctx.operation("op", f"{n}"):
                    did.append(f"commit {n}")
                    await trio.sleep(1)

    run = await orchestrator.start(committer)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(100)
    assert (run.record.status, did) == (RunStatus.PAUSED, ["commit 0"])
    run.request_resume()
    await run.wait()
    assert did == ["commit 0", "commit 1"]


async def test_telling_waits_while_paused_but_not_within_an_operation(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def teller(ctx: Context) -> None:
        async with ctx.operation("op", "telling"):
            await trio.sleep(1)
            await ctx.log("within")
            did.append("within")
        await ctx.progress(50)
        did.append("after")

    run = await orchestrator.start(teller)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(10)
    assert did == ["within"]
    run.request_resume()
    await run.wait()
    assert did == ["within", "after"]


async def test_a_paused_run_holds_no_busy_loop(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(pair)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(10)
    autojump_clock.autojump_threshold = float("inf")
    # Comes back only if every task is blocked, so nobody polls.
    with trio.fail_after(5):
        await wait_all_tasks_blocked()
    autojump_clock.autojump_threshold = 0
    await run.stop()


async def test_a_run_that_waits_for_its_start_is_not_paused(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(worker, start_after_s=100)
    with pytest.raises(IllegalTransition, match="queued cannot pause"):
        run.request_pause()
    await run.stop()


async def test_a_pause_before_its_code_begins_holds_it_at_its_first_gate(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    # Interleaving: the pause comes between the admission and the first step of the run's task.
    run = orchestrator.admit(worker)
    run.request_pause()
    await until(run, "paused")
    await trio.sleep(100)
    assert did == []
    run.request_resume()
    await run.wait()
    assert did[0] == "op0 began"


async def test_an_agent_that_shields_is_stopped_at_its_gate_while_paused(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def shielded(ctx: Context) -> None:
        with ctx.cleanup():
            await ctx.call(worker)

    run = await orchestrator.start(shielded)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(2)
    receipt = await run.stop()
    assert receipt.outcome is StopOutcome.STOPPED
    assert did == ["op0 began", "op0 ended"]


async def test_leaving_the_orchestrator_stops_paused_runs(autojump_clock: MockClock) -> None:
    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(worker)
        run.request_pause()
        await trio.sleep(10)
    assert run.record.status is RunStatus.STOPPED


async def test_a_sub_agents_failure_reaches_its_parent_after_the_pause(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def failing(ctx: Context) -> None:
        await trio.sleep(1)
        raise ValueError("no")

    @agent
    async def parent(ctx: Context) -> str:
        try:
            await ctx.call(failing)
        except AgentFailed as error:
            return str(error)
        return "nothing"

    run = await orchestrator.start(parent)
    await trio.sleep(0.5)
    run.request_pause()
    await trio.sleep(5)
    assert run.record.status is RunStatus.PAUSED
    run.request_resume()
    assert "ValueError: no" in (await run.wait()).result


async def test_checkpoints_and_sleeps_wait_while_paused(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def idler(ctx: Context, sleeps: bool) -> None:
        await trio.sleep(1)
        await (ctx.sleep(0) if sleeps else ctx.checkpoint())
        did.append("after")

    runs = [await orchestrator.start(idler, {"sleeps": sleeps}) for sleeps in (False, True)]
    for run in runs:
        run.request_pause()
    await trio.sleep(10)
    assert did == []
    for run in runs:
        run.request_resume()
        await run.wait()
    assert did == ["after", "after"]


async def test_a_step_without_an_operation_ends_at_the_next_checkpoint(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def stepper(ctx: Context) -> None:
        await ctx.step("one", did.append, "one")
        await trio.sleep(5)
        await ctx.checkpoint()
        did.append("two")

    run = await orchestrator.start(stepper, debug=True)
    await trio.sleep(1)
    run.request_step()
    await trio.sleep(1)
    assert (run.record.status.value, did) == ("pausing", ["one"])
    await trio.sleep(10)
    assert (run.record.status.value, did) == ("paused", ["one"])
    run.request_resume()
    await run.wait()
    assert did == ["one", "two"]


async def test_a_durable_step_and_the_first_operation_in_it_are_one_step(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    async def work(ctx: Context, name: str) -> None:
        for n in range(2):
            await trio.sleep(5)
            async with ctx.operation("test", name):
                did.append(f"{name}{n}")

    @agent
    async def stepper(ctx: Context) -> None:
        await ctx.step("a", work, ctx, "a")
        await ctx.step("b", work, ctx, "b")

    run = await orchestrator.start(stepper, debug=True)
    await trio.sleep(1)
    for n in range(4):
        run.request_step()
        await trio.sleep(1)
        # It is under way until the operation that belongs to it is over.
        assert (run.record.status.value, len(did)) == (
            ("pausing", n) if n % 2 == 0 else ("paused", n + 1)
        )
        await trio.sleep(20)
        assert (run.record.status.value, did) == ("paused", ["a0", "a1", "b0", "b1"][: n + 1])
    run.request_step()
    assert (await run.wait()).status is RunStatus.SUCCEEDED


async def test_what_a_debug_step_allowed_does_not_outlive_a_resume(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    async def work(ctx: Context) -> None:
        await trio.sleep(5)
        async with ctx.operation("test"):
            did.append("operation")

    @agent
    async def stepper(ctx: Context) -> None:
        await ctx.step("a", work, ctx)

    run = await orchestrator.start(stepper, debug=True)
    await trio.sleep(1)
    run.request_step()
    await trio.sleep(1)
    run.request_resume()
    run.request_pause()
    await trio.sleep(20)
    assert (run.record.status.value, did) == ("paused", [])
    run.request_resume()
    await run.wait()
    assert did == ["operation"]


async def test_a_step_before_the_first_gate_is_not_lost(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def slow_to_begin(ctx: Context) -> None:
        await trio.sleep(5)
        for n in range(2):
            async with ctx.operation("test"):
                did.append(f"op{n}")

    run = await orchestrator.start(slow_to_begin, debug=True)
    await trio.sleep(1)
    assert run.record.status is RunStatus.PAUSED
    run.request_step()
    await trio.sleep(1)
    assert (run.record.status.value, did) == ("pausing", [])
    await trio.sleep(10)
    assert (run.record.status.value, did) == ("paused", ["op0"])
    await run.stop()

"""Stops at every scheduling point: the scenario, what must hold afterwards, and the sweep.

Each scenario is run anew for k = 0, 1, 2, … until it is over before its k-th point, so a stop (or
two) is tried between any two steps of any two tasks. Trio shuffles on purpose, so that each round
is another interleaving.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio
import trio.testing

from orchestrator import (
    AgentStopped,
    Context,
    Event,
    Orchestrator,
    Run,
    RunEnded,
    RunRecord,
    RunStatus,
    StopMode,
    StopOutcome,
    agent,
    open_orchestrator,
)
from orchestrator.testing import VirtualTime, at_points
from orchestrator.testing.checks import check_feed, check_nothing_began_late

if TYPE_CHECKING:
    from collections.abc import Callable

FAST = [StopMode.GRACEFUL, StopMode.NOW, StopMode.KILL]

# What the agents of one round did.
began: Counter[str] = Counter()
ended: Counter[str] = Counter()
registered: list[str] = []
compensated: list[str] = []


@agent
async def small(ctx: Context) -> str:
    began[ctx.run_id] += 1
    try:
        async with ctx.operation("op", "in child"):
            await trio.sleep(0.01)
        await ctx.sleep(0.01)
    finally:
        ended[ctx.run_id] += 1
    return "small"


async def undo(ctx: Context, name: str) -> None:
    async with ctx.operation("op", "compensation"):
        await trio.sleep(0.01)
        compensated.append(name)


def may_undo(ctx: Context, name: str) -> None:
    registered.append(name)
    ctx.on_stop(undo, ctx, name)


@agent
async def whole(ctx: Context) -> str:
    """Do a little of everything."""
    began[ctx.run_id] += 1
    try:
        may_undo(ctx, "one")
        await ctx.progress(10)
        async with ctx.operation("op", "first"):
            await trio.sleep(0.01)
        child = await ctx.start(small)
        may_undo(ctx, "two")
        assert ctx.http is not None
        try:
            await ctx.call(small)
            await ctx.map(small, [{}, {}])
            await child.wait()
        except AgentStopped:
            await ctx.log("a child was stopped")
        with ctx.critical("commit", 5):
            async with ctx.operation("op", "critical"):
                await trio.sleep(0.01)
        await ctx.partial({"all": "done"})
    finally:
        ended[ctx.run_id] += 1
    return "done"


@agent
async def bystander(ctx: Context) -> str:
    for n in range(30):
        async with ctx.operation("op", str(n)):
            await trio.sleep(0.003)
    return "undisturbed"


@dataclass
class Round:
    """One run of ``whole``, stopped on the way."""

    run: Run
    stops: list[StopMode] = field(default_factory=list)
    tickets: list[int] = field(default_factory=list)

    def stop(self, mode: StopMode, run: Run | None = None) -> None:
        """Ask for a stop, if there is something left to stop."""
        target = run or self.run
        try:
            target.request_stop(mode=mode, grace_s=3, reason=str(mode))
        except RunEnded:
            assert target.record.status.is_terminal
        else:
            if target is self.run:
                self.stops.append(mode)


async def play(actions: Callable[[Round], dict[int, Callable[[], None]]]) -> bool:
    """Play one round and check everything; return whether all actions came in time."""
    for each in (began, ended, registered, compensated):
        each.clear()
    async with open_orchestrator() as orchestrator:
        beside = await orchestrator.start(bystander)
        this = Round(orchestrator.admit(whole))
        due = actions(this)
        for action in [due.pop(0)] if 0 in due else []:
            action()
        with at_points(due) as points:
            await this.run.wait()
            await this.run.exited.wait()
        await check(orchestrator, this)
        assert (await beside.wait()).result == "undisturbed"
        await beside.exited.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert len(orchestrator.registry) == 0
        assert {task.name.rpartition(".")[2] for task in orchestrator._nursery.child_tasks} == {
            "run"
        }
        assert len(orchestrator._nursery.child_tasks) == 2
        return not points.pending


async def check(orchestrator: Orchestrator, this: Round) -> None:
    """What must hold wherever the stops came."""
    record = this.run.record
    events = await orchestrator.store.events(record.id, after=0, limit=100_000)
    assert await orchestrator.get(record.id) == record
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert ended == began
    assert all(times == 1 for times in began.values())
    check_receipt(this)
    if record.status is RunStatus.STOPPED:
        assert record.stop is not None
        undone = list(record.stop.cleanup_errors)
        # Only a kill that comes later cuts a compensation, and the receipt says so.
        assert undone == [] or StopMode.KILL in this.stops[1:]
        assert len(compensated) + len(undone) == len(registered)
        assert compensated == [name for name in registered[::-1] if name in compensated]
    else:
        assert compensated == []
    check_events(events, await orchestrator.tree(record.id))


def check_events(events: list[Event], tree: list[RunRecord]) -> None:
    """What must hold of a feed; operations in critical sections and compensations may be late."""
    assert list(check_feed(events, tree)) == []
    held = ("critical", "compensation")
    free = [event for event in events if event.data.get("label") not in held]
    assert list(check_nothing_began_late(free)) == []


def check_receipt(this: Round) -> None:
    record = this.run.record
    receipt = record.stop
    if not this.stops:
        assert (record.status, receipt) == (RunStatus.SUCCEEDED, None)
        return
    assert receipt is not None
    assert record.status in (RunStatus.STOPPED, RunStatus.SUCCEEDED)
    stopped = record.status is RunStatus.STOPPED
    assert receipt.outcome is (StopOutcome.STOPPED if stopped else StopOutcome.FINISHED_FIRST)
    assert record.result == (None if stopped else "done")
    assert [receipt.reason, *(later.reason for later in receipt.also)] == this.stops
    assert receipt.mode is max(this.stops, key=lambda mode: mode.rank)
    if receipt.error is not None:
        # A kill does not wait for a critical section, which then says that it was cut.
        assert receipt.error.type == "OperationCut"
        assert StopMode.KILL in this.stops
    assert receipt.settled_at is not None
    assert receipt.reached is not StopMode.KILL


def sweep(
    actions: Callable[[int, Round], dict[int, Callable[[], None]]],
    *,
    stride: int = 1,
    first: int = 0,
) -> int:
    """Play rounds with the stop later and later, until one is over before it."""
    for k in itertools.count(first, stride):
        try:
            in_time = trio.run(play, partial(actions, k), clock=VirtualTime().clock)
        except BaseException as error:
            error.add_note(f"at point {k}")
            raise
        if not in_time:
            return k
    raise AssertionError("unreachable")

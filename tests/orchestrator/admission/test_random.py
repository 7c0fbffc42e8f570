"""Random starts, ends, stops, crashes and restarts: slots, keys and the order hold throughout."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator import (
    Context,
    KeyConflict,
    Orchestrator,
    QueueFull,
    RunEnded,
    RunStatus,
    agent,
)
from tests.orchestrator.admission.lives import Machine

if TYPE_CHECKING:
    from orchestrator import Run

MAX_RUNNING, MAX_QUEUED, NARROW = 3, 6, 2

# Who is inside its code: its owner, its key, and its agent.
inside: dict[str, tuple[str, str | None, str]] = {}
began: list[str] = []


async def visit(ctx: Context, seconds: float) -> None:
    record = ctx._run.record
    key, alone = record.options.key, record.options.on_conflict != "allow"
    here = (record.owner, key, record.agent)
    if key is not None and alone:
        assert here[:2] not in [each[:2] for each in inside.values()], f"two runs hold {here}"
    assert record.id not in began or record.attempt > 1
    began.append(record.id)
    inside[record.id] = here
    try:
        assert len(inside) <= MAX_RUNNING
        assert sum(each[2] == "narrow" for each in inside.values()) <= NARROW
        async with ctx.operation("work"):
            await trio.sleep(seconds / 2)
        await ctx.sleep(seconds / 2)
    finally:
        inside.pop(record.id, None)


@agent
async def wide(ctx: Context, seconds: float) -> None:
    await visit(ctx, seconds)


@agent(max_running=NARROW)
async def narrow(ctx: Context, seconds: float) -> None:
    await visit(ctx, seconds)


SECONDS = st.sampled_from([0.0, 1.0, 3.0])
STARTS = st.fixed_dictionaries(
    {"agent": st.sampled_from(["wide", "narrow"]), "seconds": SECONDS},
    optional={
        "owner": st.sampled_from(["ann", "bob"]),
        "priority": st.sampled_from([0, 5]),
        "start_after_s": st.sampled_from([0.5, 4.0]),
        "start_by_s": st.sampled_from([5.0, 9.0]),
        "on_crash": st.just("restart"),
        "keyed": st.tuples(
            st.sampled_from("kl"),
            st.sampled_from(["allow", "reject", "enqueue", "enqueue", "stop_previous"]),
        ),
    },
)
DEEDS = st.one_of(
    *[st.tuples(st.just("start"), STARTS)] * 4,
    st.tuples(st.just("stop"), st.integers(0, 20)),
    st.tuples(st.just("sleep"), SECONDS),
    st.tuples(st.just("turn"), st.integers(1, 4)),
    st.tuples(st.just("restart"), st.booleans()),
)


class Story:
    """One machine, and what happens on it."""

    orchestrator: Orchestrator

    def __init__(self) -> None:
        self.machine = Machine()

    async def play(self, deeds: list[Any]) -> None:
        """Play the deeds; each restart among them ends a life, and the last one is patient."""
        while deeds:
            ends = [n for n, deed in enumerate(deeds) if deed[0] == "restart"]
            end = ends[0] if ends else len(deeds)
            crash = bool(ends) and deeds[end][1]
            await self.live(deeds[:end], crash=crash, patient=not ends)
            deeds = deeds[end + 1 :]

    async def live(self, deeds: list[Any], *, crash: bool, patient: bool) -> None:
        life = self.machine.life(
            crash=crash, agents=[wide, narrow], max_running=MAX_RUNNING, max_queued=MAX_QUEUED
        )
        async with life as self.orchestrator:
            self.check()
            for deed in deeds:
                await self.do(deed)
                self.check()
            if patient:
                await self.be_patient()
            waiting = [run for run in self.orchestrator.registry if self.waits(run)]
        inside.clear()
        for run in waiting:
            stored = await self.machine.disk.get(run.id)
            # It was durable, or its start is as if it had not been.
            assert stored is None or stored.status is RunStatus.QUEUED

    async def do(self, deed: Any) -> None:
        match deed:
            case ("start", order):
                self.start(order["agent"], dict(order))
            case ("stop", n) if self.orchestrator.registry:
                runs = list(self.orchestrator.registry)
                with suppress(RunEnded):
                    runs[n % len(runs)].request_stop(grace_s=1)
            case ("sleep", seconds):
                await trio.sleep(seconds)
            case ("turn", times):
                for _ in range(times):
                    await trio.lowlevel.checkpoint()

    async def be_patient(self) -> None:
        """Wait until all has ended: nothing may be left over then."""
        with trio.fail_after(1000):
            for run in self.orchestrator.registry:
                await run.wait()
        engine = self.orchestrator._engine
        assert self.orchestrator.queue == (0, 0, 0, 0.0)
        assert engine.admission._counts.total() == 0
        assert not engine._by_key
        services = self.orchestrator._services
        # The journal has one of its own, which looks at the store.
        none = (None, services.journal._look_whether_stalled)
        assert [alarm for alarm in services.timers._heap if alarm.ring not in none] == []

    def waits(self, run: Run) -> bool:
        return self.orchestrator._engine.waits(run)

    def start(self, name: str, options: dict[str, Any]) -> None:
        given = {"seconds": options.pop("seconds")}
        del options["agent"]
        owner = options.pop("owner", "")
        key, on_conflict = options.pop("keyed", (None, "allow"))
        if key is not None:
            options |= {"key": key, "on_conflict": on_conflict}
        before = len(self.orchestrator.registry)
        try:
            self.orchestrator.admit(name, given, options=options, owner=owner)
        except QueueFull:
            figures = self.orchestrator.queue
            assert figures.waiting + figures.delayed >= MAX_QUEUED
            assert len(self.orchestrator.registry) == before
        except KeyConflict as conflict:
            rival = self.orchestrator.live(conflict.run_id)
            assert rival is not None
            assert (rival.record.owner, rival.record.options.key) == (owner, key)

    def check(self) -> None:
        live, figures = list(self.orchestrator.registry), self.orchestrator.queue
        waiting = [run for run in live if self.waits(run)]
        taken = set(self.orchestrator._engine.admission._running)
        assert figures.waiting + figures.delayed == len(waiting)
        assert figures.running == len(taken) <= MAX_RUNNING
        assert taken <= {run.id for run in live if run not in waiting}
        # What has no slot and does not wait was stopped before it had one.
        others = [run for run in live if run.id not in taken and run not in waiting]
        assert all(run.record.status.is_terminal and not run.record.started_at for run in others)
        assert {run.record.status for run in waiting} <= {RunStatus.QUEUED}
        assert self._all_have_a_reason_to_wait(waiting)

    def _all_have_a_reason_to_wait(self, waiting: list[Run]) -> bool:
        admission = self.orchestrator._engine.admission
        running = [run for run in self.orchestrator.registry if run.id in admission._running]
        keys = [(run.record.owner, run.record.options.key) for run in running]
        crowded = sum(run.agent.name == "narrow" for run in running) >= NARROW
        return all(
            len(running) >= MAX_RUNNING
            or (run.agent.name == "narrow" and crowded)
            or (run.record.owner, run.record.options.key) in keys
            for run in waiting
            if admission.is_waiting(run.id)
        )


def play(deeds: list[Any]) -> None:
    inside.clear()
    began.clear()
    trio.run(Story().play, deeds, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(DEEDS, min_size=4, max_size=25))
def test_slots_keys_and_bounds_hold_whatever_happens(deeds: list[Any]) -> None:
    play(deeds)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.lists(DEEDS, min_size=10, max_size=50))
def test_slots_keys_and_bounds_hold_whatever_happens_for_long(deeds: list[Any]) -> None:
    play(deeds)

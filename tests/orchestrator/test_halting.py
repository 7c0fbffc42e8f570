"""A halt stops everything, refuses starts, and is still on after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from orchestrator import (
    Context,
    Halted,
    InvalidInput,
    Orchestrator,
    RunStatus,
    StartsRefused,
    StopMode,
    StopSource,
    StoreUnavailable,
    agent,
)
from orchestrator.testing import until
from tests.orchestrator.admission.lives import Machine, began, nap

if TYPE_CHECKING:
    from trio.testing import MockClock


@agent
async def busy(ctx: Context) -> None:
    """Be in one long operation."""
    async with ctx.operation("work"):
        await trio.sleep(1000)


@pytest.fixture
def machine() -> Machine:
    began.clear()
    return Machine()


async def test_everything_is_stopped_and_nothing_starts_until_it_is_lifted(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life(max_running=1) as orchestrator:
        runs = [await orchestrator.start(nap, {"name": name}) for name in ("a", "b")]
        runs.append(await orchestrator.start(nap, start_after_s=60))
        await until(runs[0], "running")
        assert orchestrator.halted is None

        halt = await orchestrator.halt(reason="fire", requested_by="ada")

        assert orchestrator.halted == halt
        assert (halt.reason, halt.requested_by, halt.mode) == ("fire", "ada", StopMode.GRACEFUL)
        for run in runs:
            assert run.record.status is RunStatus.STOPPED
            assert run.record.stop is not None
            assert run.record.stop.source is StopSource.HALT
            assert (run.record.stop.reason, run.record.stop.requested_by) == ("fire", "ada")
        for start in (orchestrator.start(nap), orchestrator.rerun(runs[0].id)):
            with pytest.raises(Halted, match="everything is halted: fire"):
                await start
        await orchestrator.lift()
        assert orchestrator.halted is None
        assert (await (await orchestrator.start(nap)).wait()).status is RunStatus.SUCCEEDED
        await orchestrator.lift()


async def test_a_halt_is_a_refusal_of_starts() -> None:
    assert issubclass(Halted, StartsRefused)


async def test_a_second_halt_tightens_the_stops_and_the_first_stays_on_record(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        run = await orchestrator.start(busy)
        await until(run, "running")
        first = orchestrator.request_halt(grace_s=20, reason="first")
        second = orchestrator.request_halt(mode="now", reason="second")
        assert first < second
        await orchestrator.durable(second)
        assert orchestrator.halted is not None
        assert orchestrator.halted.reason == "first"
        record = await run.wait()
        assert record.stop is not None
        assert (record.stop.mode, record.stop.reason) == (StopMode.NOW, "first")
        assert [also.reason for also in record.stop.also] == ["second"]


@pytest.mark.parametrize(
    ("asked", "field"), [({"mode": "gently"}, "mode"), ({"reason": "\ud800"}, "reason")]
)
async def test_a_halt_that_makes_no_sense_halts_nothing(
    orchestrator: Orchestrator, autojump_clock: MockClock, asked: dict[str, str], field: str
) -> None:
    run = await orchestrator.start(nap)
    with pytest.raises(InvalidInput, match=field):
        await orchestrator.halt(**asked)  # type: ignore[arg-type]
    assert run.record.stop is None
    await orchestrator.start(nap)


@pytest.mark.parametrize("crash", [False, True], ids=["in good order", "crash"])
async def test_a_halt_is_on_after_a_restart(
    machine: Machine, autojump_clock: MockClock, crash: bool
) -> None:
    async with machine.life(crash=crash) as orchestrator:
        await orchestrator.halt(reason="fire")
    for _ in range(2):
        async with machine.life() as orchestrator:
            assert orchestrator.halted is not None
            assert orchestrator.halted.reason == "fire"
            with pytest.raises(Halted):
                await orchestrator.start(nap)
    async with machine.life(crash=crash) as orchestrator:
        await orchestrator.lift()
    async with machine.life() as orchestrator:
        assert orchestrator.halted is None
        await orchestrator.start(nap)


async def test_runs_that_a_crash_left_over_are_stopped_by_the_halt_and_never_restarted(
    machine: Machine, autojump_clock: MockClock
) -> None:
    """The crash comes when the halt is durable, and none of the stops is."""
    async with machine.life(max_running=2, crash=True) as orchestrator:
        runs = [
            await orchestrator.start(nap, {"name": "again"}, on_crash="restart"),
            await orchestrator.start(nap, {"name": "lost"}),
            await orchestrator.start(nap, {"name": "queued"}),
            await orchestrator.start(nap, {"name": "delayed"}, start_after_s=60),
        ]
        for run in runs[:2]:
            await until(run, "running")
        stop_all, orchestrator.stop_all = orchestrator.stop_all, lambda **_: None  # type: ignore[method-assign]
        await orchestrator.durable(orchestrator.request_halt(mode="now", reason="fire"))
        orchestrator.stop_all = stop_all  # type: ignore[method-assign]
    assert sorted(began) == ["again", "lost"]
    async with machine.life(max_running=2) as orchestrator:
        assert len(orchestrator.registry) == 0
        for run in runs:
            record = await orchestrator.get(run.id)
            assert record.status is RunStatus.STOPPED
            assert record.stop is not None
            assert record.stop.source is StopSource.HALT
            assert (record.stop.mode, record.stop.reason) == (StopMode.NOW, "fire")
            assert record.stop.previous_status in (RunStatus.RUNNING, RunStatus.QUEUED)
        await trio.sleep(100)
    assert sorted(began) == ["again", "lost"]


async def test_a_halt_that_is_not_durable_is_carried_out_and_not_shown(
    machine: Machine, autojump_clock: MockClock
) -> None:
    async with machine.life() as orchestrator:
        run = await orchestrator.start(nap)
        await until(run, "running")
        machine.disk.broken_until = trio.current_time() + 5
        with pytest.raises(StoreUnavailable):
            await orchestrator.halt()
        assert run.record.status is RunStatus.STOPPED or run.record.stop is not None
        assert orchestrator.halted is None
        with pytest.raises(Halted):
            await orchestrator.start(nap)
        await run.wait()
        assert trio.current_time() >= 5
        assert orchestrator.halted is not None


async def test_a_start_and_a_halt_in_one_turn(machine: Machine, autojump_clock: MockClock) -> None:
    """Interleaving: the halt comes between a start and the first step of its run."""
    async with machine.life() as orchestrator:
        run = orchestrator.admit(nap, {"name": "never"})
        await orchestrator.halt()
        assert run.record.status is RunStatus.STOPPED
    assert began == []

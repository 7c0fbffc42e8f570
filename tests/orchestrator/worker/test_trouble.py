"""Receipts are true of processes, also when the warden is stopped, hangs or dies meanwhile."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Orchestrator, Run, RunStatus, StopMode
from orchestrator.worker import process
from orchestrator.worker.lifeline import Lifeline
from tests.orchestrator.worker.running import BOUND_S, begun, messages, stopped
from tests.orchestrator.worker.seen import exists
from tests.orchestrator.worker.troubling import busy, obedient, parent, stubborn, vanishing

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator import Agent

pytestmark = pytest.mark.slow


async def started(
    orchestrator: Orchestrator, agent: Agent, *, cleanup_s: float = 1, **input: Any
) -> tuple[Run, int, int]:
    """Start one; return the run, its process and its warden."""
    run = await begun(orchestrator, agent, input, cleanup_s=cleanup_s)
    told = await processes(orchestrator, run)
    return run, told["pid"], told["warden"]


async def processes(orchestrator: Orchestrator, run: Run) -> dict[str, int]:
    """Return what the run has told of its processes."""
    events = await orchestrator.store.events(run.id, after=0, limit=100)
    return next(event.data for event in events if event.type == "process.told")


async def test_what_a_kill_has_ended_was_killed_and_what_has_exited_was_not(
    orchestrator: Orchestrator,
) -> None:
    """SIGTERM is a part of the kill; whoever handles it exits by itself."""
    with trio.fail_after(BOUND_S):
        run, pid, _ = await started(orchestrator, parent)
        told = await processes(orchestrator, run)

        receipt = await stopped(run, mode="kill")

        assert receipt.reached is StopMode.KILL
        assert set(receipt.killed_pids) - {pid} == {told["dies of it"], told["ignores it"]}


async def test_what_dies_by_itself_in_a_stop_is_not_killed_and_says_what_is_not_done(
    orchestrator: Orchestrator,
) -> None:
    crash = "was ended by SIGSEGV (segmentation fault)"
    ends = {
        "exits": ("exited with code 7", "1 compensation was"),
        "crashes": (crash, "1 compensation was"),
        "in a compensation": ("exited with code 7", "2 compensations were"),
    }
    with trio.fail_after(BOUND_S):
        for how, (words, undone) in ends.items():
            run, _, _ = await started(orchestrator, vanishing, cleanup_s=20, how=how)
            receipt = await stopped(run)
            assert (receipt.reached, receipt.processes_killed) == (StopMode.GRACEFUL, 0), how
            assert receipt.cleanup_errors == (
                f"its process ended before its code did: {words}",
                f"{undone} not done: the process ended",
            ), how


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warden that is stopped does not go on, as if the kernel held it."""
    monkeypatch.setattr(Lifeline, "wake", lambda self: None)
    monkeypatch.setattr(process, "PATIENCE_S", 0.6)


async def test_one_that_stops_its_warden_is_ended_and_nobody_beside_it(
    orchestrator: Orchestrator,
) -> None:
    with trio.fail_after(BOUND_S):
        aside, _, _ = await started(orchestrator, obedient)
        run, pid, warden = await started(orchestrator, stubborn, stops_warden=True)

        receipt = await stopped(run, mode="now")

        assert (receipt.reached, receipt.killed_pids) == (StopMode.KILL, (pid,))
        assert not exists(f"/proc/{pid}")
        assert exists(f"/proc/{warden}")
        # And more can be started.
        later, _, its = await started(orchestrator, obedient)
        assert its == warden
        for other in (aside, later):
            assert (await stopped(other)).reached is StopMode.GRACEFUL


async def test_a_start_wakes_a_warden_that_was_stopped(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run, _, warden = await started(orchestrator, obedient)
        os.kill(warden, signal.SIGSTOP)
        later, _, its = await started(orchestrator, obedient)
        assert its == warden
        for each in (run, later):
            await stopped(each)


@pytest.mark.usefixtures("hanging")
async def test_what_dies_with_a_warden_that_hangs_was_killed(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        aside, _, warden = await started(orchestrator, obedient)
        run, pid, _ = await started(orchestrator, stubborn)
        os.kill(warden, signal.SIGSTOP)

        receipt = await stopped(run, mode="now")

        assert (receipt.reached, receipt.processes_killed) == (StopMode.KILL, 1)
        assert receipt.killed_pids == (pid,)
        assert not exists(f"/proc/{pid}")
        assert not exists(f"/proc/{warden}")
        record = await aside.wait()
        assert (record.status, record.stop) == (RunStatus.FAILED, None)
        assert record.error is not None
        assert "died with its warden" in record.error.message
        later, _, its = await started(orchestrator, obedient)
        assert its != warden
        await stopped(later)


@pytest.mark.usefixtures("hanging")
async def test_what_has_ended_by_itself_was_not_killed(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run, pid, warden = await started(orchestrator, obedient)
        os.kill(warden, signal.SIGSTOP)

        receipt = await stopped(run)

        assert (receipt.reached, receipt.processes_killed) == (StopMode.GRACEFUL, 0)
        assert "cleaned up" in await messages(orchestrator, run)
        for words in receipt.cleanup_errors:
            assert "has done its work, and is not yet seen to be gone" in words
        assert not exists(f"/proc/{pid}")


async def test_what_dies_with_its_warden_in_the_middle_of_a_stop_was_killed(
    orchestrator: Orchestrator,
) -> None:
    with trio.fail_after(BOUND_S):
        run, pid, warden = await started(orchestrator, stubborn)
        run.request_stop(mode="graceful", grace_s=30)
        while run.status != RunStatus.STOPPING:
            await trio.sleep(0.01)
        os.kill(warden, signal.SIGKILL)

        receipt = await stopped(run, mode="graceful")

        assert (receipt.reached, receipt.killed_pids) == (StopMode.KILL, (pid,))
        assert not exists(f"/proc/{pid}")


@pytest.mark.usefixtures("hanging")
async def test_what_was_dead_when_its_warden_was_ended_was_killed_all_the_same(
    orchestrator: Orchestrator,
) -> None:
    with trio.fail_after(BOUND_S):
        run, pid, warden = await started(orchestrator, stubborn)
        os.kill(warden, signal.SIGSTOP)
        run.request_stop(mode="now")
        os.kill(pid, signal.SIGKILL)

        receipt = await stopped(run, mode="now")

        assert (receipt.reached, receipt.killed_pids) == (StopMode.KILL, (pid,))


@pytest.mark.parametrize("effect", [True, False])
async def test_a_critical_section_that_begins_after_the_stop_holds_nothing_back(
    orchestrator: Orchestrator, tmp_path: Path, effect: bool
) -> None:
    """The worker is too busy to hear of the stop; it has been acknowledged all the same."""
    with trio.fail_after(BOUND_S):
        given = {"folder": str(tmp_path), "effect": effect}
        run = await begun(orchestrator, busy, given, cleanup_s=1)
        run.request_stop(mode="now")
        await orchestrator.durable(run.ticket)
        (tmp_path / "acknowledged").touch()

        receipt = await stopped(run)

        assert not exists(tmp_path / "effect")
        assert receipt.operations.refused == effect
        assert receipt.critical_s == 0
        assert receipt.reached is (StopMode.GRACEFUL if effect else StopMode.NOW)


async def test_a_critical_section_that_begins_after_the_pause_waits_with_it(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    with trio.fail_after(BOUND_S):
        run = await begun(orchestrator, busy, {"folder": str(tmp_path), "effect": True})
        run.request_pause()
        await orchestrator.durable(run.ticket)
        assert run.status is RunStatus.PAUSED
        (tmp_path / "acknowledged").touch()

        # Its place at the gate is the end of what it does while it is paused.
        while not run.gate.has_parked and not exists(tmp_path / "effect"):
            await trio.sleep(0.01)
        assert not exists(tmp_path / "effect")

        run.request_resume()
        while not exists(tmp_path / "effect"):
            await trio.sleep(0.01)
        await run.stop(mode="kill")

"""How a command is stopped: SIGINT, SIGTERM, SIGKILL, and nothing is left in /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import (
    Context,
    Orchestrator,
    RunStatus,
    StopMode,
    StopOutcome,
    StoreUnavailable,
    agent,
)
from orchestrator.agents.command import command
from orchestrator.store.memory import MemoryStore
from tests.orchestrator.agents.commanding import BOUND_S, alive, begun, finished, lines, told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.store.writes import Write

LOOP = "while :; do sleep 0.02; done"


@pytest.fixture(params=["task", "process"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Where the agent runs."""
    kind: str = request.param
    return kind


async def stopped(run: Any, **request: Any) -> Any:
    with trio.fail_after(BOUND_S):
        receipt = await run.stop(**request)
    assert run.status == RunStatus.STOPPED
    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.cleanup_errors == ()
    assert receipt.still_running == ()
    assert alive(run.id) == []
    return receipt


async def signals(orchestrator: Orchestrator, run: Any) -> list[str]:
    return [data["signal"] for data in await told(orchestrator, run.id, "command.signalled")]


async def test_a_graceful_stop_interrupts_it_and_lets_it_clean_up(
    orchestrator: Orchestrator, isolation: str
) -> None:
    script = f"trap 'sleep 0.3; echo cleaned up; exit 7' INT; echo ready; {LOOP}"
    run = await begun(orchestrator, script, isolation=isolation)
    receipt = await stopped(run)
    assert receipt.reached is StopMode.GRACEFUL
    assert receipt.operations.finished == 1
    assert receipt.error is None
    assert ("info", "cleaned up") in await lines(orchestrator, run.id)
    assert await signals(orchestrator, run) == ["SIGINT"]
    assert (await orchestrator.partial(run.id))["exit_code"] == 7


async def test_it_may_finish_its_work_within_the_grace(orchestrator: Orchestrator) -> None:
    script = "trap '' INT; echo ready; sleep 0.5; echo done"
    run = await begun(orchestrator, script)
    receipt = await stopped(run, grace_s=20)
    assert receipt.reached is StopMode.GRACEFUL
    assert ("info", "done") in await lines(orchestrator, run.id)


async def test_one_that_ignores_it_gets_sigterm_when_the_grace_is_over(
    orchestrator: Orchestrator, isolation: str
) -> None:
    script = f"trap '' INT; trap 'sleep 0.3; echo cleaned up; exit 0' TERM; echo ready; {LOOP}"
    run = await begun(orchestrator, script, isolation=isolation)
    receipt = await stopped(run, grace_s=0.3)
    assert receipt.reached is StopMode.NOW
    assert receipt.operations.cut == 1
    assert receipt.processes_killed == 0
    assert await signals(orchestrator, run) == ["SIGINT", "SIGTERM"]
    assert ("info", "cleaned up") in await lines(orchestrator, run.id)


@pytest.mark.slow
async def test_one_that_ignores_that_too_is_killed_at_the_end_of_the_cleanup_time(
    orchestrator: Orchestrator, isolation: str
) -> None:
    script = f"trap '' INT TERM; echo ready; {LOOP}"
    run = await begun(orchestrator, script, isolation=isolation, cleanup_s=1)
    receipt = await stopped(run, grace_s=0.2)
    assert 0.7 < receipt.seconds < 3
    assert await signals(orchestrator, run) == ["SIGINT", "SIGTERM"]
    (ending,) = await told(orchestrator, run.id, "command.exited")
    assert ending["signal"] == "SIGKILL"
    assert receipt.reached is StopMode.KILL
    assert receipt.processes_killed >= 1


async def test_a_stop_now_begins_with_sigterm(orchestrator: Orchestrator, isolation: str) -> None:
    script = f"trap 'echo interrupted' INT; trap 'echo ended; exit 0' TERM; echo ready; {LOOP}"
    run = await begun(orchestrator, script, isolation=isolation)
    receipt = await stopped(run, mode="now")
    assert receipt.reached is StopMode.NOW
    assert await signals(orchestrator, run) == ["SIGTERM"]
    said = await lines(orchestrator, run.id)
    assert [text for level, text in said if level == "info"] == ["ready", "ended"]


async def test_a_kill_waits_for_nothing(orchestrator: Orchestrator, isolation: str) -> None:
    run = await begun(orchestrator, f"trap '' INT TERM; echo ready; {LOOP}", isolation=isolation)
    receipt = await stopped(run, mode="kill")
    assert receipt.seconds < 2


async def test_each_rung_can_be_taken_before_its_time(
    orchestrator: Orchestrator, isolation: str
) -> None:
    script = f"trap '' INT TERM; echo ready; {LOOP}"
    run = await begun(orchestrator, script, isolation=isolation, cleanup_s=100)
    with trio.fail_after(BOUND_S):
        run.request_stop(grace_s=100)
        await until_told(orchestrator, run, "SIGINT")
        run.request_stop(mode="now")
        await until_told(orchestrator, run, "SIGTERM")
        assert alive(run.id) != []
    receipt = await stopped(run, mode="kill")
    assert receipt.seconds < 20
    assert await signals(orchestrator, run) == ["SIGINT", "SIGTERM"]


async def until_told(orchestrator: Orchestrator, run: Any, name: str) -> None:
    async for event in await orchestrator.events(run.id):
        if event.type == "command.signalled" and event.data["signal"] == name:
            return


def ids(of: Callable[[int], int], pids: list[int]) -> set[int]:
    """Return the groups or sessions of those that still exist."""
    found = set()
    for pid in pids:
        with suppress(ProcessLookupError):
            found.add(of(pid))
    return found


@pytest.mark.slow
async def test_everything_that_it_has_started_is_stopped_with_it(
    orchestrator: Orchestrator, isolation: str
) -> None:
    deaf = f"sh -c \"trap '' INT TERM; {LOOP}\""
    # With `set -m` each job has a process group of its own, as in an interactive shell.
    script = f"set -m; {deaf} & {deaf} & (sleep 1000; :) & sleep 0.3; echo ready; wait"
    run = await begun(orchestrator, script, "bash", isolation=isolation, cleanup_s=1)
    assert len(ids(os.getpgid, alive(run.id))) >= 4
    await stopped(run, grace_s=0.1)


@pytest.mark.slow
async def test_what_makes_a_session_for_itself_is_ended_with_its_run_s_own_process(
    orchestrator: Orchestrator,
) -> None:
    script = f"setsid sh -c 'trap \"\" INT TERM; {LOOP}' & sleep 0.3; echo ready; wait"
    run = await begun(orchestrator, script, isolation="process")
    assert len(ids(os.getsid, alive(run.id))) == 2
    receipt = await stopped(run, mode="now")
    assert receipt.processes_killed >= 1


@pytest.mark.slow
async def test_a_flood_can_be_stopped(orchestrator: Orchestrator, isolation: str) -> None:
    run = await begun(orchestrator, "echo ready; exec yes", isolation=isolation)
    receipt = await stopped(run)
    assert receipt.reached is StopMode.GRACEFUL
    assert receipt.seconds < 10


async def refuse(self: MemoryStore, batch: Sequence[Write], *told: object) -> None:
    await trio.lowlevel.checkpoint()
    raise StoreUnavailable("the disk is full")


async def test_a_stop_works_while_the_store_does_not(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.journal.ROOM", 100)
    run = await begun(orchestrator, "echo ready; exec seq 100000000", cleanup_s=1)
    with monkeypatch.context() as patch, trio.fail_after(BOUND_S):
        patch.setattr(MemoryStore, "write", refuse)
        # It is held back: what it says fills the pipe, since nobody can take it.
        while not waits_for_a_pipe(alive(run.id)):
            await trio.sleep(0.01)
        assert len(orchestrator._services.journal._pending) < 120
        run.request_stop(grace_s=0.1)
        await run.exited.wait()
        assert alive(run.id) == []
    with trio.fail_after(BOUND_S):
        assert (await run.wait()).status is RunStatus.STOPPED


def waits_for_a_pipe(pids: list[int]) -> bool:
    (pid,) = pids
    return "pipe" in Path(f"/proc/{pid}/wchan").read_text()


@agent
async def caller(ctx: Context, script: str) -> Any:
    """Has a command as a sub-agent."""
    return await ctx.call(command, argv=["sh", "-c", script])


async def test_a_command_is_stopped_with_the_run_that_called_it(
    orchestrator: Orchestrator,
) -> None:
    script = f"trap 'echo cleaned up; exit 0' INT; echo ready; {LOOP}"
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(caller, {"script": script})
        async for event in await orchestrator.events(run.id):
            if event.data.get("message") == "ready":
                child = event.run_id
                break
        receipt = await run.stop()
    assert receipt.runs_stopped == 2
    assert alive(child) == []
    assert ("info", "cleaned up") in await lines(orchestrator, run.id)


async def test_a_failure_of_a_sub_agent_is_that_of_the_command(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(caller, {"script": "echo no >&2; exit 3"})
        record = await run.wait()
    assert record.error is not None
    assert record.error.message == (
        "sub-agent command failed: CommandFailed: sh exited with code 3;"
        " it said last on stderr:\nno"
    )


async def test_a_deadline_ends_it_too(orchestrator: Orchestrator, isolation: str) -> None:
    script = f"trap '' INT; echo ready; {LOOP}"
    run = await begun(orchestrator, script, isolation=isolation, grace_s=0.2)
    with trio.fail_after(BOUND_S):
        run.move_deadline(0.1)
        assert (await run.wait()).status is RunStatus.TIMED_OUT
    assert alive(run.id) == []


async def test_what_cannot_be_ended_is_not_called_stopped(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await begun(orchestrator, "echo ready; exec sleep 1000", cleanup_s=0.3)
    with monkeypatch.context() as patch, trio.fail_after(BOUND_S):
        # As for a process that is stuck in the kernel, or that belongs to another user.
        patch.setattr("os.killpg", lambda group, number: None)
        receipt = await run.stop(mode="now")
        assert receipt.outcome is StopOutcome.ABANDONED
        assert receipt.still_running != ()
        assert len(alive(run.id)) == 1
    with trio.fail_after(BOUND_S):
        await run.exited.wait()
    assert alive(run.id) == []


async def test_ten_stops_at_once(orchestrator: Orchestrator) -> None:
    runs = [await begun(orchestrator, f"trap 'exit 0' INT; echo ready; {LOOP}") for _ in range(10)]
    async with trio.open_nursery() as nursery:
        for run in runs:
            nursery.start_soon(stopped, run)


async def test_nothing_of_ours_stays_open(orchestrator: Orchestrator) -> None:
    await finished(orchestrator, "true")
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await finished(orchestrator, "sh", "-c", "exit 1", stdin="x")
        await finished(orchestrator, "nosuch", stdin="x")
    run = await begun(orchestrator, f"trap '' INT TERM; echo ready; {LOOP}")
    await stopped(run, mode="kill")
    assert set(os.listdir("/proc/self/fd")) == before

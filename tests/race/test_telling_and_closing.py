"""Corners of telling, killing, closing and recovering."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.lowlevel

from orchestrator import Context, RunId, RunRecord, RunStatus, StopMode, agent, open_orchestrator
from orchestrator.events import Event
from orchestrator.model import StopRequest, StopSource
from orchestrator.stopping import Stop
from orchestrator.store import AppendEvent, SaveRun, Write, open_store
from tests.race.isolated import alone

pytestmark = pytest.mark.slow


async def killed_and_compensated() -> list[Any]:
    ran: list[str] = []

    async def refund() -> None:
        await trio.sleep(0.3)
        ran.append("refunded")

    @agent
    async def buyer(ctx: Context) -> None:
        ctx.on_stop(refund)
        ctx.on_stop(refund)
        await ctx.sleep(1000)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(buyer)
        await trio.sleep(1)
        receipt = await run.stop(mode="kill")
        return [run.status, ran, list(receipt.cleanup_errors)]


def test_a_kill_leaves_each_compensation_its_half_second() -> None:
    """It says itself that a step has 0.5 s then; it must not be revoked as it begins."""
    assert alone(killed_and_compensated) == ["stopped", ["refunded", "refunded"], []]


async def abandoned_in_a_telling_loop(what: str) -> str:
    @agent
    async def talker(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            while not release.is_set():
                match what:
                    case "progress":
                        await ctx.progress(1)
                    case "log":
                        await ctx.log("x")
                    case "emit":
                        await ctx.emit("a.b")
                    case "partial":
                        await ctx.partial(1)
                    case _:
                        await ctx.artifact("x", b"")

    release = trio.Event()
    async with open_orchestrator() as orchestrator:
        for _ in range(3):  # each with another number of events behind it
            release = trio.Event()
            run = await orchestrator.start(talker)
            await trio.sleep(0.05)
            await run.stop(mode="kill")
            await trio.sleep(0.05)
            release.set()
            await run.exited.wait()
    return run.status


@pytest.mark.parametrize("what", ["progress", "log", "emit", "partial", "artifact"])
def test_a_loop_that_only_tells_does_not_freeze_the_others(what: str) -> None:
    """Events of an abandoned run are refused, so the journal grows no more; the calls must let
    others run all the same."""
    assert alone(abandoned_in_a_telling_loop, what, virtual=False) == "abandoned"


async def busy_with_partials() -> float:
    big = list(range(300_000))

    @agent
    async def reporter(ctx: Context) -> None:
        while True:
            await ctx.partial(big)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(reporter)
        await trio.lowlevel.checkpoint()
        worst, end = 0.0, trio.current_time() + 3
        while trio.current_time() < end:
            before = trio.current_time()
            await trio.sleep(0.001)
            worst = max(worst, trio.current_time() - before)
        await run.stop(mode="now")
    return worst


def test_a_loop_of_partials_lets_others_run() -> None:
    """Encoding takes a few ms, once in a while; the loop is never held for much longer."""
    assert alone(busy_with_partials, virtual=False) < 0.5


async def exits_late_with_stuck_compensations() -> list[Any]:
    release, over = trio.Event(), trio.Event()

    async def stuck() -> None:
        release.set()
        with trio.CancelScope(shield=True):
            await over.wait()

    @agent
    async def shielder(ctx: Context) -> None:
        for _ in range(3):
            ctx.on_stop(stuck)
        with trio.CancelScope(shield=True):
            await release.wait()

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(shielder)
        await trio.sleep(1)
        run.request_stop(mode="now")
        with trio.move_on_after(120):
            await run.wait()
        status = run.status
        over.set()
    return [status]


def test_stuck_compensations_of_code_that_exits_while_let_go_do_not_hang_it() -> None:
    """Interleaving: the code exits while its compensations run, each of which never ends."""
    assert alone(exits_late_with_stuck_compensations)[0] in ("abandoned", "stopped")


INTERRUPTED = """
import trio
from orchestrator import Context, agent, open_orchestrator

@agent
async def cleaning(ctx: Context) -> None:
    try:
        await ctx.sleep(1000)
    finally:
        with ctx.cleanup():
            await trio.sleep(2)

async def main():
    async with open_orchestrator() as orchestrator:
        await orchestrator.start(cleaning)
        await trio.sleep(0.1)
        print("ready", flush=True)
        await trio.sleep_forever()

trio.run(main)
"""


@pytest.mark.parametrize("times", [1, 2, 3])
def test_control_c_twice_ends_an_embedding_program(times: int) -> None:
    """Interleaving: the second one comes while the orchestrator closes."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    try:
        _, err = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError("it hangs") from None
    assert "KeyboardInterrupt" in err
    assert process.returncode != 0


async def recovered_receipts(url: str) -> list[Any]:
    at = "2026-01-01T00:00:00.000Z"
    request = StopRequest(
        mode=StopMode.GRACEFUL,
        grace_s=30,
        source=StopSource.USER,
        requested_by="ada",
        requested_at=at,
    )
    root_id = RunId("run_root")
    stop = Stop(
        request=request, previous_status=RunStatus.RUNNING, until=0, runs_stopped=2, began=0
    )
    root = RunRecord(
        id=root_id,
        root_id=root_id,
        agent="x",
        status=RunStatus.STOPPING,
        created_at=at,
        stop=stop.receipt(),
    )
    child = RunRecord(
        id=RunId("run_child"),
        root_id=root_id,
        parent_id=root_id,
        agent="x",
        status=RunStatus.RUNNING,
        created_at=at,
    )
    async with open_store(url) as store:
        writes: list[Write] = []
        for seq, record in enumerate((root, child), 1):
            data = {"agent": "x", "parent_id": record.parent_id}
            event = Event(seq, record.id, root_id, "run.queued", at, data)
            writes += [SaveRun(record), AppendEvent(event)]
        await store.write(writes)
    async with open_orchestrator(url) as orchestrator:
        records = [await orchestrator.get(each) for each in ("run_root", "run_child")]
        return [
            [r.status, r.stop is not None, r.stop and r.stop.seconds is not None] for r in records
        ]


def test_a_recovered_stop_has_a_whole_receipt(tmp_path: Any) -> None:
    """Whatever ends `stopped` has a receipt, and a settled one says how long it took."""
    found = alone(recovered_receipts, f"sqlite:///{tmp_path}/x.db", virtual=False)
    assert found == [["stopped", True, True], ["stopped", True, True]]


async def cancelled_while_it_closes() -> float:
    @agent
    async def long(ctx: Context) -> None:
        async with ctx.operation("op"):
            await trio.sleep(1000)

    with trio.move_on_after(3):
        async with open_orchestrator() as orchestrator:
            await orchestrator.start(long)
            await trio.sleep(1)
    return trio.current_time()


def test_a_cancellation_while_it_closes_gracefully_hurries() -> None:
    """Left normally, with 30 s of grace, and cancelled from outside two seconds later."""
    assert alone(cancelled_while_it_closes) < 15

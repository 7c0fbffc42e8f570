"""Worker processes: how fast they start and end, and what one of them costs in memory.

The floor of a start and an end is the least that a process can be: ``/bin/true``, forked and
executed by this program, until it has exited.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from orchestrator import StopMode, agent, open_orchestrator
from orchestrator.worker import Warden, WorkerSpec, open_warden
from tests.bench.measure import Effort, in_turns
from tests.bench.processes import ROOT
from tests.bench.report import Figure

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from orchestrator import Agent, AsyncioContext, Orchestrator, SyncContext

# Imported by a warden, it makes forking unsafe there.
_THREADED = "tests.orchestrator.worker.threaded"
_SPEC = WorkerSpec(entry="tests.bench.workers:idle")
# Workers that live at the same time when their memory is measured.
_TOGETHER = 8


def idle(control: socket.socket, argument: Any) -> None:
    """Say one byte and do nothing; the entry of the workers here."""
    control.sendall(b"!")
    time.sleep(1000)


@agent
def blocking(ctx: SyncContext) -> None:
    """Say which process it is, and block."""
    ctx.log(str(os.getpid()))
    time.sleep(1000)


@agent(runtime="asyncio")
async def waiting(ctx: AsyncioContext) -> None:
    """Say which process it is, and wait."""
    await ctx.log(str(os.getpid()))
    await ctx.sleep(1000)


async def bench_workers(effort: Effort) -> list[Figure]:
    """Start a worker until its first byte, forked and spawned, and kill it until it is gone."""
    async with (
        open_warden(preload=[__name__]) as forking,
        open_warden(preload=[_THREADED]) as spawning,
    ):
        await forking.ready()
        await spawning.ready()
        assert forking.forks
        assert not spawning.forks
        measures: dict[str, Callable[[], Awaitable[tuple[float, float]]]] = {
            "bare": _bare,
            "forked": partial(_lived, forking),
            "spawned": partial(_lived, spawning),
        }
        taken = await in_turns(effort.times(40), measures)
        memory = await _memory(forking)
    figures = []
    for kind in ("forked", "spawned"):
        for place, name, beside in (
            (0, "worker to its first byte", "fork, exec /bin/true, wait"),
            (1, "kill to gone", "kill, wait for /bin/sleep"),
        ):
            ours = [each[place] for each in taken[kind]]
            floor = [each[place] for each in taken["bare"]]
            figures.append(Figure(f"{name}, {kind}", "ms", ours, beside, floor))
    bare = [_bare_python_mib()]
    name = "private memory of an idle worker, forked"
    return [
        *figures,
        Figure(name, "MiB", memory, "a bare Python", bare),
        *await _runs(effort, bare),
    ]


async def _runs(effort: Effort, bare: list[float]) -> list[Figure]:
    """Start runs in processes of their own until their first event, and stop them."""
    async with open_orchestrator() as orchestrator:
        measures: dict[str, Callable[[], Awaitable[tuple[float, float, float]]]] = {
            "a plain function": partial(_run, orchestrator, blocking),
            "an asyncio agent": partial(_run, orchestrator, waiting),
        }
        # The first one starts the warden.
        await _run(orchestrator, blocking)
        taken = await in_turns(effort.times(20), {**measures, "bare": _bare_run})
    return [
        Figure(f"{name}, {kind}", unit, [each[place] for each in taken[kind]], beside, floor)
        for kind in measures
        for place, name, unit, beside, floor in (
            (0, "run to its first event", "ms", "fork, exec /bin/true, wait", _all(taken, 0)),
            (1, "stop to process gone", "ms", "kill, wait for /bin/sleep", _all(taken, 1)),
            (2, "private memory", "MiB", "a bare Python", bare),
        )
    ]


def _all(taken: dict[str, list[tuple[float, float, float]]], place: int) -> list[float]:
    return [each[place] for each in taken["bare"]]


async def _run(orchestrator: Orchestrator, which: Agent) -> tuple[float, float, float]:
    """Return what the start and the stop of a run take in ms, and its private memory in MiB."""
    began = time.monotonic()
    run = await orchestrator.start(which)
    async for event in await orchestrator.events(run.id):
        if event.type == "run.log":
            break
    started = time.monotonic()
    memory = _private_mib(pid := int(event.data["message"]))
    stopping = time.monotonic()
    receipt = await run.stop()
    ended = time.monotonic()
    assert receipt.reached is StopMode.GRACEFUL
    assert _is_gone(pid)
    return (started - began) * 1e3, (ended - stopping) * 1e3, memory


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def _bare_run() -> tuple[float, float, float]:
    return *_bare_life(), 0.0


async def _lived(warden: Warden) -> tuple[float, float]:
    """Return what a worker's start and its end took, in milliseconds."""
    began = time.monotonic()
    async with await warden.start(_SPEC) as worker:
        assert await worker.control.receive_some() == b"!"
        started = time.monotonic()
        assert await worker.kill() == (worker.pid,)
        return (started - began) * 1e3, (time.monotonic() - started) * 1e3


async def _bare() -> tuple[float, float]:
    return _bare_life()


def _bare_life() -> tuple[float, float]:
    """Return what two programs that do nothing take: one to run, the other to be killed."""
    began = time.monotonic()
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    ran = time.monotonic()
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    started = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return (ran - began) * 1e3, (time.monotonic() - started) * 1e3


async def _memory(warden: Warden) -> list[float]:
    workers = [await warden.start(_SPEC) for _ in range(_TOGETHER)]
    for worker in workers:
        await worker.control.receive_some()
    sizes = [_private_mib(worker.pid) for worker in workers]
    async with trio.open_nursery() as nursery:
        for worker in workers:
            nursery.start_soon(worker.aclose)
    return sizes


def _bare_python_mib() -> float:
    program = "import time; print(flush=True); time.sleep(1000)"
    command = [sys.executable, "-I", "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        size = _private_mib(process.pid)
        process.kill()
    return size


def _private_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024

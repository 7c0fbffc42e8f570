"""What a test sees of processes, from outside."""

from __future__ import annotations

import os
import subprocess
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.cleanup import bounded
from orchestrator.worker import WorkerSpec
from tests.orchestrator.worker.zoo import holders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from orchestrator.worker import Warden, WorkerProcess

ZOO = "tests.orchestrator.worker.zoo"
PATH = {"PATH": os.environ["PATH"]}
# What may pass until nothing is left.
GONE_S = 1.0


async def start_animal(warden: Warden, kind: str, witness: Path) -> WorkerProcess:
    """Start a worker of the zoo and wait until all of it is there."""
    argument = {"kind": kind, "witness": str(witness)}
    spec = WorkerSpec(entry=f"{ZOO}:animal", argument=argument, env=PATH)
    worker = await warden.start(spec)
    assert await worker.control.receive_some() == b"up"
    return worker


async def all_gone(witnesses: Path) -> None:
    """Wait until no process holds any file of that folder, for a second at most."""
    with trio.move_on_after(GONE_S):
        # Twice: what forks on and on may be where one look has been already.
        while holders(witnesses) or holders(witnesses):
            await trio.sleep(0.02)
    assert holders(witnesses) == []


@asynccontextmanager
async def started(
    command: list[str], **options: Any
) -> AsyncIterator[tuple[trio.Process, trio.abc.ReceiveStream]]:
    """Run a program for the time of the body; yield it and its stdout."""
    process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, **options)
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        process.kill()
        with bounded(5):
            await process.wait()
            await process.stdout.aclose()


def children() -> set[int]:
    """Return the children of this process, zombies included."""
    listed = Path("/proc/self/task").glob("*/children")
    return {int(pid) for each in listed for pid in each.read_text().split()}


def share_of(pid: int) -> int | None:
    """Return the niceness of a process's whole session; None where sessions have none.

    A process that no session was ever made for has an empty file, and the usual share.
    """
    try:
        words = Path(f"/proc/{pid}/autogroup").read_text().split()
    except OSError:
        return None
    return int(words[-1]) if words else 0


@contextmanager
def sleeping(*prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child of our own for the time of the body."""
    with subprocess.Popen([*prefix, "sleep", "1000"]) as child:
        try:
            yield child
        finally:
            child.kill()


def exists(path: str | Path) -> bool:
    """Whether there is such a file, or such a process in ``/proc``."""
    return os.path.exists(path)


def names_in(folder: Path) -> list[str]:
    """Return what is in a folder."""
    return os.listdir(folder)


def children_of(pid: int) -> str:
    """Return the children of another process, in words; empty if there are none."""
    listed = Path(f"/proc/{pid}/task").glob("*/children")
    return "".join(each.read_text() for each in listed)


def open_fds() -> dict[str, str]:
    """Return what this process has open."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue
    return found

"""Other processes of a benchmark. They speak in JSON lines, and end when we do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.cleanup import bounded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]


class Peer:
    """The other process, as seen from here."""

    def __init__(self, process: trio.Process) -> None:
        assert process.stdout is not None
        self._stdout = process.stdout
        self._read = b""

    async def read(self) -> Any:
        """Return what it says next.

        Raises:
            EOFError: it has ended; why is on stderr.
        """
        while b"\n" not in self._read:
            data = await self._stdout.receive_some()
            if not data:
                raise EOFError("the other process has ended")
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return json.loads(line)


@asynccontextmanager
async def open_peer(module: str, *args: str) -> AsyncIterator[Peer]:
    """Run a module of this package in a process of its own for the time of the body."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", f"tests.bench.{module}", *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Peer(process)
    finally:
        process.kill()
        with bounded(10):
            await process.wait()
            await process.stdin.aclose()
            await process.stdout.aclose()


def say(value: Any) -> None:
    """Say something to the process that started this one."""
    print(json.dumps(value), flush=True)


async def end_with_parent() -> None:
    """End this process when the one that started it has gone, however it went."""
    async with trio.lowlevel.FdStream(os.dup(0)) as stdin:
        await stdin.receive_some()
    os._exit(0)

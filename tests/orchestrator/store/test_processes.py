"""A store and the end of its process; two processes and one store. The processes are real."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from orchestrator.errors import StoreInUse
from orchestrator.store import open_store
from tests.orchestrator.store.child import ROOT, events_up_to
from tests.orchestrator.store.samples import append

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def child(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a writer; kill it at the end, with SIGKILL."""
    command = [sys.executable, "-m", "tests.orchestrator.store.child", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def last_acknowledged(path: Path, enough: int) -> int:
    """Let a writer acknowledge so many batches, kill it, and return the last one that it saw."""
    with child(path) as process:
        assert said(process) == "open"
        lines = [said(process) for _ in range(enough)]
        process.kill()
        assert process.stdout is not None
        # What it said before it died; the last line may have been cut short.
        lines += [line.strip() for line in process.stdout if line.endswith("\n")]
    assert lines == [str(n + 1) for n in range(len(lines))]
    return len(lines)


@pytest.mark.parametrize("enough", [1, 30, pytest.param(600, marks=pytest.mark.slow)])
async def test_what_was_acknowledged_survives_a_kill(path: Path, enough: int) -> None:
    acknowledged = await trio.to_thread.run_sync(last_acknowledged, path, enough)
    async with open_store(f"sqlite:///{path}") as store:
        record = await store.get(ROOT)
        assert record is not None
        # At most the batch that was under way is there besides, and every batch is whole.
        assert record.version in (acknowledged, acknowledged + 1)
        events = await store.events(ROOT, after=0, limit=100_000)
        assert [event.seq for event in events] == list(range(1, events_up_to(record.version) + 1))
        assert len(await store.artifact(ROOT, "log") or b"") == record.version
        await store.write([append(ROOT, len(events) + 1)])


@pytest.mark.slow
async def test_a_second_process_is_refused(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        with child(path) as process:
            answer = await trio.to_thread.run_sync(said, process)
            assert answer == (
                f"{path} is open in process {os.getpid()}; stop that first, or use another file"
            )
        await store.write([append("r", 1)])


@pytest.mark.slow
async def test_a_killed_process_lets_go_of_its_store(path: Path) -> None:
    with child(path) as process:
        assert await trio.to_thread.run_sync(said, process) == "open"
        with pytest.raises(StoreInUse, match=f"{path} is open in process {process.pid};"):
            async with open_store(f"sqlite:///{path}"):
                pass
        process.kill()
        await trio.to_thread.run_sync(process.wait)
        async with open_store(f"sqlite:///{path}"):
            pass

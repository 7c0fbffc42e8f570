"""Code that blocks the loop is named while it blocks, from outside."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import trio
import trio.lowlevel

from orchestrator import Context, agent, open_orchestrator
from orchestrator.watchdog import watching

if TYPE_CHECKING:
    import pytest

    from orchestrator.watchdog import Watchdog


def block_until(released: threading.Event) -> None:
    """Block, as a call into a library would."""
    assert released.wait(20)


def release_once_noticed(
    watchdog: Watchdog, released: threading.Event, number: int = 1
) -> threading.Thread:
    """Let the blocked code go as soon as the watchdog has seen it."""

    def look() -> None:
        while watchdog.last is None or watchdog.last.number < number:
            time.sleep(0.01)
        released.set()

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


async def test_the_run_the_file_and_the_line_are_named(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()

    @agent
    async def blocker(ctx: Context) -> str:
        await trio.lowlevel.checkpoint()
        block_until(released)
        return "done"

    with trio.fail_after(30), watching(0.5) as watchdog:
        async with open_orchestrator() as orchestrator:
            thread = release_once_noticed(watchdog, released)
            run = await orchestrator.start(blocker)
            assert (await run.wait()).result == "done"
            thread.join()
    last = watchdog.last
    assert last is not None
    assert (last.run_id, last.over) == (run.id, True)
    assert (last.at.file, last.at.function) == (__file__, "block_until")
    assert last.seconds >= 0.5
    told = [record for record in caplog.records if record.name == "quiesce.watchdog"]
    assert [record.levelno for record in told] == [logging.ERROR, logging.WARNING]
    assert all(f"run {run.id}" in record.message for record in told)
    assert all(f"{__file__}:" in record.message for record in told)


async def test_code_of_no_run_is_named_as_such() -> None:
    released = threading.Event()
    with trio.fail_after(30), watching(0.5) as watchdog:
        thread = release_once_noticed(watchdog, released)
        await trio.lowlevel.checkpoint()
        block_until(released)
        thread.join()
    assert watchdog.last is not None
    assert "code of no run" in watchdog.last.words


async def test_the_times_are_numbered() -> None:
    with trio.fail_after(30), watching(0.1) as watchdog:
        for number in (1, 2, 3):
            released = threading.Event()
            thread = release_once_noticed(watchdog, released, number)
            await trio.lowlevel.checkpoint()
            block_until(released)
            await trio.lowlevel.checkpoint()
            thread.join()
            assert watchdog.last is not None
            assert watchdog.last.number == number


async def test_a_loop_that_is_busy_but_not_blocked_is_left_alone() -> None:
    with watching(5) as watchdog:
        for _ in range(1_000):
            await trio.lowlevel.checkpoint()
    assert watchdog.last is None


async def test_the_thread_ends_with_the_watching() -> None:
    with watching(0.01):
        (thread,) = (each for each in threading.enumerate() if each.name == "quiesce watchdog")
    thread.join(20)
    assert not thread.is_alive()

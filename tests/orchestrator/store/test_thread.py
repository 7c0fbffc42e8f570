"""The thread that writes: one call after the other, and none that nobody waits for."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orchestrator.store.sqlite.thread import WorkThread


async def test_calls_are_made_in_order_in_one_thread() -> None:
    asked: list[int] = []
    made: list[tuple[int, str]] = []
    with closing(WorkThread("writer")) as thread:

        async def ask(number: int) -> None:
            asked.append(number)
            await thread.run(lambda: made.append((number, threading.current_thread().name)))

        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(ask, number)
    assert made == [(number, "writer") for number in asked]


async def test_a_call_returns_and_raises() -> None:
    def fail() -> None:
        raise LookupError("no such row")

    with closing(WorkThread("writer")) as thread:
        assert await thread.run(lambda: 42) == 42
        with pytest.raises(LookupError, match="no such row"):
            await thread.run(fail)
        assert await thread.run(lambda: 43) == 43


class Turns(trio.abc.Instrument):
    """Counts the turns of the loop."""

    now = 0

    def after_io_wait(self, timeout: float) -> None:
        self.now += 1


async def test_who_is_told_goes_on_in_the_turn_in_which_the_call_returns() -> None:
    turns, told = Turns(), trio.Event()
    at: dict[str, int] = {}

    async def wait() -> None:
        await told.wait()
        at["told"] = turns.now

    trio.lowlevel.add_instrument(turns)
    with closing(WorkThread("writer")) as thread, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert await thread.run(lambda: 42, told.set) == 42
            at["returned"] = turns.now
    trio.lowlevel.remove_instrument(turns)
    assert at["told"] == at["returned"]


async def test_nobody_is_told_of_a_call_that_fails_and_an_error_in_telling_is_raised() -> None:
    def fail() -> None:
        raise LookupError("no such row")

    told: list[str] = []
    with closing(WorkThread("writer")) as thread:
        with pytest.raises(LookupError, match="no such row"):
            await thread.run(fail, lambda: told.append("never"))
        with pytest.raises(LookupError, match="no such row"):
            await thread.run(lambda: told.append("written"), fail)
    assert told == ["written"]


async def test_a_cancellation_waits_for_a_call_that_was_made() -> None:
    """What was given to it must not be written behind the back of who gave up."""
    begun, go_on, written = threading.Event(), threading.Event(), []

    def write() -> None:
        begun.set()
        go_on.wait(60)
        written.append("row")

    with closing(WorkThread("writer")) as thread, trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(thread.run, write)
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
                assert written == []
                go_on.set()
        assert written == ["row"]
        with trio.move_on_after(0) as late:
            await thread.run(write)
    assert late.cancelled_caught
    assert written == ["row"]


async def test_what_was_asked_for_is_done_before_it_is_closed() -> None:
    begun, go_on, written = threading.Event(), threading.Event(), []

    def write() -> None:
        begun.set()
        go_on.wait(60)
        written.append("row")

    thread = WorkThread("writer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(thread.run, write)
        await trio.to_thread.run_sync(begun.wait)
        nursery.start_soon(thread.run, lambda: written.append("another"))
        await wait_all_tasks_blocked()
        nursery.start_soon(trio.to_thread.run_sync, thread.close)
        go_on.set()
    assert written == ["row", "another"]

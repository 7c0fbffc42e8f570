"""Waiting for a status, collecting events, seeing what is left over."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, RunStatus, agent, open_orchestrator
from orchestrator.testing import (
    Leaked,
    Standstill,
    VirtualTime,
    assert_tree_gone,
    at_points,
    no_leaks_in,
    record,
    until,
    virtual_time,
)
from tests.victim import open_victim

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator import Orchestrator


@agent
async def napper(ctx: Context, seconds: float = 10) -> str:
    await ctx.sleep(seconds)
    return "rested"


@agent
async def parent(ctx: Context) -> None:
    await ctx.call(napper)


@virtual_time
async def test_until_waits_for_what_is_shown() -> None:
    async with open_orchestrator() as orchestrator:
        run = orchestrator.admit(napper)
        assert await until(run, "running") is RunStatus.RUNNING
        assert await until(run, "running", "succeeded") is RunStatus.RUNNING
        assert await until(run, "succeeded") is RunStatus.SUCCEEDED
        assert trio.current_time() == 10
        assert await until(run, "succeeded") is RunStatus.SUCCEEDED


@virtual_time
async def test_what_is_raised_at_a_point_is_raised_after_the_body() -> None:
    called: list[int] = []

    def fail() -> None:
        raise LookupError("it is not as it should be")

    async def go_on() -> None:
        with at_points({1: fail, 2: lambda: called.append(2)}):
            await trio.sleep(1)
            await trio.sleep(1)
            called.append(0)

    with pytest.raises(LookupError, match="it is not as it should be"):
        await go_on()
    assert called == [2, 0]


@virtual_time
async def test_until_sees_a_status_that_passes_at_once() -> None:
    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(napper)
        seen: list[RunStatus] = []

        async def watch() -> None:
            seen.append(await until(run, "stopping"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await trio.testing.wait_all_tasks_blocked()
            await run.stop(mode="now")
        assert seen == [RunStatus.STOPPING]


@virtual_time
async def test_until_says_what_came_instead() -> None:
    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(napper)
        with pytest.raises(AssertionError, match="ended succeeded, and was never stopped"):
            await until(run, "stopped")


@virtual_time
async def test_record_brings_every_event_of_the_tree_in_order() -> None:
    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        events = await record(run)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events] == [
        "run.queued",
        "run.started",
        "run.queued",
        "run.started",
        "run.succeeded",
        "run.succeeded",
    ]


@virtual_time
async def test_a_tree_that_lives_is_not_gone() -> None:
    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        await trio.sleep(1)
        with pytest.raises(Leaked, match=r"napper, which stands at .*test_helpers.py:\d+") as left:
            assert_tree_gone(run)
        assert "(parent), which is running" in str(left.value)
        await run.stop()
        assert_tree_gone(run)


async def test_a_tree_with_an_open_connection_is_not_gone(orchestrator: Orchestrator) -> None:
    kept: list[Any] = []

    @agent
    async def keeps(ctx: Context, url: str) -> None:
        kept.append(ctx._run.client)
        await ctx.get(url)
        await ctx.sleep(1000)

    with trio.fail_after(10):
        async with open_victim() as victim:
            run = await orchestrator.start(keeps, {"url": victim.url + "/quick"})
            await victim.until(lambda: any(r.finished for r in victim.requests))
            with pytest.raises(Leaked, match="1 connections of the HTTP client of keeps"):
                assert_tree_gone(run)
            await run.stop()
            assert_tree_gone(run)


def _leak_a_thread(stack: list[Any]) -> None:
    event = threading.Event()
    thread = threading.Thread(target=lambda: event.wait(), name="idler")
    thread.start()
    stack += [event.set, thread.join]


def _leak_a_socket(stack: list[Any]) -> None:
    stack.append(socket.socket().close)


def _leak_a_child(stack: list[Any]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    stack.append(child.communicate)


@pytest.mark.parametrize(
    ("leak", "named"),
    [
        (_leak_a_thread, "thread 'idler', which stands at"),
        (_leak_a_socket, "socket, file descriptor"),
        (_leak_a_child, "child process"),
    ],
)
def test_what_a_test_leaves_behind_is_named(
    leak: Callable[[list[Any]], None], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.testing.leaks.PATIENCE_S", 0.1)
    stack: list[Any] = []
    try:
        with pytest.raises(Leaked, match=named), no_leaks_in():
            leak(stack)
    finally:
        for undo in stack:
            undo()


def test_what_ends_a_moment_later_is_no_leak() -> None:
    with no_leaks_in():
        threading.Timer(0.05, lambda: None).start()


def test_a_system_task_that_a_test_leaves_behind_is_named() -> None:
    @virtual_time
    async def leaves() -> None:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)

    with pytest.raises(Leaked, match=r"task trio\.sleep_forever"):
        leaves()


def test_a_slot_for_threads_that_is_not_given_back_is_named() -> None:
    @virtual_time
    async def takes() -> None:
        await trio.to_thread.current_default_thread_limiter().acquire_on_behalf_of("nobody")

    with pytest.raises(Leaked, match="1 slots for threads"):
        takes()


def test_a_test_that_can_never_end_ends() -> None:
    @virtual_time
    async def stuck() -> None:
        await trio.Event().wait()

    with pytest.raises(Standstill, match=r"which stands at tests/testing/test_helpers.py:\d+"):
        stuck()


def test_virtual_time_passes_arguments_and_results_on() -> None:
    @virtual_time
    async def sleep(seconds: float, *, then: str) -> tuple[float, str]:
        await trio.sleep(seconds)
        return trio.current_time(), then

    assert sleep(1e6, then="woke") == (1e6, "woke")


def test_a_thread_takes_no_virtual_time_and_limits_hold_after_it() -> None:
    async def main() -> tuple[float, bool]:
        with trio.move_on_after(5):
            await trio.to_thread.run_sync(threading.Event().wait, 0.05)
        now = trio.current_time()
        with trio.move_on_after(5) as limit:
            await trio.sleep(10)
        return now, limit.cancelled_caught

    assert trio.run(main, clock=VirtualTime().clock) == (0, True)


@virtual_time
async def test_time_passes_for_a_thread_that_waits_for_the_loop() -> None:
    for abandon in (False, True):
        await trio.to_thread.run_sync(
            trio.from_thread.run, trio.sleep, 5, abandon_on_cancel=abandon
        )
    assert trio.current_time() == 10

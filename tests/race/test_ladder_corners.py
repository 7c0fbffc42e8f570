"""Corners of the stop ladder, each in a process of its own and under virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from orchestrator import Context, Event, Orchestrator, agent, open_orchestrator
from orchestrator.events import ENDINGS
from tests.race.isolated import alone

pytestmark = pytest.mark.slow


async def _feed(orchestrator: Orchestrator, run_id: str) -> list[Event]:
    return await orchestrator.store.events(run_id, after=0, limit=100_000)


async def finishes_first(_: str) -> list[Any]:
    ran: list[str] = []

    @agent
    async def buyer(ctx: Context) -> str:
        ctx.on_stop(ran.append, "refunded")
        async with ctx.operation("pay"):
            await trio.sleep(1)
            run.request_stop()
        return "bought"

    @agent
    async def late(ctx: Context) -> str:
        ctx.on_stop(ran.append, "refunded")
        await ctx.sleep(1)
        run.request_stop()
        return "bought"

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(late)
        record = await run.wait()
        return [record.status, record.stop and record.stop.outcome, ran]


def test_a_run_that_finished_first_is_not_compensated() -> None:
    """Interleaving: the stop comes after the agent's last checkpoint."""
    assert alone(finishes_first, "") == ["succeeded", "finished_first", []]


async def stop_while_the_client_closes() -> list[Any]:
    ran: list[str] = []
    closing, go_on = trio.Event(), trio.Event()

    @agent
    async def buyer(ctx: Context) -> None:
        ctx.on_stop(ran.append, "refunded")

        async def slow_aclose() -> None:
            closing.set()
            await go_on.wait()

        ctx._run.client.aclose = slow_aclose  # type: ignore[method-assign]
        raise ValueError("x")

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(buyer)
        await closing.wait()
        run.request_stop()
        go_on.set()
        record = await run.wait()
        return [record.status, ran]


def test_a_run_that_ends_stopped_was_compensated() -> None:
    """Interleaving: the agent has raised; the stop comes while its client closes."""
    assert alone(stop_while_the_client_closes) in (["stopped", ["refunded"]], ["failed", []])


async def child_in_a_critical_section() -> list[Any]:
    done: list[str] = []

    @agent
    async def committer(ctx: Context) -> None:
        await ctx.sleep(20)
        done.append("committed")

    @agent
    async def parent(ctx: Context) -> None:
        with ctx.critical("commit", max_seconds=60):
            await ctx.call(committer)
        await ctx.sleep(1000)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        await trio.sleep(1)
        receipt = await run.stop(mode="now")
        return [run.status, receipt.still_running, done, round(trio.current_time())]


def test_a_critical_section_also_holds_back_the_stop_of_sub_agents_in_it() -> None:
    """The child's own ladder must know of the section around it, which is its parent's."""
    assert alone(child_in_a_critical_section) == ["stopped", [], ["committed"], 20]


async def killed_tree() -> list[Any]:
    release = trio.Event()

    @agent
    async def leaf(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    @agent
    async def middle(ctx: Context) -> None:
        await ctx.call(leaf)

    @agent
    async def top(ctx: Context) -> None:
        await ctx.map(middle, [{}, {}])

    wrong = []
    async with open_orchestrator() as orchestrator:
        for _ in range(20):
            release = trio.Event()
            run = await orchestrator.start(top)
            await trio.sleep(1)
            await run.stop(mode="kill")
            await trio.sleep(1)
            events = [e for e in await _feed(orchestrator, run.id) if e.type in ENDINGS]
            release.set()
            parent = {r.id: r.parent_id for r in await orchestrator.tree(run.id)}
            order = [event.run_id for event in events]
            if any(
                p in order and order.index(c) > order.index(p)
                for c, p in parent.items()
                if p and c in order
            ) or len(order) != len(parent):
                wrong.append([[e.run_id == run.id, e.type] for e in events])
    return wrong


def test_a_kill_lets_go_of_children_before_their_parents() -> None:
    assert alone(killed_tree) == []


async def exits_while_let_go() -> list[Any]:
    release = trio.Event()

    async def refund() -> None:
        release.set()
        await trio.sleep(2)

    @agent
    async def leaf(ctx: Context) -> None:
        ctx.on_stop(refund)
        with trio.CancelScope(shield=True):
            await release.wait()

    @agent
    async def top(ctx: Context) -> None:
        await ctx.call(leaf)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(top)
        await trio.sleep(1)
        await run.stop(mode="now")
        await trio.sleep(10)
        events = await _feed(orchestrator, run.id)
        return [len(orchestrator.stuck), [e.type for e in events][-1], events[-1].run_id == run.id]


def test_code_that_exits_while_it_is_let_go_is_not_stuck_for_ever() -> None:
    """Interleaving: the code exits during the compensations that follow its letting go."""
    stuck, _, root_is_last = alone(exits_while_let_go)
    assert stuck == 0
    assert root_is_last


async def cancelled_orchestrator_with_a_stuck_run() -> list[Any]:
    release = trio.Event()
    states: list[Any] = []

    @agent
    async def shielder(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    async def look() -> None:
        await trio.sleep(30)
        states.append([run.status, len(orchestrator.stuck)])
        release.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        with trio.move_on_after(1):
            async with open_orchestrator() as orchestrator:
                run = await orchestrator.start(shielder)
                await trio.sleep_forever()
    return states


def test_a_cancelled_orchestrator_still_lets_go_of_a_stuck_run() -> None:
    assert alone(cancelled_orchestrator_with_a_stuck_run) == [["abandoned", 1]]


async def opened_in_a_cancelled_scope() -> str:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_orchestrator():
            await trio.sleep_forever()
    return "left"


def test_opening_can_be_cancelled() -> None:
    assert alone(opened_in_a_cancelled_scope, within_s=8) == "left"

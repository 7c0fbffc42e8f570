"""Sections, sub-agents and events around a stop, each in a process of its own, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from orchestrator import Context, Event, OperationRefused, Orchestrator, agent, open_orchestrator
from tests.race.isolated import alone

pytestmark = pytest.mark.slow


async def _feed(orchestrator: Orchestrator, run_id: str) -> list[Event]:
    return await orchestrator.store.events(run_id, after=0, limit=100_000)


async def starts_a_child_in_a_compensation() -> list[Any]:
    said: list[str] = []

    @agent
    async def child(ctx: Context) -> None:
        said.append("child ran")

    async def compensation(ctx: Context) -> None:
        started = await ctx.start(child)
        await started.wait()

    @agent
    async def parent(ctx: Context) -> None:
        ctx.on_stop(compensation, ctx)
        await ctx.sleep(1000)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        await trio.sleep(1)
        receipt = await run.stop()
        live = [each.id for each in orchestrator.registry]
    return [run.status, said, len(receipt.cleanup_errors), live]


def test_a_sub_agent_started_in_a_compensation_leaves_nothing_behind() -> None:
    """Either it runs, or it is refused with words; it is not queued for ever."""
    status, said, errors, live = alone(starts_a_child_in_a_compensation, within_s=8)
    assert status == "stopped"
    assert live == []
    assert (said, errors) in ((["child ran"], 0), ([], 1))


async def operation_in_a_killed_critical_section() -> list[str]:
    effects: list[str] = []

    @agent
    async def stubborn(ctx: Context) -> None:
        with ctx.critical("commit", max_seconds=1000):
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    async with ctx.operation("late"):
                        await trio.sleep(0.1)
                        effects.append("effect")

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(stubborn)
        await trio.sleep(1)
        await run.stop(mode="kill")
        await trio.sleep(1)
    return effects


def test_nothing_starts_in_a_critical_section_that_was_revoked() -> None:
    assert alone(operation_in_a_killed_critical_section) == []


async def abandoned_and_talkative() -> list[Any]:
    release = trio.Event()

    @agent
    async def talker(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            while not release.is_set():
                await ctx.progress(50, "still here")
                await ctx.log("still here")
                await trio.sleep(0.1)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(talker)
        await trio.sleep(1)
        await run.stop(mode="kill")
        await trio.sleep(5)
        events = await _feed(orchestrator, run.id)
        release.set()
        await run.exited.wait()
        return [events[-1].type, run.record.status]


def test_the_events_of_an_abandoned_run_are_refused() -> None:
    assert alone(abandoned_and_talkative) == ["run.abandoned", "abandoned"]


async def detached_and_stopped() -> list[Any]:
    @agent
    async def other(ctx: Context) -> None:
        await ctx.sleep(5)

    @agent
    async def parent(ctx: Context) -> None:
        await ctx.start_detached(other)
        await ctx.sleep(1000)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        with trio.fail_after(5):
            while len(orchestrator.registry) < 2:
                await trio.lowlevel.checkpoint()
        # Interleaving: the detached run is admitted, and its starter waits until it is durable.
        receipt = await run.stop(mode="now")
        detached = [each.id for each in orchestrator.registry if each.id != run.id]
        return [list(receipt.detached), detached]


def test_a_run_detached_as_the_stop_comes_is_on_the_receipt() -> None:
    on_receipt, live = alone(detached_and_stopped)
    assert len(live) == 1
    assert on_receipt == live


async def child_started_in_a_critical_section_after_the_stop() -> list[Any]:
    effects: list[str] = []

    @agent
    async def child(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            with trio.CancelScope(shield=True):
                try:
                    async with ctx.operation("late"):
                        effects.append(f"at {trio.current_time():.0f}")
                except OperationRefused:
                    effects.append("refused")

    @agent
    async def parent(ctx: Context) -> None:
        with ctx.critical("commit", max_seconds=10):
            await trio.sleep(2)
            await ctx.start(child)
            await trio.sleep(2)
        await ctx.sleep(1000)

    async with open_orchestrator() as orchestrator:
        run = await orchestrator.start(parent)
        await trio.sleep(1)
        receipt = await run.stop(mode="now")
        tree = await orchestrator.tree(run.id)
        return [effects, receipt.outcome, [each.status for each in tree]]


def test_a_child_of_a_stopping_parent_has_a_closed_gate_too() -> None:
    """A sub-agent that a critical section starts after the stop belongs to the stopped tree."""
    effects, outcome, statuses = alone(child_started_in_a_critical_section_after_the_stop)
    assert outcome == "stopped"
    assert effects in (["refused"], [])
    assert set(statuses) == {"stopped"}


async def raised_in_the_body() -> str:
    try:
        async with open_orchestrator():
            raise ValueError("mine")
    except BaseException as error:
        return repr(error)


def test_an_error_in_the_body_of_open_orchestrator_is_not_wrapped() -> None:
    assert alone(raised_in_the_body) == "ValueError('mine')"

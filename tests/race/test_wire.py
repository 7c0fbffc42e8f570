"""Stops seen from outside, over HTTP and at the server that an agent talks to."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx
import pytest
import trio

from api.service import open_server
from orchestrator import Context, agent, open_orchestrator
from tests.race.isolated import alone
from tests.victim import open_victim

pytestmark = pytest.mark.slow


async def abandoned_in_an_open_operation() -> list[Any]:
    release = trio.Event()
    async with open_victim() as victim:

        @agent
        async def caller(ctx: Context) -> None:
            async with ctx.operation("x"):
                with trio.CancelScope(shield=True):
                    while not release.is_set():
                        with suppress(Exception):
                            await ctx.http.get(victim.url + "/quick")
                        await trio.sleep(0.01)

        async with open_orchestrator() as orchestrator:
            run = await orchestrator.start(caller)
            await victim.until(lambda: len(victim.requests) > 3)
            await run.stop(mode="kill")
            at_end = len(victim.requests)
            await trio.sleep(0.3)
            later, connections = len(victim.requests), len(victim.open)
            release.set()
            return [run.status, later - at_end, connections]


def test_an_abandoned_run_sends_nothing_more() -> None:
    """Its code still stands in an operation, in a shield of its own, and goes on asking."""
    assert alone(abandoned_in_an_open_operation, virtual=False) == ["abandoned", 0, 0]


async def stop_between_the_end_and_its_record() -> list[Any]:
    @agent
    async def quick(ctx: Context) -> str:
        await go_on.wait()
        return "done"

    go_on, writing, may_write = trio.Event(), trio.Event(), trio.Event()
    async with open_orchestrator(agents=[quick]) as orchestrator:
        run = await orchestrator.start(quick)
        write = orchestrator.store.write
        while run.status != "running":
            await trio.lowlevel.checkpoint()

        async def slow_write(batch: Any, *told: Any) -> None:
            writing.set()
            await may_write.wait()
            await write(batch, *told)

        orchestrator.store.write = slow_write  # type: ignore[method-assign,assignment]
        go_on.set()
        await writing.wait()
        answers: list[httpx.Response] = []

        async def ask() -> None:
            answers.append(await client.post(f"/runs/{run.id}/stop", timeout=10))

        async with (
            open_server(orchestrator) as url,
            httpx.AsyncClient(base_url=url) as client,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(ask)
            # Nothing tells from outside that the handler waits now.
            await trio.sleep(0.3)
            may_write.set()
        answer = answers[0]
        return [answer.status_code, answer.json().get("receipt")]


def test_a_stop_of_a_run_whose_end_is_being_stored_is_told_so() -> None:
    """Interleaving: the run has succeeded, and that is not durable when the stop comes."""
    assert alone(stop_between_the_end_and_its_record, virtual=False) == [409, None]

"""Agents that ask models by other means than ``ctx.llm``, and tell of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from orchestrator import Context, InvalidInput, Orchestrator, Run, Usage, agent


async def deltas(orchestrator: Orchestrator, run: Run) -> list[tuple[int, str]]:
    """Return the pieces that were told, each with its operation."""
    found = await orchestrator.store.events(run.id, after=0, limit=100)
    return [(e.data["operation"], e.data["text"]) for e in found if e.type == "llm.delta"]


async def test_pieces_are_gathered_for_each_operation(
    orchestrator: Orchestrator, autojump_clock: trio.testing.MockClock
) -> None:
    @agent
    async def writer(ctx: Context) -> None:
        for name in ("one", "two"):
            async with ctx.operation("llm", name, "connection closed"):
                await ctx.delta("It ")
                await ctx.delta("is ")
                await trio.sleep(1)
                await ctx.delta(name)

    run = await orchestrator.start(writer)
    await run.wait()
    told = await deltas(orchestrator, run)
    assert told == [(1, "It is "), (1, "one"), (2, "It is "), (2, "two")]


async def test_the_last_pieces_are_told_when_it_ends_at_once(orchestrator: Orchestrator) -> None:
    @agent
    async def writer(ctx: Context) -> None:
        await ctx.delta("all of it")

    run = await orchestrator.start(writer)
    await run.wait()
    assert await deltas(orchestrator, run) == [(0, "all of it")]


async def test_an_effect_is_told_when_an_operation_is_cut(orchestrator: Orchestrator) -> None:
    @agent
    async def waits(ctx: Context) -> None:
        async with ctx.operation("llm", "small", "connection closed"):
            await ctx.log("ready")
            await trio.sleep_forever()

    run = await orchestrator.start(waits)
    async for event in await orchestrator.events(run.id):
        if event.type == "run.log":
            break
    await run.stop(mode="now")
    found = await orchestrator.store.events(run.id, after=0, limit=100)
    assert [e.data["effect"] for e in found if e.type == "operation.cut"] == ["connection closed"]


async def test_what_is_spent_is_counted(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIESCE_LLM_PRICES", json.dumps({"small": {"input": 2, "output": 8}}))

    @agent
    async def spender(ctx: Context) -> None:
        ctx.spend(requests=1)
        ctx.spend(input_tokens=1000, output_tokens=500, model="small")
        ctx.spend(requests=1, output_tokens=5, model="small", cost=0.5)
        ctx.spend(input_tokens=7, model="another")

    record = await (await orchestrator.start(spender)).wait()
    assert record.error is None
    expected = Usage(requests=2, input_tokens=1007, output_tokens=505, cost=0.506)
    assert record.usage == expected


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"requests": -1}, "requests"),
        ({"output_tokens": -1}, "output_tokens"),
        ({"cost": -0.1}, "cost"),
        ({"cost": float("nan")}, "cost"),
    ],
)
async def test_what_cannot_be_spent_is_refused(
    orchestrator: Orchestrator, given: dict[str, Any], field: str
) -> None:
    refused: list[InvalidInput] = []

    @agent
    async def spender(ctx: Context) -> None:
        try:
            ctx.spend(**given)
        except InvalidInput as error:
            refused.append(error)

    record = await (await orchestrator.start(spender)).wait()
    assert field in str(refused[0])
    assert record.usage == Usage()

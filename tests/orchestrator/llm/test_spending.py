"""What calls of a model cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import (
    Context,
    InvalidInput,
    Orchestrator,
    Usage,
    agent,
)
from tests.orchestrator.llm.asking import ask
from tests.orchestrator.llm_server import (
    ModelServer,
    say,
)

if TYPE_CHECKING:
    from pathlib import Path


PRICES = {"small": {"input": 2.0, "output": 8.0}}
TOML = "[small]\ninput = 2\noutput = 8.0\n"


@pytest.mark.parametrize("kind", ["inline", "json", "toml"])
async def test_prices_give_the_cost(
    kind: str,
    orchestrator: Orchestrator,
    server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / f"prices.{kind}"
    file.write_text(TOML if kind == "toml" else json.dumps(PRICES))
    setting = json.dumps(PRICES) if kind == "inline" else str(file)
    monkeypatch.setenv("QUIESCE_LLM_PRICES", setting)
    reply = await ask(orchestrator, "hi")
    assert reply.usage.cost == pytest.approx((10 * 2 + 5 * 8) / 1e6)
    assert (await ask(orchestrator, "hi", model="other")).usage.cost == 0


async def test_the_cost_that_the_endpoint_reports_goes_first(
    orchestrator: Orchestrator, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIESCE_LLM_PRICES", json.dumps(PRICES))
    reported = {"prompt_tokens": 3, "completion_tokens": 4, "cost": 0.25}
    server.will(*2 * [say("x", usage=reported)], say("x", usage=None))
    for stream in (False, True):
        reply = await ask(orchestrator, "hi", stream=stream)
        assert reply.usage == Usage(requests=1, input_tokens=3, output_tokens=4, cost=0.25)
    assert (await ask(orchestrator, "hi")).usage == Usage(requests=1)


@pytest.mark.parametrize(
    "setting",
    ["{", "/nowhere.toml", '{"m": 7}', '{"m": {"input": -1, "output": 1}}', '{"m": {"input": 1}}'],
)
async def test_prices_that_cannot_be_read_are_said_before_anything_is_spent(
    setting: str,
    orchestrator: Orchestrator,
    server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUIESCE_LLM_PRICES", setting)
    with pytest.raises(InvalidInput) as caught:
        await ask(orchestrator, "hi")
    assert caught.value.problems[0][0] == "QUIESCE_LLM_PRICES"
    assert server.connections == []


async def test_what_a_sub_agent_spends_is_counted_above_it(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    @agent
    async def below(ctx: Context) -> str:
        return await ctx.llm("hi")

    @agent
    async def above(ctx: Context) -> None:
        await ctx.map(below, [{}, {}])

    with trio.fail_after(20):
        record = await (await orchestrator.start(above)).wait()
    tree = await orchestrator.tree(record.id)
    assert sorted(run.usage.requests for run in tree) == [1, 1, 2]
    assert record.usage == Usage(requests=2, input_tokens=20, output_tokens=10)


@pytest.mark.parametrize("count", [10**400, 1e308, 2**53, -1, "5", None])
async def test_an_absurd_usage_costs_no_answer_and_is_not_counted(
    count: Any, orchestrator: Orchestrator, server: ModelServer
) -> None:
    usage = {"prompt_tokens": count, "completion_tokens": 4, "cost": count}
    server.will(say("x", usage=usage))
    reply = await ask(orchestrator, "hi")
    assert reply.usage == Usage(requests=1, output_tokens=4)

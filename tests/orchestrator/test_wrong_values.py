"""Values of the wrong kind: each is refused where it comes in, and none gets as far as the store.

One of them there would keep everybody's runs from being read, or written.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, InvalidInput, Orchestrator, agent, open_orchestrator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio.testing import MockClock


@agent
async def idle(ctx: Context) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"source": "somebody"}, "source: 'somebody' is not one of user, admin, "),
        ({"grace_s": "5"}, "grace_s: must be 0 or more seconds, not '5'"),
        ({"grace_s": Decimal(5)}, "grace_s: must be 0 or more seconds"),
        ({"mode": "now", "grace_s": "5"}, "grace_s: must be 0 or more seconds"),
        ({"grace": 5}, "grace: is not known; known are: mode, grace_s, "),
        ({"mode": ["now"]}, "mode: "),
    ],
)
async def test_a_stop_with_an_argument_that_is_none_stops_nothing(
    orchestrator: Orchestrator, asked: dict[str, Any], why: str
) -> None:
    run = await orchestrator.start(idle)
    with pytest.raises(InvalidInput) as refused:
        run.request_stop(**asked)
    assert str(refused.value).startswith(why)
    assert (run.record.status, run.receipt) == ("running", None)


async def test_a_halt_with_a_grace_that_is_none_halts_nothing(orchestrator: Orchestrator) -> None:
    """It would be on record, and no later process could read it."""
    with pytest.raises(InvalidInput, match="grace_s: must be 0 or more seconds"):
        orchestrator.request_halt(mode="now", grace_s="5")  # type: ignore[arg-type]
    assert orchestrator.halted is None


async def _spend_a_fraction(ctx: Context) -> None:
    ctx.spend(input_tokens=1.5)  # type: ignore[arg-type]


async def _spend_on_no_model(ctx: Context) -> None:
    ctx.spend(model=5)  # type: ignore[arg-type]


async def _spend_a_decimal(ctx: Context) -> None:
    ctx.spend(cost=Decimal("1.5"))  # type: ignore[arg-type]


async def _cut_an_effect_that_is_no_text(ctx: Context) -> None:
    with trio.move_on_after(0):
        async with ctx.operation("send", "a letter", effect=object()):  # type: ignore[arg-type]
            await trio.sleep_forever()


async def _keep_a_text_as_a_file(ctx: Context) -> None:
    await ctx.artifact("letter.txt", "Dear reader")  # type: ignore[arg-type]


async def _keep_a_number_as_a_file(ctx: Context) -> None:
    await ctx.artifact("letter.txt", [68, 101])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        (_spend_a_fraction, "input_tokens: must be a whole number, not 1.5"),
        (_spend_on_no_model, "model: must be a string, not int"),
        (_spend_a_decimal, "cost: Decimal('1.5') is no sum of dollars"),
        (_cut_an_effect_that_is_no_text, "effect: must be a string, not object"),
        (_keep_a_text_as_a_file, "data: must be bytes, not str; encode a text"),
        (_keep_a_number_as_a_file, "data: must be bytes, not list; encode a text"),
    ],
)
async def test_what_an_agent_tells_amiss_fails_it_alone(
    deed: Callable[[Context], Awaitable[None]], why: str, tmp_path: Path
) -> None:
    @agent
    async def clumsy(ctx: Context) -> None:
        await deed(ctx)

    url = f"sqlite:///{tmp_path}/runs.db"
    async with open_orchestrator(url) as orchestrator:
        record = await (await orchestrator.start(clumsy)).wait()
        assert record.error is not None
        assert (record.status, record.error.message) == ("failed", why)
    async with open_orchestrator(url) as orchestrator:
        assert (await orchestrator.runs()).runs == (record,)


@pytest.mark.parametrize("max_seconds", [math.nan, math.inf, -1, "1", Decimal(1)])
async def test_a_critical_section_without_a_bound_is_refused(
    orchestrator: Orchestrator, autojump_clock: MockClock, max_seconds: Any
) -> None:
    """It would hold a stop back for ever."""

    @agent
    async def greedy(ctx: Context) -> None:
        with ctx.critical("commit", max_seconds):
            await trio.sleep_forever()

    record = await (await orchestrator.start(greedy)).wait()
    assert record.error is not None
    assert record.error.message.startswith("max_seconds: must be 0 or more seconds, not ")


async def test_a_file_may_be_any_kind_of_bytes(orchestrator: Orchestrator) -> None:
    kinds: dict[str, Any] = {
        "numbers": memoryview(b"\1\0\2\0").cast("H"),
        "letters": bytearray(b"abc"),
    }

    @agent
    async def keeper(ctx: Context) -> None:
        for name, data in kinds.items():
            await ctx.artifact(name, data)

    run = await orchestrator.start(keeper)
    await run.wait()
    assert {each.name: each.size for each in await orchestrator.artifacts(run.id)} == {
        "letters": 3,
        "numbers": 4,
    }

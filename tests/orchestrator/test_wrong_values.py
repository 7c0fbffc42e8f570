"""Values of the wrong kind: each is refused where it comes in, and none gets as far as the store.

One of them there would keep everybody's runs from being read, or written.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from orchestrator import Context, InvalidInput, Orchestrator, agent, open_orchestrator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from trio.testing import MockClock


NO_JSON = "is not JSON: Unable to serialize unknown type: <class 'object'>"


@agent
async def anything(ctx: Context, value: Any) -> None:
    pass


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


async def _spend_more_than_there_is(ctx: Context) -> None:
    ctx.spend(input_tokens=10**5_000)


async def _spend_more_dollars_than_there_are(ctx: Context) -> None:
    ctx.spend(cost=1e308)


async def _spend_what_no_float_holds(ctx: Context) -> None:
    ctx.spend(cost=10**400)


async def _ask_by_a_schema_that_is_none(ctx: Context) -> None:
    await ctx.ask("How many?", {"maximum": 10**5_000, "default": object()})


async def _call_with_what_is_no_json(ctx: Context) -> None:
    await ctx.call(anything, value=object())


async def _cut_an_effect_that_is_no_text(ctx: Context) -> None:
    with trio.move_on_after(0):
        async with ctx.operation("send", "a letter", effect=object()):  # type: ignore[arg-type]
            await trio.sleep_forever()


async def _keep_a_text_as_a_file(ctx: Context) -> None:
    await ctx.artifact("letter.txt", "Dear reader")  # type: ignore[arg-type]


async def _come_as_far_as_a_text(ctx: Context) -> None:
    await ctx.progress("50")  # type: ignore[arg-type]


async def _emit_a_list(ctx: Context) -> None:
    await ctx.emit("order.paid", [1])  # type: ignore[arg-type]


async def _keep_a_number_as_a_file(ctx: Context) -> None:
    await ctx.artifact("letter.txt", [68, 101])  # type: ignore[arg-type]


async def _map_over_one_text(ctx: Context) -> None:
    await ctx.map(anything, "abc")  # type: ignore[arg-type]


async def _map_over_a_number(ctx: Context) -> None:
    await ctx.map(anything, 5)  # type: ignore[arg-type]


async def _show_the_name_of_a_picture(ctx: Context) -> None:
    await ctx.view("picture.png")  # type: ignore[arg-type]


async def _set_a_list(ctx: Context) -> None:
    await ctx.data.set_many([1])  # type: ignore[arg-type]


async def _delete_one_key_as_many(ctx: Context) -> None:
    await ctx.data.delete_many("key")


async def _get_no_list_of_keys(ctx: Context) -> None:
    await ctx.data.get_many(5)  # type: ignore[arg-type]


async def _offer_one_tool_as_many(ctx: Context) -> None:
    await ctx.llm("How many?", tools="idle")


async def _offer_a_number_of_tools(ctx: Context) -> None:
    await ctx.llm("How many?", tools=5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        (_map_over_one_text, "inputs: must be a list"),
        (_map_over_a_number, "inputs: must be a list"),
        (_show_the_name_of_a_picture, "image: must be bytes, not str; encode a text"),
        (_set_a_list, "values: must be an object of named values"),
        (_delete_one_key_as_many, "keys: must be a list"),
        (_get_no_list_of_keys, "keys: must be a list"),
        (_offer_one_tool_as_many, "tools: must be a list"),
        (_offer_a_number_of_tools, "tools: must be a list"),
        (_spend_a_fraction, "input_tokens: must be a whole number, not 1.5"),
        (_spend_more_than_there_is, "input_tokens: is more than can be spent"),
        (_spend_more_dollars_than_there_are, "cost: is more than can be spent"),
        (_spend_what_no_float_holds, f"cost: 1{99 * '0'}… is no sum of dollars"),
        (_ask_by_a_schema_that_is_none, f"schema: {NO_JSON}"),
        (_call_with_what_is_no_json, f"input: {NO_JSON}"),
        (_spend_on_no_model, "model: must be a string, not int"),
        (_spend_a_decimal, "cost: Decimal('1.5') is no sum of dollars"),
        (_cut_an_effect_that_is_no_text, "effect: must be a string, not object"),
        (_keep_a_text_as_a_file, "data: must be bytes, not str; encode a text"),
        (_come_as_far_as_a_text, "percent: '50' is not within 0 and 100"),
        (_emit_a_list, "data: must be an object of named values"),
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


@pytest.mark.parametrize(
    ("inputs", "limit", "why"),
    [
        ([{}, {}], 0, "limit: must be 1 or more, not 0"),
        ([{}, {}], -1, "limit: must be 1 or more, not -1"),
        ([{}, {}], 1.5, "limit: must be a whole number, not 1.5"),
        ([{}, "url"], None, "inputs.1: must be an object of named values"),
    ],
)
async def test_a_map_that_is_called_amiss_says_so(
    orchestrator: Orchestrator, autojump_clock: MockClock, inputs: Any, limit: Any, why: str
) -> None:
    """With a limit of -1 it returned a list of None, and nothing had been called."""

    @agent
    async def nothing(ctx: Context) -> None:
        await ctx.sleep(1)

    @agent
    async def mapper(ctx: Context) -> None:
        await ctx.map(nothing, inputs, limit)

    record = await (await orchestrator.start(mapper)).wait()
    assert record.error is not None
    assert (record.error.type, record.error.message) == ("InvalidInput", why)


async def test_an_input_that_is_no_object_starts_nothing(orchestrator: Orchestrator) -> None:
    for given in (["a"], "text", 5):
        with pytest.raises(InvalidInput, match="input: must be an object of named values"):
            await orchestrator.start(idle, given)  # type: ignore[arg-type]
    assert (await orchestrator.runs()).runs == ()


async def test_a_function_that_is_no_agent_is_named_with_the_remedy(
    orchestrator: Orchestrator,
) -> None:
    async def bare(ctx: Context) -> None:
        pass

    with pytest.raises(TypeError, match=r"bare.* is no agent; put @agent above the function"):
        await orchestrator.start(bare)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="put @agent above the function"):
        async with open_orchestrator(agents=[bare]):  # type: ignore[list-item]
            pass


@pytest.mark.parametrize("limits", [{"max_workers": 0}, {"retention_s": -1}, {"watchdog_s": "1"}])
async def test_an_orchestrator_does_not_open_with_a_limit_that_is_none(
    limits: dict[str, Any],
) -> None:
    """With no worker at all, runs that need one would wait for ever."""
    with pytest.raises(InvalidInput, match=f"{next(iter(limits))}: must be "):
        async with open_orchestrator(**limits):
            pass


async def test_an_agent_without_any_request_at_once_and_an_empty_page_are_refused(
    orchestrator: Orchestrator,
) -> None:
    with pytest.raises(InvalidInput, match="http_concurrency: must be 1 or more, not 0"):
        agent(http_concurrency=0)(idle.function)
    for limit in (0, -1):
        with pytest.raises(InvalidInput, match="limit: must be 1 or more"):
            await orchestrator.runs(limit=limit)


async def test_a_detached_start_that_is_refused_names_the_agent(
    orchestrator: Orchestrator,
) -> None:
    @agent
    async def late(ctx: Context) -> None:
        try:
            await trio.sleep_forever()
        finally:
            await ctx.start_detached(idle)

    run = await orchestrator.start(late)
    await trio.testing.wait_all_tasks_blocked()
    await run.stop()
    events = [event async for event in await orchestrator.events(run.id)]
    [refused] = [event.data for event in events if event.type == "operation.refused"]
    assert refused == {"kind": "agent", "label": "idle"}


@pytest.mark.parametrize("tags", ["abc", None, 5])
async def test_tags_that_are_no_list_change_nothing(orchestrator: Orchestrator, tags: Any) -> None:
    """A text would be a tag for each of its letters."""
    run = await orchestrator.start(idle, tags=["kept"])
    with pytest.raises(InvalidInput, match="tags: must be a list"):
        run.change(tags=tags, deadline_s=60)
    assert (run.record.tags, run.record.deadline_at) == (("kept",), None)


async def test_options_and_cursors_that_are_none_are_refused(orchestrator: Orchestrator) -> None:
    with pytest.raises(InvalidInput, match="options: must be an object of named values"):
        await orchestrator.start(idle, options=["tags"])  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="after: must be a string, not int"):
        await orchestrator.runs(after=5)  # type: ignore[arg-type]


async def test_a_change_of_what_there_is_not_changes_nothing(orchestrator: Orchestrator) -> None:
    run = await orchestrator.start(idle, tags=["kept"])
    with pytest.raises(InvalidInput, match="deadline: is not known; known are: deadline_s, tags"):
        run.change(tags=[], deadline=60)  # type: ignore[call-arg]
    assert run.record.tags == ("kept",)


async def test_a_deadline_may_be_moved_by_what_a_start_takes(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await orchestrator.start(idle, deadline_s=Decimal(60))
    run.move_deadline(Decimal(120))  # type: ignore[arg-type]
    assert run.deadline == trio.current_time() + 120


async def test_the_agents_that_an_input_names_are_whole_names() -> None:
    """Who may not start ``idle`` could else have it called, as ``i``, ``d``, ``l`` and ``e``."""

    @agent(calls="tools")
    async def calling(ctx: Context, tools: str | list[str] | None = None) -> None:
        pass

    assert calling.called_by({}) == ()
    assert calling.called_by({"tools": "idle"}) == ("idle",)
    assert calling.called_by({"tools": ["idle", "calling"]}) == ("idle", "calling")
    with pytest.raises(InvalidInput, match="calls: 'tool' is no field of the input of calling"):
        agent(calls="tool")(calling.function)
    with pytest.raises(InvalidInput, match=r"calls: \['idle'\] is no field of the input of"):
        agent(calls=["idle"])(calling.function)  # type: ignore[call-overload]

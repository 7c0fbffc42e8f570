"""Tools that a model may ask for, and answers of a given shape."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest

from orchestrator import (
    Context,
    Orchestrator,
    UnknownAgent,
    agent,
    open_orchestrator,
)
from orchestrator.errors import UnfitAnswer
from orchestrator.llm import ToolCall
from tests.orchestrator.llm.asking import ask
from tests.orchestrator.llm_server import (
    ModelServer,
    say,
    send,
)


@agent
async def weather(ctx: Context, city: str) -> str:
    """What the weather is like."""
    return "fine in " + city


async def test_agents_are_offered_as_tools(server: ModelServer) -> None:
    server.will(say(calls=[("weather", {"city": "Oslo"}), ("other", "{broken")]))
    other = {"type": "function", "function": {"name": "other"}}
    async with open_orchestrator(agents=[weather]) as orchestrator:
        reply = await ask(orchestrator, "hi", tools=["weather", weather, other])
        with pytest.raises(UnknownAgent, match="nobody"):
            await ask(orchestrator, "hi", tools=["nobody"])
    assert reply.tool_calls == (
        ToolCall("call_1", "weather", {"city": "Oslo"}),
        ToolCall("call_2", "other", {}, "{broken"),
    )
    assert reply.finish_reason == "tool_calls"
    first, second, third = server.asked[0].body["tools"]
    assert first == second
    assert first["function"] == {
        "name": "weather",
        "description": "What the weather is like.",
        "parameters": weather.input_schema,
    }
    assert third == other


@pytest.mark.parametrize("index", [0, None])
async def test_tool_calls_are_told_apart_by_id_too(
    index: int | None, orchestrator: Orchestrator, server: ModelServer
) -> None:
    """Some endpoints stream each call whole, all with the same index or none."""
    numbered = {} if index is None else {"index": index}
    calls = [
        numbered | {"id": name, "function": {"name": name, "arguments": '{"n": 1}'}}
        for name in ("a", "b")
    ]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in calls]
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    server.will(send(*lines, b"data: [DONE]\n\n"))
    reply = await ask(orchestrator, "hi", stream=True)
    assert reply.tool_calls == (ToolCall("a", "a", {"n": 1}), ToolCall("b", "b", {"n": 1}))


async def test_a_character_of_an_argument_may_come_in_halves(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    named = {"index": 0, "id": "a", "function": {"name": "look", "arguments": '{"at": "\ud83c'}}
    calls = [named, {"index": 0, "function": {"arguments": '\udf19"}'}}]
    chunks = [{"choices": [{"delta": {"tool_calls": [call]}}]} for call in calls]
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    server.will(send(*lines, b"data: [DONE]\n\n"))
    reply = await ask(orchestrator, "hi", stream=True)
    assert reply.tool_calls == (ToolCall("a", "look", {"at": "\U0001f319"}),)


class City(pydantic.BaseModel):
    name: str
    people: int


SCHEMA = City.model_json_schema()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_of_a_type_is_parsed(
    stream: bool, orchestrator: Orchestrator, server: ModelServer
) -> None:
    server.will(*2 * [say('{"name": "Oslo", ', '"people": 700000}')])
    reply = await ask(orchestrator, "hi", schema=City, stream=stream)
    assert reply.value == City(name="Oslo", people=700000)
    assert json.loads(reply) == {"name": "Oslo", "people": 700000}
    plain = await ask(orchestrator, "hi", schema=SCHEMA, stream=stream)
    assert plain.value == {"name": "Oslo", "people": 700000}
    format_ = {"name": "answer", "schema": SCHEMA}
    for asked in server.asked:
        sent = {"type": "json_schema", "json_schema": format_}
        assert asked.body["response_format"] == sent


@pytest.mark.parametrize("schema", [City, SCHEMA])
@pytest.mark.parametrize("text", ["Oslo!", '{"name": "Oslo", "people": "many"}', "[]"])
async def test_an_answer_that_does_not_fit_is_an_error_with_its_text(
    schema: Any, text: str, orchestrator: Orchestrator, server: ModelServer
) -> None:
    server.will(say(text))
    with pytest.raises(UnfitAnswer) as caught:
        await ask(orchestrator, "hi", schema=schema)
    assert caught.value.text == text
    assert "answer" in str(caught.value)


async def test_an_answer_that_was_cut_off_says_so(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    server.will(say('{"name": "Os', finish="length"))
    with pytest.raises(UnfitAnswer, match="max_tokens"):
        await ask(orchestrator, "hi", schema=City)


@pytest.mark.parametrize(
    "arguments", ['{"x": NaN}', '{"x": ' + 100_000 * "[" + 100_000 * "]" + "}"]
)
async def test_arguments_that_nobody_else_can_read_are_no_object(
    arguments: str, orchestrator: Orchestrator, server: ModelServer
) -> None:
    call = {"id": 7, "function": {"name": 5, "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = json.dumps({"choices": [{"message": message}]}).encode()
    server.will(send(answer, content_type="application/json"))
    [asked] = (await ask(orchestrator, "hi")).tool_calls
    assert (asked.id, asked.name, asked.arguments, asked.raw) == ("7", "5", {}, arguments)

"""What is asked of a model, and what is refused before."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
import trio

from orchestrator import (
    Context,
    InvalidInput,
    Orchestrator,
    RunStatus,
    Usage,
    agent,
)
from orchestrator.errors import ExtraMissing
from orchestrator.llm import Reply
from tests.orchestrator.llm.asking import ask, completion, deltas_of
from tests.orchestrator.llm_server import (
    ModelServer,
    say,
    send,
)


async def test_a_question_is_asked_and_its_answer_is_a_string(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    server.will(say("Hello, ", "world"))
    reply = await ask(orchestrator, "hi", temperature=0.5, top_k=3)
    assert reply == "Hello, world"
    assert (reply.model, reply.finish_reason) == ("small", "stop")
    assert reply.message == {"role": "assistant", "content": "Hello, world"}
    assert reply.usage == Usage(requests=1, input_tokens=10, output_tokens=5)
    assert (reply.tool_calls, reply.value) == ((), None)
    [asked] = server.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == "Bearer none"
    assert asked.body == {
        "model": "small",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": False,
        "temperature": 0.5,
        "top_k": 3,
    }


async def test_arguments_go_before_the_environment(
    orchestrator: Orchestrator, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIESCE_LLM_BASE_URL", "http://127.0.0.1:9/nobody")
    monkeypatch.setenv("QUIESCE_LLM_API_KEY", "from-environment")
    await ask(orchestrator, "hi", model="large", base_url=server.url, api_key="given")
    await ask(orchestrator, "hi", base_url=server.url, extra_headers={"x-team": "blue"})
    assert [a.body["model"] for a in server.asked] == ["large", "small"]
    keys = [a.headers["authorization"] for a in server.asked]
    assert keys == ["Bearer given", "Bearer from-environment"]
    assert server.asked[1].headers["x-team"] == "blue"


async def test_a_streamed_answer_is_the_same_and_told_on_the_way(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    words = [f"word{n} " for n in range(100)]
    calls = [("look", {"at": "the moon"}), ("wait", {})]
    server.will(say(*words, calls=calls), say(*words, calls=calls))
    plain = await ask(orchestrator, "hi")
    told: list[str] = []

    @agent
    async def asker(ctx: Context) -> None:
        told.append(await ctx.llm("hi", stream=True))

    with trio.fail_after(20):
        record = await (await orchestrator.start(asker)).wait()
    [streamed] = told
    assert isinstance(streamed, Reply)
    assert streamed == plain
    assert vars(streamed) == vars(plain)
    assert server.asked[1].body["stream_options"] == {"include_usage": True}
    deltas = await deltas_of(orchestrator, record)
    assert "".join(deltas) == plain
    assert len(deltas) <= len(words) / 16 + 2
    assert record.usage == plain.usage


async def test_a_piece_is_told_although_the_model_pauses_after_it(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    go_on = trio.Event()
    server.will(say("Hel", "lo", go_on, " you"))

    @agent
    async def asker(ctx: Context) -> str:
        return await ctx.llm("hi", stream=True)

    with trio.fail_after(20):
        run = await orchestrator.start(asker)
        async for event in await orchestrator.events(run.id):
            if event.type == "llm.delta":
                assert not run.record.status.is_terminal or go_on.is_set()
                go_on.set()
    assert await deltas_of(orchestrator, run.record) == ["Hello", " you"]
    assert run.record.result == "Hello you"


async def test_the_connection_is_used_again(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    @agent
    async def asker(ctx: Context) -> None:
        for number in range(6):
            await ctx.llm("hi", stream=number % 2 == 0)

    with trio.fail_after(20):
        assert (await (await orchestrator.start(asker)).wait()).status is RunStatus.SUCCEEDED
        assert len(server.asked) == 6
        assert len(server.connections) == 1
        await server.until(lambda: server.open == [])


async def test_an_answer_that_goes_on_after_its_last_word_is_not_waited_for(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    never = trio.Event()
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": "hi"}}]}).encode()
    server.will(send(b"data: " + chunk + b"\n\ndata: [DONE]\n\n", never))
    assert await ask(orchestrator, "hi", stream=True) == "hi"
    await server.until(lambda: server.open == [])


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["a\u2028b\u0085c"], "a\u2028b\u0085c"),
        ([r"a\ud83d", r"\ude00b"], "a\U0001f600b"),
        ([r"a\ud83d"], "a?"),
    ],
    ids=["what ends lines elsewhere", "halves", "a half alone"],
)
async def test_a_stream_may_bring_any_character(
    pieces: list[str], text: str, orchestrator: Orchestrator, server: ModelServer
) -> None:
    """And the conversation goes on with it."""
    content = [f'{{"choices": [{{"delta": {{"content": "{piece}"}}}}]}}' for piece in pieces]
    parts = [f"data: {each}\r\n\r\n".encode() for each in content]
    stream = send(
        b"\xef\xbb\xbf", *parts, b"data: [DONE]\r\n\r\n", content_type="Text/Event-Stream"
    )
    server.will(stream, say("on"))
    reply = await ask(orchestrator, "hi", stream=True)
    assert reply == text
    assert await ask(orchestrator, [reply.message, {"role": "user", "content": "go"}]) == "on"
    assert server.asked[1].body["messages"][0]["content"] == text


async def test_an_endpoint_that_does_not_stream_is_understood(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    body = json.dumps(completion("at once")).encode()
    server.will(send(body, content_type="application/json"))
    assert await ask(orchestrator, "hi", stream=True) == "at once"


async def test_a_chat_goes_on_with_the_message_of_the_reply(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    server.will(say(calls=[("look", {"at": "moon"})]), say("a crescent"))

    @agent
    async def chatter(ctx: Context) -> str:
        messages: list[dict[str, Any]] = [{"role": "user", "content": "what is up?"}]
        reply = await ctx.llm(messages)
        messages.append(reply.message)
        [call] = reply.tool_calls
        messages.append({"role": "tool", "tool_call_id": call.id, "content": "half"})
        return await ctx.llm(messages)

    with trio.fail_after(20):
        record = await (await orchestrator.start(chatter)).wait()
    assert record.result == "a crescent"
    function = {"name": "look", "arguments": '{"at": "moon"}'}
    assert server.asked[1].body["messages"][1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "half"},
    ]
    assert record.usage == Usage(requests=2, input_tokens=20, output_tokens=10)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([], "messages"),
        (7, "messages"),
        (["hi"], "messages.0"),
        ([{"role": "user", "content": "a"}, {"role": "wizard"}], "messages.1.role"),
        ([{"role": "user"}], "messages.0.content"),
        ([{"role": "user", "content": 7}], "messages.0.content"),
        ([{"role": "tool", "content": "x"}], "messages.0.tool_call_id"),
        ([{"role": "user", "content": [{"text": object()}]}], "messages"),
        ("\ud800", "messages"),
        ([{"role": "user", "content": "\ud800"}], "messages"),
    ],
)
async def test_messages_that_are_none_are_refused_by_name(
    messages: Any, field: str, orchestrator: Orchestrator, server: ModelServer
) -> None:
    with pytest.raises(InvalidInput) as caught:
        await ask(orchestrator, messages)
    assert caught.value.problems[0][0] == field
    assert server.connections == []


@pytest.mark.parametrize(
    ("options", "field", "hint"),
    [
        ({"base_url": ""}, "base_url", "QUIESCE_LLM_BASE_URL"),
        ({"base_url": "localhost:8000"}, "base_url", "https://host"),
        ({"base_url": "http://host:port"}, "base_url", "no URL"),
        ({"model": " "}, "model", "QUIESCE_LLM_MODEL"),
        ({"api_key": "naïve"}, "api_key", "characters"),
        ({"timeout": 3}, "timeout", "move_on_after"),
        ({"tools": [7]}, "tools.0", "must be"),
        ({"tools": [{"type": "function"}]}, "tools.0.function.name", "missing"),
        ({"tools": [{}]}, "tools.0.type", "missing"),
        ({"schema": {"type": "nonsense"}}, "schema", "JSON Schema"),
        ({"stop": object()}, "stop", "JSON"),
    ],
)
async def test_options_that_do_not_fit_are_refused_by_name(
    options: Any, field: str, hint: str, orchestrator: Orchestrator, server: ModelServer
) -> None:
    with pytest.raises(InvalidInput, match=hint) as caught:
        await ask(orchestrator, "hi", **options)
    assert caught.value.problems[0][0] == field
    assert server.connections == []


async def test_a_missing_endpoint_names_its_variable(orchestrator: Orchestrator) -> None:
    with pytest.raises(InvalidInput, match="set QUIESCE_LLM_BASE_URL"):
        await ask(orchestrator, "hi")


async def test_a_missing_client_names_the_extra(
    orchestrator: Orchestrator, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'quiesce\[llm\]'"):
        await ask(orchestrator, "hi")

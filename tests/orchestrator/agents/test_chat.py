"""Conversations with a scripted model, in virtual time."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, InvalidInput, RunStatus, agent
from orchestrator.agents._chat import book
from orchestrator.agents.chat import chat
from tests.docs.pages import DOCS
from tests.orchestrator.agents.chatting import (
    NAMES,
    results_in,
    said,
    stored,
    talk,
)
from tests.orchestrator.agents.chatting import llm as llm
from tests.orchestrator.agents.chatting import orchestrator as orchestrator

if TYPE_CHECKING:
    from trio.testing import MockClock

    from orchestrator import Orchestrator, RunRecord
    from orchestrator.testing import ScriptedLLM


def error_of(record: RunRecord) -> str:
    assert record.status is RunStatus.FAILED
    assert record.error is not None
    return f"{record.error.type}: {record.error.message}"


# Talking


async def test_a_conversation_begins(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    llm.say("Hello, ", "Ann!", piece_s=1)
    record = await talk(orchestrator, "I am Ann", system="Be kind.", temperature=0.5, max_tokens=9)
    assert record.result == {
        "conversation": record.id,
        "reply": "Hello, Ann!",
        "messages": 3,
        "turns": 1,
        "usage": {"requests": 1, "cost": 0.0} | _tokens(record),
    }
    [asked] = llm.requests
    assert (asked["temperature"], asked["max_tokens"], asked["model"]) == (0.5, 9, "small")
    assert "tools" not in asked
    assert await stored(orchestrator, record.id) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "I am Ann"},
        {"role": "assistant", "content": "Hello, Ann!"},
    ]
    assert asked["messages"] == (await stored(orchestrator, record.id))[:2]
    events = [event async for event in await orchestrator.events(record.id)]
    assert [e.data["text"] for e in events if e.type == "llm.delta"] == ["Hello, ", "Ann!"]


def _tokens(record: RunRecord) -> dict[str, int]:
    usage = record.usage
    assert usage.input_tokens > 0
    return {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}


async def test_a_conversation_goes_on(orchestrator: Orchestrator, llm: ScriptedLLM) -> None:
    llm.say("Hello!")
    llm.say("Ann.")
    llm.say("ANN!")
    first = await said(orchestrator, "I am Ann", system="Be kind.")
    for message, more in (("Who am I?", {}), ("Louder", {"system": "Shout.", "stream": False})):
        result = await said(orchestrator, message, conversation=first["conversation"], **more)
        assert result["conversation"] == first["conversation"]
        assert result["turns"] == 1
    assert result["messages"] == 8
    sent = [[m["content"] for m in each["messages"]] for each in llm.requests]
    assert sent == [
        ["Be kind.", "I am Ann"],
        ["Be kind.", "I am Ann", "Hello!", "Who am I?"],
        ["Shout.", "I am Ann", "Hello!", "Who am I?", "Ann.", "Louder"],
    ]


async def test_a_conversation_may_be_long(
    orchestrator: Orchestrator, llm: ScriptedLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many pages, in more than one list of them."""
    monkeypatch.setattr(book, "PAGE_CHARACTERS", 50)
    monkeypatch.setattr(book, "PAGE", 3)
    conversation = None
    expected: list[str] = []
    for n in range(4):
        for m in range(3):
            llm.call_tools(("weather", {"city": f"{n}.{m}"}))
        llm.say(f"answer {n}")
        found = await said(orchestrator, f"{n}", conversation=conversation, tools=NAMES)
        conversation = found["conversation"]
        expected += [f"{n}", *[f"{n}.{m}" for m in range(3)], f"answer {n}"]
    messages = await stored(orchestrator, found["conversation"])
    assert [
        json.loads(m["content"])["city"] if m["role"] == "tool" else m["content"]
        for m in messages
        if not m.get("tool_calls")
    ] == expected
    assert found["messages"] == len(messages) == 32


async def test_what_is_no_text_is_replaced(orchestrator: Orchestrator, llm: ScriptedLLM) -> None:
    """Half a surrogate pair, as cut text has it, would make each later request fail."""
    with pytest.raises(InvalidInput, match=r"input\.message: .* unicode"):
        await talk(orchestrator, "a\ud83d")

    @agent
    async def cut(ctx: Context) -> str:
        return "b\ud83d"

    orchestrator.agents.add(cut)
    llm.call_tools(("cut", {}), ("broken", {"n": "\ud83d"}), text="c\ud83d")
    llm.say("fine")
    found = await said(orchestrator, tools=[*NAMES, "cut"])
    messages = await stored(orchestrator, found["conversation"])
    assert [m["content"] for m in messages[1:3]] == ["c?", "b?"]


# What is refused


@pytest.mark.parametrize(
    ("input", "words"),
    [
        ({"conversation": "run_0"}, "input.conversation: you have no conversation 'run_0'"),
        ({"message": None}, "input.message: is missing"),
    ],
)
async def test_there_must_be_something_to_answer(
    input: dict[str, Any],
    words: str,
    orchestrator: Orchestrator,
    llm: ScriptedLLM,
) -> None:
    assert words in error_of(await talk(orchestrator, **input))
    assert llm.requests == []


async def test_an_answered_conversation_needs_a_message(
    orchestrator: Orchestrator, llm: ScriptedLLM
) -> None:
    llm.say("Hello!")
    found = await said(orchestrator)
    record = await talk(orchestrator, None, conversation=found["conversation"])
    assert "input.message: is missing" in error_of(record)


@pytest.mark.parametrize("name", ["base_url", "api_key", "messages", "timeout", "model"])
async def test_parameters_are_those_of_the_endpoint(name: str, orchestrator: Orchestrator) -> None:
    with pytest.raises(Exception, match=rf"input.parameters: may not have {name}"):
        await talk(orchestrator, parameters={name: "x"})


async def test_a_conversation_belongs_to_its_owner(
    orchestrator: Orchestrator, llm: ScriptedLLM
) -> None:
    llm.say("Hello!")
    found = await said(orchestrator)
    record = await talk(orchestrator, conversation=found["conversation"], owner="bob")
    assert "you have no conversation" in error_of(record)
    assert await stored(orchestrator, found["conversation"], owner="bob") == []
    assert len(await stored(orchestrator, found["conversation"])) == 2


async def test_two_runs_do_not_share_a_conversation_at_once(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    for _ in range(3):
        llm.say("Hello!", delay_s=10)
    found = (await said(orchestrator))["conversation"]
    first = await orchestrator.start(chat, {"message": "one", "conversation": found}, owner="ann")
    await trio.sleep(1)
    record = await talk(orchestrator, "two", conversation=found)
    assert error_of(record) == (
        f"ConversationInUse: conversation {found} is in use by another run;"
        " stop that one, or wait for its end"
    )
    await first.wait()
    await said(orchestrator, "three", conversation=found)
    messages = await stored(orchestrator, found)
    assert [m["content"] for m in messages if m["role"] == "user"] == ["hi", "one", "three"]


@pytest.mark.parametrize("mode", ["graceful", "now", "kill"])
async def test_a_stopped_run_has_the_conversation_until_it_has_ended(
    mode: str, orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    """The second run comes while the first one compensates, which is the last that it does."""
    llm.say("Hello!")
    llm.call_tools(("slow_to_stop", {}))
    llm.say("fine")
    found = (await said(orchestrator))["conversation"]

    @agent
    async def slow_to_stop(ctx: Context) -> None:
        try:
            await ctx.sleep(100)
        finally:
            with ctx.cleanup():
                await trio.sleep(0.5)

    orchestrator.agents.add(slow_to_stop)
    given = {"message": "one", "conversation": found, "tools": ["slow_to_stop"]}
    first = await orchestrator.start(chat, given, owner="ann")
    await trio.sleep(1)
    first.request_stop(mode=mode)
    if mode != "kill":
        await trio.sleep(0.1)
        assert "is in use" in error_of(await talk(orchestrator, "two", conversation=found))
    await first.wait()
    await said(orchestrator, "three", conversation=found)


# Tools


async def test_tools_of_one_turn_run_side_by_side(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    cities = ["Oslo", "Rome", "Bern", "Lima"]
    llm.call_tools(
        *[("weather", {"city": c, "seconds": 4 - n}) for n, c in enumerate(cities)],
        text="Let me see",
    )
    llm.say("All is clear")
    began = trio.current_time()
    found = await said(orchestrator, tools=["weather", "weather"], parallel_tools=2)
    # Two at once: 4 s and then 1 s, beside 3 s and then 2 s.
    assert trio.current_time() - began == 5
    assert (found["reply"], found["turns"], found["messages"]) == ("All is clear", 2, 7)
    messages = await stored(orchestrator, found["conversation"])
    assert [json.loads(each)["city"] for each in results_in(messages)] == cities
    assert llm.requests[1]["messages"] == messages[:-1]
    assert [t["function"]["name"] for t in llm.requests[0]["tools"]] == ["weather"]
    tree = await orchestrator.tree(found["conversation"])
    assert [each.agent for each in tree] == ["chat"] + ["weather"] * 4


async def test_what_goes_wrong_with_a_tool_is_told_to_the_model(
    orchestrator: Orchestrator, llm: ScriptedLLM
) -> None:
    llm.call_tools(
        ("broken", {}),
        ("weather", {"town": "Oslo"}),
        ("measure", {"seconds": "long"}),
        ("reader", {}),
        ("chat", {"message": "x"}),
    )
    llm.say("Sorry")
    found = await said(orchestrator, tools=NAMES)
    assert found["reply"] == "Sorry"
    assert results_in(llm.requests[1]["messages"]) == [
        "error: ValueError: no battery",
        "error: input.city: Field required; input.town: is not known; known are: city, seconds",
        "error: input.seconds: Input should be a valid number, unable to parse string as a number",
        "error: no tool is named 'reader'; tools: broken, measure, weather",
        "error: no tool is named 'chat'; tools: broken, measure, weather",
    ]


async def test_a_tool_that_is_stopped_alone_is_told_to_the_model(
    orchestrator: Orchestrator, llm: ScriptedLLM, autojump_clock: MockClock
) -> None:
    llm.call_tools(("weather", {"city": "Oslo", "seconds": 100}))
    llm.say("Sorry")
    run = await orchestrator.start(chat, {"message": "hi", "tools": NAMES}, owner="ann")
    await trio.sleep(1)
    [tool] = run.children
    await tool.stop(reason="too slow")
    record = await run.wait()
    assert record.result["reply"] == "Sorry"
    assert results_in(await stored(orchestrator, run.id)) == [
        "interrupted: sub-agent weather was stopped by user (too slow) before it finished;"
        " its effects are unknown"
    ]


async def test_a_chat_may_be_a_tool(orchestrator: Orchestrator, llm: ScriptedLLM) -> None:
    orchestrator.agents.add(chat)
    llm.call_tools(("chat", {"message": "Think.", "tools": ["weather"]}))
    llm.call_tools(("weather", {"city": "Oslo"}))
    llm.say("inner")
    llm.say("outer")
    found = await said(orchestrator, tools=["chat"])
    assert (found["reply"], found["turns"], found["usage"]["requests"]) == ("outer", 2, 2)
    [result] = results_in(await stored(orchestrator, found["conversation"]))
    inner = json.loads(result)
    assert inner["reply"] == "inner"
    assert len(await stored(orchestrator, inner["conversation"])) == 4
    assert (await orchestrator.get(found["conversation"])).usage.requests == 4


async def test_a_tool_cannot_have_the_conversation_that_it_is_called_in(
    orchestrator: Orchestrator, llm: ScriptedLLM
) -> None:
    orchestrator.agents.add(chat)
    llm.say("Hello!")
    found = (await said(orchestrator))["conversation"]
    llm.call_tools(("chat", {"message": "x", "conversation": found}))
    llm.say("Sorry")
    await said(orchestrator, conversation=found, tools=["chat"])
    [result] = results_in(await stored(orchestrator, found))
    assert result.startswith("error: ConversationInUse: ")


async def test_a_long_result_is_cut(orchestrator: Orchestrator, llm: ScriptedLLM) -> None:
    @agent
    async def shout(ctx: Context) -> str:
        return "\x00" * 10**6

    orchestrator.agents.add(shout)
    llm.call_tools(("shout", {}), ("shout", {}))
    llm.say("fine")
    found = await said(orchestrator, tools=["shout"])
    for result in results_in(await stored(orchestrator, found["conversation"])):
        assert result == "\x00" * 60_000 + "… (cut here: it has 1000000 characters)"


async def test_a_tool_that_nobody_registered_is_an_error(
    orchestrator: Orchestrator, llm: ScriptedLLM
) -> None:
    assert "UnknownAgent: no agent is named 'nobody'" in error_of(
        await talk(orchestrator, tools=["nobody"])
    )
    assert llm.requests == []


async def test_a_model_that_never_answers_ends_at_max_turns(
    orchestrator: Orchestrator, llm: ScriptedLLM
) -> None:
    for _ in range(3):
        llm.call_tools(("weather", {"city": "Oslo"}))
    llm.say("Clear at last")
    record = await talk(orchestrator, tools=NAMES, max_turns=3)
    assert error_of(record) == (
        "TooManyTurns: the model still asks for tools after 3 turns; the conversation is kept:"
        " continue it without a message, or with a greater max_turns"
    )
    assert len(llm.requests) == 3
    partial = await orchestrator.partial(record.id)
    assert (partial["conversation"], partial["turns"]) == (record.id, 3)
    assert len(await stored(orchestrator, record.id)) == 7
    found = await said(orchestrator, None, conversation=record.id, tools=NAMES)
    assert (found["reply"], found["messages"]) == ("Clear at last", 8)


async def test_a_conversation_goes_on_after_the_endpoint_failed(
    orchestrator: Orchestrator, llm: ScriptedLLM
) -> None:
    llm.call_tools(("weather", {"city": "Oslo"}))
    llm.fail(400, "the context is too long")
    llm.say("Clear")
    record = await talk(orchestrator, tools=NAMES)
    assert "BadRequestError" in error_of(record)
    assert (await orchestrator.partial(record.id))["conversation"] == record.id
    found = await said(orchestrator, None, conversation=record.id)
    assert (found["reply"], found["messages"]) == ("Clear", 4)


def test_the_page_has_every_input() -> None:
    page = DOCS / "how-to" / "hold-a-conversation.md"
    rows = re.findall(r"^\| `(\w+)` \| (\w*)", page.read_text(), re.MULTILINE)
    properties = chat.input_schema["properties"]
    assert [name for name, _ in rows] == list(properties)
    for name, shown in rows:
        default = properties[name].get("default")
        assert shown == (json.dumps(default) if default else "none" if default == [] else "")

"""Chats for tests: tools, and the stored conversation as another run finds it."""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import openai  # noqa: F401  # loading it takes a thread and real time, once
import pytest
import trio

from orchestrator import Context, RunStatus, agent, open_orchestrator
from orchestrator.agents.chat import chat, read_conversation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestrator import Orchestrator, RunRecord
    from orchestrator.testing import ScriptedHTTP, ScriptedLLM


@agent
async def weather(ctx: Context, city: str, seconds: float = 0) -> dict[str, str]:
    """What the weather is like."""
    await ctx.sleep(seconds)
    return {"city": city, "sky": "clear"}


@agent
async def measure(ctx: Context, seconds: float) -> str:
    """Takes its time within one operation."""
    async with ctx.operation("measure"):
        await trio.sleep(seconds)
    return "21 °C"


@agent
async def broken(ctx: Context) -> None:
    """Cannot do what it should."""
    raise ValueError("no battery")


TOOLS = [weather, measure, broken]
NAMES = [each.name for each in TOOLS]


@pytest.fixture
def llm(scripted_llm: ScriptedLLM, monkeypatch: pytest.MonkeyPatch) -> ScriptedLLM:
    """A model that answers from a script, and an environment that leads to it."""
    monkeypatch.setenv("QUIESCE_LLM_BASE_URL", scripted_llm.base_url)
    monkeypatch.setenv("QUIESCE_LLM_MODEL", "small")
    monkeypatch.delenv("QUIESCE_LLM_PRICES", raising=False)
    return scripted_llm


@pytest.fixture
async def orchestrator(
    scripted_http: ScriptedHTTP, llm: ScriptedLLM
) -> AsyncIterator[Orchestrator]:
    """An orchestrator with tools, whose model is scripted. A test that also asks for
    ``autojump_clock`` has virtual time."""
    async with open_orchestrator(agents=TOOLS, transport=scripted_http) as opened:
        yield opened


async def talk(orchestrator: Orchestrator, message: str | None = "hi", **input: Any) -> RunRecord:
    """Let a chat come to its end, whatever that is."""
    owner, given = input.pop("owner", "ann"), {"message": message, **input}
    with trio.fail_after(1000):
        run = await orchestrator.start(chat, given, owner=owner)
        return await run.wait()


async def said(orchestrator: Orchestrator, message: str | None = "hi", **input: Any) -> Any:
    """Let a chat come to an answer, and return its result."""
    record = await talk(orchestrator, message, **input)
    assert record.status is RunStatus.SUCCEEDED, record.error
    assert await orchestrator.partial(record.id) == record.result
    return record.result


@agent
async def reader(ctx: Context, conversation: str) -> list[dict[str, Any]]:
    return await read_conversation(ctx, conversation)


async def stored(
    orchestrator: Orchestrator, conversation: str, owner: str = "ann"
) -> list[dict[str, Any]]:
    """Return a conversation as it is stored; it is one that an endpoint takes."""
    run = await orchestrator.start(reader, {"conversation": conversation}, owner=owner)
    messages: list[dict[str, Any]] = (await run.wait()).result
    assert_valid(messages)
    return messages


def assert_valid(messages: list[dict[str, Any]]) -> None:
    """Each tool call has one result, right after it; each text is text, all arguments objects."""
    json.dumps(messages, ensure_ascii=False).encode()
    left = iter(messages)
    for message in left:
        assert message["role"] in ("system", "user", "assistant")
        calls = message.get("tool_calls", [])
        assert all(isinstance(json.loads(c["function"]["arguments"]), dict) for c in calls)
        results = list(itertools.islice(left, len(calls)))
        assert [each["role"] for each in results] == ["tool"] * len(calls)
        assert [each["tool_call_id"] for each in results] == [each["id"] for each in calls]
        assert len({each["id"] for each in calls}) == len(calls)


def results_in(messages: list[dict[str, Any]]) -> list[str]:
    """Return what the tools have brought."""
    return [each["content"] for each in messages if each["role"] == "tool"]

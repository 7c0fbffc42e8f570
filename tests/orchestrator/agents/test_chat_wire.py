"""Conversations with a model behind a real socket, seen from the other end of the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from orchestrator import Orchestrator, Run, RunStatus, open_orchestrator
from orchestrator.agents.chat import chat
from tests.orchestrator.agents.chatting import (
    NAMES,
    TOOLS,
    assert_valid,
    results_in,
    said,
    stored,
    talk,
)
from tests.orchestrator.llm_server import hang, open_model_server, say, send

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.orchestrator.llm_server import ModelServer

# Within this the server sees a connection closed, once the stop has cut it.
CLOSED_S = 0.5


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelServer]:
    """A model behind a socket, and an environment that leads to it."""
    async with open_model_server() as opened:
        monkeypatch.setenv("QUIESCE_LLM_BASE_URL", opened.url)
        monkeypatch.setenv("QUIESCE_LLM_MODEL", "small")
        monkeypatch.delenv("QUIESCE_LLM_PRICES", raising=False)
        yield opened


@pytest.fixture
async def orchestrator(server: ModelServer) -> AsyncIterator[Orchestrator]:
    """An orchestrator with tools, on the real network."""
    async with open_orchestrator(agents=TOOLS) as opened:
        yield opened


async def begin(orchestrator: Orchestrator, message: str = "hi", **input: Any) -> Run:
    given = {"message": message, "tools": NAMES, **input}
    return await orchestrator.start(chat, given, owner="ann")


def sent_to(server: ModelServer) -> list[dict[str, Any]]:
    """Return the messages of the last request."""
    messages: list[dict[str, Any]] = server.asked[-1].body["messages"]
    assert_valid(messages)
    return messages


@pytest.mark.parametrize("stream", [True, False])
async def test_tools_are_used_until_there_is_an_answer(
    stream: bool, orchestrator: Orchestrator, server: ModelServer
) -> None:
    """This endpoint gives the calls of each turn the same ids, and now and then broken JSON."""
    server.will(
        say("Let me ", "see", calls=[("weather", {"city": "Oslo"}), ("broken", "{")]),
        say(calls=[("weather", {"city": "Rome"}), ("weather", '["Bern"]')]),
        say("All ", "clear"),
    )
    with trio.fail_after(20):
        found = await said(orchestrator, tools=NAMES, stream=stream)
    assert (found["reply"], found["turns"]) == ("All clear", 3)
    assert found["usage"] == {
        "requests": 3,
        "input_tokens": 30,
        "output_tokens": 15,
        "cost": 0.0,
    }
    assert results_in(sent_to(server)) == [
        '{"city": "Oslo", "sky": "clear"}',
        "error: the arguments must be a JSON object, but were: {",
        '{"city": "Rome", "sky": "clear"}',
        'error: the arguments must be a JSON object, but were: ["Bern"]',
    ]
    assert sent_to(server) == (await stored(orchestrator, found["conversation"]))[:-1]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_graceful_stop_keeps_the_answer_in_flight(
    stream: bool, orchestrator: Orchestrator, server: ModelServer
) -> None:
    go_on = trio.Event()
    server.will(say("one ", go_on, "two"), say("three"))
    with trio.fail_after(20):
        run = await begin(orchestrator, stream=stream)
        await server.until_asked()
        run.request_stop(grace_s=15)
        await trio.testing.wait_all_tasks_blocked(0.02)
        go_on.set()
        record = await run.wait()
        await server.until(lambda: server.open == [])
        assert record.status is RunStatus.STOPPED
        await said(orchestrator, "And now?", conversation=run.id)
    assert [each["content"] for each in sent_to(server)] == ["hi", "one two", "And now?"]


@pytest.mark.parametrize("mode", ["now", "kill"])
@pytest.mark.parametrize("where", ["before the answer", "within the answer"])
async def test_a_cut_closes_the_connection_and_leaves_the_conversation(
    mode: str, where: str, orchestrator: Orchestrator, server: ModelServer
) -> None:
    never = trio.Event()
    server.will(hang() if where == "before the answer" else say("so ", "far", never))
    with trio.fail_after(20):
        run = await begin(orchestrator)
        await server.until_asked()
        await trio.testing.wait_all_tasks_blocked(0.02)
        began = trio.current_time()
        await run.stop(mode=mode)
        await server.until(lambda: server.open == [])
        closed = server.connections[0].closed
        assert closed is not None
        assert closed - began < CLOSED_S
        assert await stored(orchestrator, run.id) == [{"role": "user", "content": "hi"}]
        assert len(server.asked) == 1
        server.will(say("fine"))
        assert (await said(orchestrator, None, conversation=run.id))["reply"] == "fine"
    assert sent_to(server) == [{"role": "user", "content": "hi"}]


async def test_a_stop_between_calls_and_results_leaves_a_conversation_that_the_endpoint_takes(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    server.will(
        say(calls=[("measure", {"seconds": 0}), ("weather", {"city": "Oslo", "seconds": 60})]),
        say("fine"),
    )
    with trio.fail_after(20):
        run = await begin(orchestrator)
        while not any(each.agent.name == "weather" for each in run.children):
            await trio.sleep(0.01)
        while len(run.children) > 1:
            await trio.sleep(0.01)
        # Whoever called the one that has ended has yet to hear of it.
        await trio.testing.wait_all_tasks_blocked()
        await run.stop(mode="now", reason="tea")
        await said(orchestrator, "Go on", conversation=run.id)
    assert results_in(sent_to(server)) == [
        "21 °C",
        "interrupted: the run was stopped by user (tea) before this tool finished;"
        " its effects are unknown",
    ]


async def test_an_answer_that_breaks_off_is_no_part_of_the_conversation(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    piece = b'data: {"choices": [{"index": 0, "delta": {"content": "so far"}}]}\n\n'
    server.will(send(piece, end=False), say("fine"))
    with trio.fail_after(20):
        record = await talk(orchestrator)
        assert record.status is RunStatus.FAILED
        assert await stored(orchestrator, record.id) == [{"role": "user", "content": "hi"}]
        assert (await said(orchestrator, None, conversation=record.id))["reply"] == "fine"

"""Answers of models as turns, whatever the model or its endpoint makes up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.agents._chat.turns import (
    UNFINISHED,
    as_text,
    final_answer,
    interrupted,
    last_turn,
    to_send,
    turn_of,
    unfinished,
)
from orchestrator.llm import Reply, ToolCall
from tests.orchestrator.agents.chatting import assert_valid, results_in

TOOLS = ("weather", "my.tool")


def reply(*calls: ToolCall, text: str = "") -> Reply:
    said = Reply(text)
    said.tool_calls = calls
    return said


def test_an_answer_without_tools_is_one_message() -> None:
    turn = turn_of(reply(text="fine"), TOOLS)
    assert turn == [{"role": "assistant", "content": "fine"}]
    assert final_answer(turn) == "fine"


def test_each_call_has_a_result_from_the_first_moment() -> None:
    turn = turn_of(
        reply(ToolCall("a", "weather", {"city": "Oslo"}), ToolCall("b", "my.tool")), TOOLS
    )
    assert_valid(turn)
    assert results_in(turn) == [UNFINISHED] * 2
    assert final_answer(turn) is None
    assert turn[0]["tool_calls"] == [
        {
            "id": "a",
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city": "Oslo"}'},
        },
        {"id": "b", "type": "function", "function": {"name": "my.tool", "arguments": "{}"}},
    ]


def test_ids_that_are_the_same_are_told_apart() -> None:
    turn = turn_of(reply(*[ToolCall("a", "weather", {"n": n}) for n in range(3)]), TOOLS)
    assert_valid(turn)
    assert [each["tool_call_id"] for each in turn[1:]] == ["a", "a_1", "a_2"]


@pytest.mark.parametrize(
    ("name", "kept"),
    [("functions.weather", "functions_weather"), ("", "unnamed"), ("x" * 99, "x" * 64)],
)
def test_names_that_no_endpoint_takes_back_are_changed(name: str, kept: str) -> None:
    turn = turn_of(reply(ToolCall("a", name)), TOOLS)
    assert turn[0]["tool_calls"][0]["function"]["name"] == kept
    assert results_in(turn) == [f"error: no tool is named {name!r}; tools: my.tool, weather"]


def test_arguments_that_are_no_object_are_quoted_and_not_sent_again() -> None:
    turn = turn_of(reply(ToolCall("a", "weather", raw='{"city": ')), TOOLS)
    assert_valid(turn)
    assert results_in(turn) == ['error: the arguments must be a JSON object, but were: {"city": ']


def test_only_the_last_turn_has_unfinished_calls() -> None:
    first = turn_of(reply(ToolCall("a", "weather")), TOOLS)
    second = turn_of(reply(ToolCall("a", "weather", {"n": 2}), ToolCall("b", "other")), TOOLS)
    messages = [{"role": "user", "content": "hi"}, *first, *second]
    assert last_turn(messages) == 3
    [(place, function, result)] = unfinished(messages)
    assert (place, json.loads(function["arguments"])) == (4, {"n": 2})
    assert result is messages[4]
    result["content"] = "done"
    assert list(unfinished(messages)) == []
    assert list(unfinished([])) == []
    assert list(unfinished(messages[:1])) == []


def test_the_latest_instructions_come_first() -> None:
    messages = [
        {"role": role, "content": role + str(n)} for n in range(2) for role in ("system", "user")
    ]
    assert [each["content"] for each in to_send(messages)] == ["system1", "user0", "user1"]


@pytest.mark.parametrize(
    ("result", "text"),
    [("é", "é"), ({"é": [1, None]}, '{"é": [1, null]}'), (None, "null"), ("\udcff", "?")],
)
def test_results_are_text(result: Any, text: str) -> None:
    assert as_text(result, 1) == text


@pytest.mark.parametrize(
    ("why", "begun", "words"),
    [
        ("stopped by user: a: b", True, "stopped by user (a: b) before this tool finished;"),
        ("stopped by user: ", False, "stopped by user before this tool began; it did nothing"),
        ("", True, "stopped before this tool finished; its effects are unknown"),
    ],
)
def test_interrupted_tools_say_why(why: str, begun: bool, words: str) -> None:
    assert interrupted(why, begun=begun).startswith(f"interrupted: the run was {words}")

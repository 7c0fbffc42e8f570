"""What a model answers and what its tools bring, as the messages that are kept of it.

A turn is an answer and a result for each tool that it asks for. It has all of them from its first
moment: the result of a tool that has not finished says that it was interrupted, and is replaced
when the tool finishes. So a conversation is valid whenever it is stored, whatever comes between.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from orchestrator.llm import Reply, ToolCall

Message: TypeAlias = "dict[str, Any]"

UNFINISHED = "interrupted: the run ended before this tool finished; its effects are unknown"
# How many characters the results of one turn have in all; longer ones are cut.
RESULT_CHARACTERS = 120_000
_QUOTED = 1_000


def turn_of(reply: Reply, tools: Collection[str]) -> list[Message]:
    """Return an answer as a turn.

    Args:
        tools: the names that it may call; a call that cannot be made has its error as its result.
    """
    calls = _with_own_ids(reply.tool_calls)
    message = dict(reply.message)
    if calls:
        message["tool_calls"] = [_as_asked(call_id, call, tools) for call_id, call in calls]
    results = [
        {"role": "tool", "tool_call_id": call_id, "content": _fault(call, tools) or UNFINISHED}
        for call_id, call in calls
    ]
    return [message, *results]


def unfinished(messages: Sequence[Message]) -> Iterator[tuple[int, Message, Message]]:
    """Yield the tool calls of the last turn that have no result yet.

    Yields:
        the place of the result among the messages; the function that is called, with its ``name``
        and ``arguments``; and the message for its result.
    """
    at = last_turn(messages)
    calls = messages[at].get("tool_calls", ()) if messages else ()
    for place, call in enumerate(calls, at + 1):
        if messages[place]["content"] == UNFINISHED:
            yield place, call["function"], messages[place]


def last_turn(messages: Sequence[Message]) -> int:
    """Return the place of the last message that is no tool's."""
    at = len(messages) - 1
    while at > 0 and messages[at]["role"] == "tool":
        at -= 1
    return at


def final_answer(messages: Sequence[Message]) -> str | None:
    """Return the text of the last message if it is an answer that asks for no tools."""
    if not messages or messages[-1]["role"] != "assistant" or "tool_calls" in messages[-1]:
        return None
    text: str = messages[-1]["content"]
    return text


def to_send(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the latest system prompt first, and no other."""
    prompts = [each for each in messages if each["role"] == "system"]
    return prompts[-1:] + [each for each in messages if each["role"] != "system"]


def as_text(result: object, results: int) -> str:
    """Return a tool's result as the model gets it; ``results`` is how many its turn has."""
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
    most = RESULT_CHARACTERS // max(results, 1)
    if len(text) > most:
        text = f"{text[:most]}… (cut here: it has {len(text)} characters)"
    return str(clean(text))


def interrupted(why: str, *, begun: bool) -> str:
    """Return the result of a tool that a stop kept from finishing.

    Args:
        why: such as ``stopped by user: changed my mind``; empty if nobody knows.
    """
    what, _, reason = (why or "stopped").partition(": ")
    what += f" ({reason})" if reason else ""
    so = "finished; its effects are unknown" if begun else "began; it did nothing"
    return f"interrupted: the run was {what} before this tool {so}"


def clean(value: Any) -> Any:
    """Return JSON in which all text is text: no endpoint takes half a surrogate pair."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))


def _with_own_ids(calls: Sequence[ToolCall]) -> list[tuple[str, ToolCall]]:
    """Give each call an id of its own, where an endpoint gives several the same."""
    own: dict[str, ToolCall] = {}
    for number, call in enumerate(calls):
        own[call.id if call.id not in own else f"{call.id}_{number}"] = call
    return list(own.items())


def _as_asked(call_id: str, call: ToolCall, tools: Collection[str]) -> Message:
    """Return a call in a form that every endpoint takes back, whatever the model made up."""
    name = call.name
    if name not in tools:
        name = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64] or "unnamed"
    function = {"name": name, "arguments": json.dumps(call.arguments)}
    return {"id": call_id, "type": "function", "function": function}


def _fault(call: ToolCall, tools: Collection[str]) -> str | None:
    """Return why a call cannot be made, in words for the model."""
    if call.name not in tools:
        known = ", ".join(sorted(tools)) or "none"
        return f"error: no tool is named {call.name[:_QUOTED]!r}; tools: {known}"
    if call.raw is not None:
        return f"error: the arguments must be a JSON object, but were: {call.raw[:_QUOTED]}"
    return None

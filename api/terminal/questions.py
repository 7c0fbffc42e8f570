"""Questions to people, in words; and what a run has spent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.text import Text

from api.terminal.look import AMBER, GREY, clean, clock_of
from orchestrator import Question

if TYPE_CHECKING:
    from orchestrator import Event, Usage

QUESTION = f"bold {AMBER}"
# Of a schema that has no simpler words so much is shown.
SHOWN_SCHEMA = 200

_TYPES = {
    "string": "a text",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}


def asked_by(event: Event) -> Question:
    """Return the question of a ``run.asked``."""
    data = event.data
    return Question(
        id=data["question_id"],
        question=data["question"],
        schema=data["schema"],
        asked_at=event.at,
        until_at=data["until_at"],
    )


def question_block(question: Question) -> Text:
    """Return what is asked, and what would be an answer."""
    wanted = wanted_in(question.schema)
    until = f", until {clock_of(question.until_at)}" if question.until_at is not None else ""
    return Text.assemble(
        (clean(question.question), QUESTION), (f"\n  the answer is {clean(wanted)}{until}", GREY)
    )


def wanted_in(schema: Any) -> str:
    """Return in words what values a JSON Schema lets through."""
    match schema:
        case {"enum": [_, *_] as values}:
            return "one of " + ", ".join(json.dumps(each, ensure_ascii=False) for each in values)
        case {"type": str(kind)} if kind in _TYPES:
            return _TYPES[kind]
        case {} if not schema:
            return "anything"
    text = json.dumps(schema, ensure_ascii=False)
    return text if len(text) <= SHOWN_SCHEMA else f"{text[:SHOWN_SCHEMA]}…"


def usage_words(usage: Usage) -> str:
    """Return what was spent on language models; empty if nothing was."""
    if not usage.requests:
        return ""
    cost = f", ${usage.cost:.4f}" if usage.cost else ""
    tokens = f"{usage.input_tokens} tokens in, {usage.output_tokens} out"
    return f"{usage.requests} model calls, {tokens}{cost}"

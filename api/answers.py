"""The JSON shapes of the interface: what answers look like."""

from __future__ import annotations

import json
from dataclasses import asdict
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python
from quart.json.provider import DefaultJSONProvider

from orchestrator import RunRecord, RunStatus, available_actions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator import Agent, Event, Question, Receipt, Run, TaskStack


class Plain(DefaultJSONProvider):
    """JSON that every parser takes: a number for which it has no word is null, as in browsers."""

    sort_keys = False

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """Return JSON text."""
        kwargs["allow_nan"] = False
        try:
            return super().dumps(obj, **kwargs)
        except ValueError:
            return super().dumps(to_jsonable_python(obj, inf_nan_mode="null"), **kwargs)


def run_json(record: RunRecord, live: Run | None = None) -> dict[str, Any]:
    """Return a run as JSON, without its partial result.

    Args:
        live: the run, if it has not ended: its receipt then is the account so far.
    """
    receipt = record.stop
    if live is not None and record.status is RunStatus.STOPPING:
        receipt = live.receipt
    return {
        **dict(zip(PLAIN_FIELDS, _PLAIN_OF(record), strict=True)),
        "waiting_for": _question_json(record.waiting_for),
        "available_actions": _actions(record, live),
        "tags": list(record.tags),
        **_RECORD.dump_python(record, mode="json", include=_PARTS),
        "stop": receipt_json(receipt),
    }


# Of a run, what is shown as its record has it.
PLAIN_FIELDS = (
    "id",
    "agent",
    "status",
    "parent_id",
    "root_id",
    "owner",
    "input",
    "result",
    "created_at",
    "started_at",
    "ended_at",
    "deadline_at",
    "attempt",
    "node",
    "rerun_of",
)
_PARTS = {"options", "error", "progress", "usage"}
_PLAIN_OF = attrgetter(*PLAIN_FIELDS)
_RECORD = TypeAdapter(RunRecord)


def _question_json(question: Question | None) -> dict[str, Any] | None:
    if question is None:
        return None
    fields: dict[str, Any] = to_jsonable_python(question)
    return {"question_id": fields.pop("id"), **fields}


def _actions(record: RunRecord, live: Run | None) -> list[str]:
    actions = list(available_actions(record.status))
    if live is not None and live.parent is not None and live.parent.is_held:
        # Nothing goes on below what is paused.
        actions = [each for each in actions if each not in ("resume", "step")]
    # A stop withdraws every question.
    asks = record.waiting_for is not None and record.status is not RunStatus.STOPPING
    return [*actions, "answer"] if asks else actions


def receipt_json(receipt: Receipt | None) -> dict[str, Any] | None:
    """Return a receipt as JSON."""
    plain: dict[str, Any] | None = to_jsonable_python(receipt)
    return plain


def tree_json(records: Sequence[RunRecord], live: Mapping[str, Run]) -> dict[str, Any]:
    """Return runs, parents before children, as one run with nested ``children``."""
    nodes: dict[str, dict[str, Any]] = {}
    for record in records:
        node = run_json(record, live.get(record.id)) | {"children": []}
        nodes[record.id] = node
        parent = nodes.get(record.parent_id or "")
        if parent is not None:
            parent["children"].append(node)
    return nodes[records[0].id]


def event_json(event: Event) -> dict[str, Any]:
    """Return an event as JSON."""
    plain: dict[str, Any] = to_jsonable_python(event, inf_nan_mode="null")
    return plain


def event_text(event: Event) -> str:
    """Return an event as JSON text, on one line."""
    try:
        return to_json(event, inf_nan_mode="null").decode()
    except PydanticSerializationError:
        # A lone surrogate has no UTF-8 form, but an escape.
        return json.dumps(event_json(event), allow_nan=False)


def agent_json(agent: Agent) -> dict[str, Any]:
    """Return an agent as JSON."""
    return {
        "name": agent.name,
        "description": agent.description,
        "input_schema": agent.input_schema,
        "isolation": agent.options.isolation,
        "options": asdict(agent.options),
    }


def stack_json(stacks: Sequence[TaskStack]) -> dict[str, Any]:
    """Return await stacks as JSON, innermost frame last."""
    return {"tasks": [asdict(stack) for stack in stacks]}

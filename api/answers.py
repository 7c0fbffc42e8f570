"""The JSON shapes of the interface: what answers look like."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from orchestrator import RunRecord, RunStatus, available_actions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator import Agent, Question, Receipt, Run, TaskStack


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


def brief_json(record: RunRecord, live: Run | None = None) -> dict[str, Any]:
    """Return a run as JSON without what may be large."""
    shown = run_json(record, live)
    return {name: value for name, value in shown.items() if name not in LARGE_FIELDS}


LARGE_FIELDS = ("input", "result")
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


def tree_json(records: Sequence[RunRecord], live: Callable[[str], Run | None]) -> dict[str, Any]:
    """Return runs, the first of which is above all others, as one run with nested ``children``;
    those are made when their turn comes (see ``encoding``)."""
    below = defaultdict(list)
    for record in records:
        below[record.parent_id].append(record)

    def node(record: RunRecord) -> dict[str, Any]:
        children = below[record.id]
        of_run = run_json(record, live(record.id))
        return of_run | {"children": map(node, children) if children else []}

    return node(records[0])


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

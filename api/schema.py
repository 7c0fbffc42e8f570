"""The JSON shapes of the interface: what requests must look like, and what answers do."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import pydantic
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from orchestrator import (
    InvalidInput,
    RunFilter,
    RunRecord,
    RunStatus,
    StopMode,
    available_actions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from orchestrator import Agent, Event, Notice, Question, Receipt, Run, TaskStack

MAX_WAIT_S = 3600.0
MAX_DEADLINE_S = 10 * 365 * 86_400.0
MAX_PAGE = 500


Address = Annotated[str, pydantic.StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]


class _Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class StartOrder(_Order):
    """The body of ``POST /runs``."""

    agent: str
    input: dict[str, Any] = {}
    options: dict[str, Any] = {}


class StopOrder(_Order):
    """The body of ``POST /runs/{id}/stop``; all of it may be left out."""

    mode: StopMode = StopMode.GRACEFUL
    grace_s: float | None = pydantic.Field(None, strict=True, ge=0, le=86_400)
    reason: str = pydantic.Field("", max_length=2_000)
    wait_s: float = pydantic.Field(0, strict=True, ge=0, le=MAX_WAIT_S)
    discard: bool = False


class ControlOrder(_Order):
    """The body of ``POST /runs/{id}/pause``, ``resume`` and ``step``; may be left out."""

    reason: str = pydantic.Field("", max_length=2_000)


class AnswerOrder(_Order):
    """The body of ``POST /runs/{id}/answer``."""

    question_id: str
    answer: Any


class ChangeOrder(_Order):
    """The body of ``PATCH /runs/{id}``."""

    deadline_s: float | None = pydantic.Field(strict=True, gt=0, le=MAX_DEADLINE_S)
    tags: Any = None

    @pydantic.field_validator("tags")
    @classmethod
    def _refuse(cls, _: object) -> None:
        raise ValueError("cannot be changed yet")


class RerunOrder(_Order):
    """The body of ``POST /runs/{id}/rerun``; may be left out."""

    from_step: str | None = None


class AuditQuery(_Order):
    """The query of the audit; ``run`` is a run's id."""

    principal: str | None = None
    action: str | None = None
    run: str | None = None
    after: str | None = pydantic.Field(None, pattern=r"^[0-9T:.Z-]{20,30}-[0-9a-f]{8}-[0-9]{12}$")
    limit: int = pydantic.Field(50, ge=1, le=MAX_PAGE)

    def where(self) -> dict[str, str]:
        """Return the fields of an entry that are asked for."""
        asked = {"principal": self.principal, "action": self.action, "run_id": self.run}
        return {name: value for name, value in asked.items() if value is not None}


class LoginOrder(_Order):
    """The body of ``POST /session``: a token, or a wallet's address with its signature."""

    token: str | None = None
    address: Address | None = None
    signature: str | None = pydantic.Field(None, pattern=r"^0x[0-9a-fA-F]{130}$")

    @pydantic.model_validator(mode="after")
    def _one_of_both(self) -> Self:
        given = [each is not None for each in (self.token, self.address, self.signature)]
        if given not in ([True, False, False], [False, True, True]):
            raise ValueError("give either `token`, or `address` and `signature`")
        return self


class ChallengeOrder(_Order):
    """The body of ``POST /session/challenge``."""

    address: Address


class WaitQuery(_Order):
    """The query of a call that may wait for the run's end."""

    wait_s: float = pydantic.Field(0, ge=0, le=MAX_WAIT_S)


class EventsQuery(_Order):
    """The query of a feed."""

    after: int = pydantic.Field(0, ge=0, lt=2**63)
    limit: int = pydantic.Field(MAX_PAGE, ge=1, le=MAX_PAGE)


class AllEventsQuery(_Order):
    """The query of the feed of all runs. ``types`` may be several, with commas, and families."""

    after: str | None = None
    root: str | None = None
    agent: str | None = None
    types: str | None = None

    def where(self, sees: Callable[[str], bool]) -> Callable[[Notice], bool]:
        """Return what tells whether to hear of an event.

        Args:
            sees: whether a run of that owner may be seen.
        """
        types = frozenset(self.types.split(",")) if self.types is not None else None
        families = tuple(each[:-1] for each in types or () if each.endswith(".*"))

        def chosen(notice: Notice) -> bool:
            event = notice.event
            return (
                sees(notice.owner)
                and self.root in (None, event.root_id)
                and self.agent in (None, notice.agent)
                and (types is None or event.type in types or event.type.startswith(families))
            )

        return chosen


class RunsQuery(_Order):
    """The query of a list. ``status`` may be several, with commas; ``parent=none`` are roots."""

    status: str | None = None
    agent: str | None = None
    owner: str | None = None
    tag: str | None = None
    root: str | None = None
    parent: str | None = None
    after: str | None = None
    limit: int = pydantic.Field(50, ge=1, le=MAX_PAGE)

    def filter(self) -> RunFilter:
        """Return the filter that the query means.

        Raises:
            InvalidInput: a status is unknown.
        """
        return RunFilter(
            statuses=None if self.status is None else _statuses(self.status),
            agent=self.agent,
            owner=self.owner,
            tag=self.tag,
            root=self.root,
            parent="" if self.parent == "none" else self.parent,
        )


_AnyOrder = TypeVar("_AnyOrder", bound=_Order)


def parse(order: type[_AnyOrder], given: object) -> _AnyOrder:
    """Check a body or query.

    Raises:
        InvalidInput: names each field that is unknown or does not fit.
    """
    if not isinstance(given, dict):
        raise InvalidInput([("body", "must be a JSON object")])
    try:
        return order.model_validate(given)
    except pydantic.ValidationError as error:
        known = ", ".join(order.model_fields)
        raise InvalidInput(
            [
                (
                    ".".join(map(str, each["loc"])),
                    f"is not known; known are: {known}"
                    if each["type"] == "extra_forbidden"
                    else each["msg"].removeprefix("Value error, "),
                )
                for each in error.errors(include_url=False, include_context=False)
            ]
        ) from None


def _statuses(text: str) -> tuple[RunStatus, ...]:
    try:
        return tuple(RunStatus(word) for word in text.split(","))
    except ValueError:
        known = ", ".join(RunStatus)
        raise InvalidInput([("status", f"{text!r} is not of: {known}")]) from None


def run_json(record: RunRecord, live: Run | None = None) -> dict[str, Any]:
    """Return a run as JSON, without its partial result.

    Args:
        live: the run, if it has not ended: its receipt then is the account so far.
    """
    receipt = record.stop
    if live is not None and record.status is RunStatus.STOPPING:
        receipt = live.receipt
    fields = {name: getattr(record, name) for name in _PLAIN_FIELDS}
    return fields | {
        "waiting_for": _question_json(record.waiting_for),
        "available_actions": _actions(record),
        "tags": list(record.tags),
        "options": to_jsonable_python(record.options),
        "error": to_jsonable_python(record.error),
        "progress": to_jsonable_python(record.progress),
        "usage": to_jsonable_python(record.usage),
        "stop": receipt_json(receipt),
    }


_PLAIN_FIELDS = (
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


def _question_json(question: Question | None) -> dict[str, Any] | None:
    if question is None:
        return None
    fields: dict[str, Any] = to_jsonable_python(question)
    return {"question_id": fields.pop("id"), **fields}


def _actions(record: RunRecord) -> list[str]:
    actions = available_actions(record.status)
    # A stop withdraws every question.
    asks = record.waiting_for is not None and record.status is not RunStatus.STOPPING
    return [*actions, "answer"] if asks else list(actions)


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
    plain: dict[str, Any] = to_jsonable_python(event)
    return plain


def event_text(event: Event) -> str:
    """Return an event as JSON text, on one line."""
    try:
        return to_json(event).decode()
    except PydanticSerializationError:
        # A lone surrogate has no UTF-8 form, but an escape.
        return json.dumps(event_json(event))


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

"""The JSON shapes of the interface: what requests must look like."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

import pydantic

from api.auth.rights import ACTIONS
from orchestrator import (
    EVENT_TYPES,
    InvalidInput,
    RunFilter,
    RunStatus,
    StopMode,
    faults_of,
    is_agents_own,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator import Notice

MAX_WAIT_S = 3600.0
MAX_DEADLINE_S = 10 * 365 * 86_400.0
MAX_PAGE = 500
MAX_IDS = 1_000
# What may be asked for of events that are not an agent's own: types, and families of them.
TYPES = sorted(EVENT_TYPES | {f"{each.partition('.')[0]}.*" for each in EVENT_TYPES})


Address = Annotated[str, pydantic.StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$")]


class Order(pydantic.BaseModel):  # a body or query, of which nothing unknown is taken
    model_config = pydantic.ConfigDict(extra="forbid")


class StartOrder(Order):
    """The body of ``POST /runs``."""

    agent: str
    input: dict[str, Any] = pydantic.Field(default_factory=dict)
    options: dict[str, Any] = pydantic.Field(default_factory=dict)


class StopOrder(Order):
    """The body of ``POST /runs/{id}/stop``; all of it may be left out."""

    mode: StopMode = StopMode.GRACEFUL
    grace_s: float | None = pydantic.Field(None, strict=True, ge=0, le=86_400)
    reason: str = pydantic.Field("", max_length=2_000)
    wait_s: float = pydantic.Field(0, strict=True, ge=0, le=MAX_WAIT_S)
    discard: bool = pydantic.Field(False, strict=True)


class BulkStopOrder(StopOrder):
    """The body of ``POST /runs/stop``: that of one stop, and which runs, by one of the two."""

    ids: list[str] | None = pydantic.Field(None, min_length=1, max_length=MAX_IDS)
    filter: dict[str, Any] | None = None

    @pydantic.model_validator(mode="after")
    def _refuse_all_but_one(self) -> Self:
        if (self.ids is None) is (self.filter is None):
            raise ValueError("give either `ids` or `filter`")
        return self

    @pydantic.field_validator("filter")
    @classmethod
    def _refuse_everything(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        if given == {}:
            live = ",".join(status for status in RunStatus if not status.is_terminal)
            raise ValueError(f'is empty; every live run is {{"status": "{live}"}}')
        return given

    def where(self) -> RunFilter | None:
        """Return the filter, None if there are ids.

        Raises:
            InvalidInput: a key of it is unknown, or does not fit.
        """
        if self.filter is None:
            return None
        return parse(RunsFilter, self.filter, within="filter.").filter()


class ControlOrder(Order):
    """The body of ``POST /runs/{id}/pause``, ``resume`` and ``step``; may be left out."""

    reason: str = pydantic.Field("", max_length=2_000)


class AnswerOrder(Order):
    """The body of ``POST /runs/{id}/answer``."""

    question_id: str
    answer: Any


class ChangeOrder(Order):
    """The body of ``PATCH /runs/{id}``; one of the two may be left out."""

    deadline_s: float | None = pydantic.Field(None, strict=True, gt=0, le=MAX_DEADLINE_S)
    tags: list[str] | None = pydantic.Field(None, max_length=100)

    @pydantic.model_validator(mode="after")
    def _refuse_nothing(self) -> Self:
        if "deadline_s" not in self.model_fields_set and self.tags is None:
            raise ValueError("give `deadline_s`, `tags`, or both")
        return self


class RerunOrder(Order):
    """The body of ``POST /runs/{id}/rerun``; may be left out."""

    from_step: str | None = None


class AuditQuery(Order):
    """The query of the audit; ``run`` is a run's id."""

    principal: str | None = None
    action: str | None = None
    run: str | None = None
    after: str | None = pydantic.Field(None, pattern=r"^[0-9T:.Z-]{20,30}-[0-9a-f]{8}-[0-9]{12}$")
    limit: int = pydantic.Field(50, ge=1, le=MAX_PAGE)

    @pydantic.field_validator("action")
    @classmethod
    def _refuse_unknown(cls, given: str | None) -> str | None:
        if given is not None and given not in ACTIONS:
            raise ValueError(not_one_of(given, ACTIONS))
        return given

    def where(self) -> dict[str, str]:
        """Return the fields of an entry that are asked for."""
        asked = {"principal": self.principal, "action": self.action, "run_id": self.run}
        return {name: value for name, value in asked.items() if value is not None}


class LoginOrder(Order):
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


class ChallengeOrder(Order):
    """The body of ``POST /session/challenge``."""

    address: Address


class WaitQuery(Order):
    """The query of a call that may wait for the run's end."""

    wait_s: float = pydantic.Field(0, ge=0, le=MAX_WAIT_S)


class EventsQuery(Order):
    """The query of a feed."""

    after: int = pydantic.Field(0, ge=0, lt=2**63)
    limit: int = pydantic.Field(MAX_PAGE, ge=1, le=MAX_PAGE)


class AllEventsQuery(Order):
    """The query of the feed of all runs. ``types`` may be several, with commas, and families."""

    after: str | None = None
    root: str | None = None
    agent: str | None = None
    types: str | None = None

    @pydantic.field_validator("types")
    @classmethod
    def _refuse_unknown_types(cls, given: str | None) -> str | None:
        for each in [] if given is None else given.split(","):
            if each not in TYPES and not is_agents_own(re.sub(r"\.\*$", ".x", each)):
                raise ValueError(f"{not_one_of(each, TYPES)}; an agent's own are like order.paid")
        return given

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


class RunsFilter(Order):
    """Some runs. ``status`` may be several, with commas; ``parent`` is ``none`` for roots."""

    status: str | None = None
    agent: str | None = None
    owner: str | None = None
    tag: str | None = None
    root: str | None = None
    parent: str | None = None

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _refuse_null(cls, given: object) -> object:
        # It would match every run, as if the key had been left out.
        if given is None:
            raise ValueError("may not be null; give a value, or leave it out")
        return given

    @pydantic.field_validator("parent")
    @classmethod
    def _refuse_no_parent(cls, given: str | None) -> str | None:
        if given == "":
            raise ValueError("is empty; 'none' means runs that have no parent")
        return given

    @pydantic.field_validator("status")
    @classmethod
    def _refuse_unknown(cls, given: str | None) -> str | None:
        for each in [] if given is None else given.split(","):
            if each not in list(RunStatus):
                raise ValueError(not_one_of(each, list(RunStatus)))
        return given

    def filter(self) -> RunFilter:
        """Return the filter that is meant."""
        words = None if self.status is None else self.status.split(",")
        return RunFilter(
            statuses=None if words is None else tuple(map(RunStatus, words)),
            agent=self.agent,
            owner=self.owner,
            tag=self.tag,
            root=self.root,
            parent="" if self.parent == "none" else self.parent,
        )


class RunsQuery(RunsFilter):
    """The query of a list; a brief one leaves out the runs' inputs and results."""

    after: str | None = None
    limit: int = pydantic.Field(50, ge=1, le=MAX_PAGE)
    brief: bool = False


def not_one_of(given: str, known: Sequence[str]) -> str:
    """Return that it is none of these, and which of them was perhaps meant."""
    near = difflib.get_close_matches(given, known, n=1)
    perhaps = f" (is '{near[0]}' meant?)" if near else ""
    return f"{given!r} is not known{perhaps}; known are: {', '.join(known)}"


_AnyOrder = TypeVar("_AnyOrder", bound=Order)


def parse(order: type[_AnyOrder], given: object, within: str = "") -> _AnyOrder:
    """Check a body or query.

    Args:
        within: what stands before the names of its fields.

    Raises:
        InvalidInput: names each field that is unknown or does not fit.
    """
    if not isinstance(given, dict):
        raise InvalidInput([("body", "must be a JSON object")])
    try:
        return order.model_validate(given)
    except pydantic.ValidationError as error:
        faults = faults_of(error, order.model_fields)
        raise InvalidInput(
            [(within + ".".join(map(str, at)) or "body", why) for at, why in faults]
        ) from None

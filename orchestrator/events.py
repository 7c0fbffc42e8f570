"""What can happen in a run, as small frozen values named for it; and the numbered envelope.

A payload is what a run says; an ``Event`` is the payload with its place in the tree's feed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from orchestrator.model import RunStatus

if TYPE_CHECKING:
    from orchestrator.model import Json, RunId


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a feed.

    Attributes:
        seq: 1, 2, 3, … without a gap within the tree of ``root_id``.
        data: JSON object.
    """

    seq: int
    run_id: RunId
    root_id: RunId
    type: str
    at: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Payload:
    """What happened, before it has a number."""

    type: ClassVar[str]

    def data(self) -> dict[str, Any]:
        """Return the JSON object that goes into the event."""
        names = _NAMES.get(type(self))
        if names is None:
            names = _NAMES[type(self)] = tuple(each.name for each in fields(self))
        return {name: getattr(self, name) for name in names}


# The fields of each kind of payload: asking for them anew costs more than all the rest.
_NAMES: dict[type[Payload], tuple[str, ...]] = {}


@dataclass(frozen=True, slots=True)
class RunQueued(Payload):
    type: ClassVar[str] = "run.queued"
    agent: str
    parent_id: RunId | None


@dataclass(frozen=True, slots=True)
class RunStarted(Payload):
    type: ClassVar[str] = "run.started"
    agent: str
    attempt: int


@dataclass(frozen=True, slots=True)
class RunProgress(Payload):
    type: ClassVar[str] = "run.progress"
    percent: float
    message: str


@dataclass(frozen=True, slots=True)
class RunLog(Payload):
    type: ClassVar[str] = "run.log"
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class RunPartial(Payload):
    """The partial result has changed; the value itself is read from the run."""

    type: ClassVar[str] = "run.partial"
    size: int


@dataclass(frozen=True, slots=True)
class RunArtifact(Payload):
    type: ClassVar[str] = "run.artifact"
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class RunPausing(Payload):
    """Nothing new starts; what is in flight finishes."""

    type: ClassVar[str] = "run.pausing"
    requested_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunPaused(Payload):
    """Nothing of the run or below it is in flight any more."""

    type: ClassVar[str] = "run.paused"


@dataclass(frozen=True, slots=True)
class RunResumed(Payload):
    """The run goes on, if ``step`` only through its next gate."""

    type: ClassVar[str] = "run.resumed"
    requested_by: str
    step: bool


@dataclass(frozen=True, slots=True)
class RunAsked(Payload):
    """A question to a person."""

    type: ClassVar[str] = "run.asked"
    question_id: str
    question: str
    schema: Json
    until_at: str | None


@dataclass(frozen=True, slots=True)
class RunAnswered(Payload):
    type: ClassVar[str] = "run.answered"
    question_id: str
    answer: Json
    answered_by: str


@dataclass(frozen=True, slots=True)
class RunWithdrawn(Payload):
    """A question waits no more, although nobody answered: it timed out, or its run is stopped."""

    type: ClassVar[str] = "run.withdrawn"
    question_id: str


@dataclass(frozen=True, slots=True)
class RunDeadline(Payload):
    """The deadline was moved; None takes it away."""

    type: ClassVar[str] = "run.deadline"
    deadline_at: str | None
    requested_by: str


@dataclass(frozen=True, slots=True)
class RunTagged(Payload):
    """The run has these tags now, and no others."""

    type: ClassVar[str] = "run.tagged"
    tags: list[str]
    requested_by: str


@dataclass(frozen=True, slots=True)
class StepFinished(Payload):
    """A durable step is done, or was found done (``reused``) by an earlier attempt or run."""

    type: ClassVar[str] = "step.finished"
    name: str
    seconds: float
    reused: bool


@dataclass(frozen=True, slots=True)
class RunStopping(Payload):
    type: ClassVar[str] = "run.stopping"
    mode: str
    grace_s: float
    source: str
    requested_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunEscalated(Payload):
    """The stop went up a rung: by a second request, or since the time for the first was over."""

    type: ClassVar[str] = "run.escalated"
    mode: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class RunEnded(Payload):
    """The run's last event. Its type says how it ended: ``run.succeeded``, ``run.lost``, …"""

    status: str
    result: Json
    error: dict[str, Any] | None
    receipt: dict[str, Any] | None

    @property
    def type(self) -> str:  # type: ignore[override]  # the one payload with seven names
        """The event type for this ending."""
        return f"run.{self.status}"


@dataclass(frozen=True, slots=True)
class OperationStarted(Payload):
    type: ClassVar[str] = "operation.started"
    operation: int
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class OperationFinished(Payload):
    type: ClassVar[str] = "operation.finished"
    operation: int
    kind: str
    label: str
    seconds: float
    error: str | None


@dataclass(frozen=True, slots=True)
class OperationCut(Payload):
    """The operation was ended before its time by a stop or by a limit around it.

    ``effect`` says what that did, such as ``connection closed``: no more than we know.
    """

    type: ClassVar[str] = "operation.cut"
    operation: int
    kind: str
    label: str
    seconds: float
    effect: str


@dataclass(frozen=True, slots=True)
class OperationWasRefused(Payload):
    type: ClassVar[str] = "operation.refused"
    kind: str
    label: str


@dataclass(frozen=True, slots=True)
class LlmDelta(Payload):
    """A piece of what a model answers, within that operation."""

    type: ClassVar[str] = "llm.delta"
    operation: int
    text: str


@dataclass(frozen=True, slots=True)
class UserEvent(Payload):
    """An event of the agent's own, by ``ctx.emit``."""

    name: str
    value: dict[str, Any]

    @property
    def type(self) -> str:  # type: ignore[override]  # named by the agent
        """The agent's own event type."""
        return self.name

    def data(self) -> dict[str, Any]:
        """Return the agent's own JSON object."""
        return self.value


# The types of a run's last event.
ENDINGS = frozenset(f"run.{status}" for status in RunStatus if status.is_terminal)
# The types of all events but those of agents' own, and the families that agents' own are not in.
EVENT_TYPES = ENDINGS | {
    kind.type for kind in Payload.__subclasses__() if isinstance(vars(kind).get("type"), str)
}
_FAMILIES = ("run.", "operation.", "step.", "llm.")
_DOTTED = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")


@lru_cache(maxsize=256)
def is_agents_own(event_type: str) -> bool:
    """Whether an event of that type may be an agent's own, by ``ctx.emit``."""
    return bool(_DOTTED.fullmatch(event_type)) and not event_type.startswith(_FAMILIES)

"""What is sent, and what is kept of it until it has arrived."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic_core import to_json

from api.answers import run_json

if TYPE_CHECKING:
    from orchestrator import Event, RunRecord

COLLECTION = "deliveries"
# A result that is larger is left out: whoever wants it asks for the run.
MOST_OF_RESULT = 64 * 2**10

_FIELDS = (
    *("id", "agent", "status", "owner", "tags", "attempt", "rerun_of"),
    *("created_at", "started_at", "ended_at", "progress", "usage", "stop"),
)


class State(StrEnum):
    """Whether a delivery will be tried again."""

    WAITING = "waiting"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message on its way to one target. What has arrived is not kept.

    Attributes:
        id: the same in every attempt; grows with time.
        to: a URL, also ``mailto:``.
        body: JSON, as it is sent and signed.
        attempts: how many have failed.
        next_at: when it is tried next; None if it is dead.
        error: why the last attempt failed.
    """

    id: str
    run_id: str
    to: str
    body: str
    created_at: str
    next_at: str | None
    state: State = State.WAITING
    attempts: int = 0
    error: str = ""

    def json(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return asdict(self)

    def shown(self) -> dict[str, Any]:
        """Return it as it is shown: without its body."""
        return {name: value for name, value in self.json().items() if name != "body"}


_DELIVERY = TypeAdapter(Delivery)


def read_delivery(stored: Any) -> Delivery:
    """Return a delivery as it was stored."""
    return _DELIVERY.validate_python(stored)


def delivery_of(event: Event, record: RunRecord, to: str) -> Delivery:
    """Return the message that tells of the end of a run, on its way to a target."""
    at = record.ended_at or event.at
    # Keys of the store grow with time, so that the newest are found first.
    milliseconds = round(datetime.fromisoformat(at).timestamp() * 1000)
    return Delivery(
        id=f"msg_{milliseconds:012x}{secrets.token_hex(8)}",
        run_id=record.id,
        to=to,
        body=_body_of(event, record, at),
        created_at=at,
        next_at=at,
    )


def _body_of(event: Event, record: RunRecord, at: str) -> str:
    shown = run_json(record)
    data = {name: shown[name] for name in _FIELDS}
    error = record.error
    # Without its traceback, which is nobody's business outside.
    data["error"] = None if error is None else {"type": error.type, "message": error.message}
    left_out = len(to_json(record.result)) > MOST_OF_RESULT
    data |= {"result": None if left_out else record.result, "result_left_out": left_out}
    return to_json({"type": event.type, "timestamp": at, "data": data}).decode()


def again(delivery: Delivery, next_at: str) -> Delivery:
    """Return the delivery as it waits to be tried at that time."""
    return replace(delivery, state=State.WAITING, next_at=next_at)

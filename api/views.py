"""A run as a server shows it, and how that is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from api.transport import CallRefused
from orchestrator import RunId, RunRecord

_RECORD = TypeAdapter(RunRecord)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as a server shows it.

    Attributes:
        partial: its latest partial result; None in lists and in the answer to a stop.
        json: the whole answer as it came.
    """

    record: RunRecord
    partial: Any
    json: dict[str, Any]

    @property
    def id(self) -> RunId:
        """The run's id."""
        return self.record.id


def view_of(answer: dict[str, Any], url: str) -> RunView:
    """Return the run that a server has answered with.

    Raises:
        CallRefused: it is none; what answers at ``url`` is another kind of server.
    """
    match answer:
        case {"waiting_for": {"question_id": question_id} as question}:
            fields = {**answer, "waiting_for": {**question, "id": question_id}}
        case _:
            fields = answer
    fields = fields | {"retagged": fields.get("tags")}
    try:
        record = _RECORD.validate_python(fields)
    except ValidationError:
        raise CallRefused(200, {}, url) from None
    return RunView(record, answer.get("partial"), answer)

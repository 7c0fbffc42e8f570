"""Records as rows, exactly: what is read equals what was written.

A run's row holds the columns that filters need, and the rest of what changes as one JSON object.
What a run is started with (agent, owner, place in its tree, input, options with the tags) is taken
from its first save only; an input that is large is a row of its own (see ``schema``).
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from orchestrator.events import Event
from orchestrator.model import RunRecord

if TYPE_CHECKING:
    from orchestrator.model import Json

Row = tuple[Any, ...]

_RECORD = TypeAdapter(RunRecord)

# The fields of a run with a column of their own.
_COLUMNS = ["id", "root_id", "parent_id", "agent", "owner", "created_at", "status", "version"]
_COLUMNS += ["options", "result", "input"]
_STATE = [field.name for field in fields(RunRecord) if field.name not in _COLUMNS]
_state_of = attrgetter(*_STATE)


def encode(value: Json) -> str:
    """Return JSON text.

    Raises:
        ValueError: the value is not JSON; whoever let it in has a bug.
    """
    try:
        return to_json(value, inf_nan_mode="constants").decode()
    except PydanticSerializationError:
        # A lone surrogate (in the name of a file that is not UTF-8, say) has no UTF-8 form, but
        # an escape. One such string must not keep everybody's batch out of the store.
        return json.dumps(value, default=to_jsonable_python)


def run_row(run: RunRecord) -> Row:
    """Return the values of the columns of ``runs`` after its number."""
    return (
        run.id,
        run.root_id,
        run.parent_id or "",
        run.agent,
        run.owner,
        run.created_at,
        run.status,
        run.version,
        encode(run.options),
        encode(dict(zip(_STATE, _state_of(run), strict=True))),
        encode(run.result),
    )


def lifetime(run: RunRecord) -> tuple[float | None, float | None]:
    """Return when a root ended, if the orchestrator decides how long it is kept from then on; or
    when its own time is over. In seconds since 1970; None for what does not apply."""
    if run.parent_id is not None or not run.status.is_terminal or run.ended_at is None:
        return None, None
    ended_s = datetime.fromisoformat(run.ended_at).timestamp()
    own_s = run.options.retention_s
    return (ended_s, None) if own_s is None else (None, ended_s + own_s)


def read_run(row: Row) -> RunRecord:
    """Return the run of a row of ``query.RUN_COLUMNS``."""
    (
        _,
        id_,
        root,
        parent,
        agent,
        owner,
        created,
        status,
        version,
        options,
        state,
        result,
        input_,
    ) = row
    rest = json.loads(state)
    # Files of version 1 say "" for nobody.
    rest["waiting_for"] = rest.get("waiting_for") or None
    return _RECORD.validate_python(
        {
            "id": id_,
            "root_id": root,
            "parent_id": parent or None,
            "agent": agent,
            "owner": owner,
            "created_at": created,
            "status": status,
            "version": version,
            "options": json.loads(options),
            "result": json.loads(result),
            "input": json.loads(input_),
            **rest,
        }
    )


def event_row(event: Event) -> Row:
    """Return the values of the columns of ``events``."""
    return (event.root_id, event.seq, event.run_id, event.type, event.at, encode(event.data))


def read_event(row: Row) -> Event:
    """Return the event of a row of ``events``."""
    root_id, seq, run_id, type_, at, data = row
    return Event(seq, run_id, root_id, type_, at, json.loads(data))

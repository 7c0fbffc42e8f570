"""One recurring start, as a plain value."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

# What becomes of ticks at which nothing could be started: the process was down, or halted.
Missed: TypeAlias = Literal["skip", "once"]
# What becomes of a tick while a run of an earlier one has not ended.
Overlap: TypeAlias = Literal["allow", "skip", "enqueue", "stop_previous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A recurring start.

    Attributes:
        input, options: of each run, as they were given.
        dealt_until: ticks up to then are dealt with. Only a resume may bring it back.
        next_at: when it fires next; None while it is paused, or if it never does.
        last_at: its last tick that was not skipped; last_run_id: the run that this started.
        last_skip: why the last tick started nothing; empty if it did.
    """

    id: str
    agent: str
    input: dict[str, Any]
    options: dict[str, Any]
    cron: str
    zone: str
    missed: Missed
    overlap: Overlap
    owner: str
    created_at: str
    dealt_until: str
    paused: bool = False
    next_at: str | None = None
    last_at: str | None = None
    last_run_id: str | None = None
    last_skip: str = ""


SCHEDULE = TypeAdapter(Schedule)


def options_of(schedule: Schedule) -> dict[str, Any]:
    """Return the options of its runs: overlaps are conflicts of its key."""
    own = f"schedule:{schedule.id}"
    tags = schedule.options.get("tags", ())
    return {
        "key": own,
        **schedule.options,
        "on_conflict": "reject" if schedule.overlap == "skip" else schedule.overlap,
        "tags": [*tags, own] if isinstance(tags, list | tuple) else tags,
    }


def time_of(stamp: str) -> datetime:
    """Return the time that an RFC 3339 stamp says."""
    return datetime.fromisoformat(stamp)


def stamp_of(at: datetime) -> str:
    """Return the RFC 3339 stamp of a time, in UTC."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

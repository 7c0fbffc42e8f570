"""How a crawl or an upload stands, in Archon's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator import RunStatus, StopSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator import RunRecord

STOPPING = "Stopping crawl operation..."
CANCELLED = "Crawl cancelled by user"

_STATUSES: Mapping[RunStatus, str] = {
    RunStatus.QUEUED: "starting",
    RunStatus.PAUSING: "in_progress",
    RunStatus.PAUSED: "in_progress",
    RunStatus.STOPPING: "in_progress",
    RunStatus.SUCCEEDED: "completed",
    RunStatus.FAILED: "error",
    RunStatus.STOPPED: "cancelled",
    RunStatus.TIMED_OUT: "error",
    # What is not proved to have ended is not called cancelled.
    RunStatus.ABANDONED: "error",
    RunStatus.LOST: "error",
}
_AT_WORK = {"crawl": "crawling", "ingest": "processing"}


def status_of(record: RunRecord) -> str:
    """Return Archon's word for how a run stands."""
    return _STATUSES.get(record.status) or _AT_WORK.get(record.agent, "in_progress")


def progress_of(record: RunRecord) -> dict[str, Any]:
    """Return how far a run is. A stop leaves the percentage as it is."""
    return {
        "progressId": record.id,
        "status": status_of(record),
        "progress": round(record.progress.percent),
        "log": _last_line(record) or record.progress.message,
    }


def lines_of(record: RunRecord, said: Sequence[str]) -> list[str]:
    """Return the latest lines of a run's log, the last of how it ends or has ended.

    Args:
        said: the latest that the run has told of itself; some may be empty.
    """
    return [line for line in (*said, _last_line(record)) if line]


def _last_line(record: RunRecord) -> str:
    """Return what is to be said of how a run ends or has ended; empty if nothing is."""
    if record.status is RunStatus.STOPPING:
        return STOPPING
    if record.status is RunStatus.STOPPED and record.stop is not None:
        stop = record.stop
        by_somebody = stop.source in (StopSource.USER, StopSource.ADMIN)
        return (
            CANCELLED if by_somebody else f"Crawl cancelled ({stop.source}) {stop.reason}".strip()
        )
    if record.error is not None:
        return record.error.message
    if record.status in (RunStatus.TIMED_OUT, RunStatus.ABANDONED, RunStatus.LOST):
        return f"Crawl ended: {record.status}"
    return ""

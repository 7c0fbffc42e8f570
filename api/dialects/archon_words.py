"""How a crawl or an upload stands, in Archon's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator import RunStatus, StopSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator import RunRecord

STOPPING = "Stopping crawl operation..."
CANCELLED = "Crawl cancelled by user"
# As long as Archon waited for the end; but a task that is alive then goes on being one.
WAIT_S = 2.0

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
# What became of a run whose stop was asked for.
_STOPPED = {
    RunStatus.STOPPED: "Crawl task stopped successfully",
    RunStatus.STOPPING: "Crawl task is stopping, and has not ended yet",
    RunStatus.TIMED_OUT: "Crawl task was stopped since its time was up",
    RunStatus.ABANDONED: "Crawl task was let go, and may not have ended",
    RunStatus.LOST: "Crawl task was lost, and may not have ended",
}


def stop_message(status: RunStatus) -> str:
    """Return what is said of a stop, given what the run has come to."""
    return _STOPPED.get(status, "Crawl task had ended by itself")


def status_of(record: RunRecord) -> str:
    """Return Archon's word for how a run stands."""
    return _STATUSES.get(record.status) or _AT_WORK.get(record.agent, "in_progress")


def progress_of(record: RunRecord, said: Sequence[str]) -> dict[str, Any]:
    """Return what is shown of a run's progress. A stop leaves the percentage as it is.

    Args:
        said: the latest lines that the run has told of itself.
    """
    last = _last_line(record)
    logs = [line for line in said if line] + ([last] if last else [])
    return {
        "progressId": record.id,
        "status": status_of(record),
        "progress": round(record.progress.percent),
        "log": logs[-1] if logs else "",
        "logs": logs,
    }


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

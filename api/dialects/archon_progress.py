"""How Archon calls what a run is doing: over HTTP and over Socket.IO alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator import RunStatus, StopSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator import RunRecord

STOPPING = "Stopping crawl operation..."
CANCELLED = "Crawl cancelled by user"
# What Archon waited for the end; what is alive then goes on being stopped.
WAIT_S = 2.0
STOP = {"mode": "now", "reason": CANCELLED, "wait_s": WAIT_S}
# What is said of a stop by what it came to.
SAID = {
    RunStatus.STOPPED: "Crawl task stopped successfully",
    RunStatus.STOPPING: "Crawl task is stopping, and has not ended yet",
    RunStatus.TIMED_OUT: "Crawl task was stopped since its time was up",
    RunStatus.SUCCEEDED: "Crawl task had ended by itself",
    RunStatus.FAILED: "Crawl task had failed",
    RunStatus.ABANDONED: "Crawl task was let go, and may not have ended",
    RunStatus.LOST: "Crawl task was lost, and may not have ended",
}

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
    """Return how far a run is. A stop leaves the percentage as it was."""
    return {
        "progressId": record.id,
        "status": status_of(record),
        "progress": round(record.progress.percent),
        "log": _last_line(record),
    }


def _last_line(record: RunRecord) -> str:
    if record.status is RunStatus.STOPPING:
        return STOPPING
    if record.status is RunStatus.STOPPED and record.stop is not None:
        by_somebody = record.stop.source in (StopSource.USER, StopSource.ADMIN)
        return CANCELLED if by_somebody else f"Crawl cancelled ({record.stop.source})"
    if record.error is not None:
        return record.error.message
    return record.progress.message

"""What becomes of runs, in the log: how they begin, how they are stopped, how they end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from orchestrator import Observer, RunStatus, StopOutcome, StopSource

if TYPE_CHECKING:
    from orchestrator import Event, Receipt, RunRecord

_log = logging.getLogger("quiesce.runs")

# Ends that somebody should look at.
_BAD = (RunStatus.FAILED, RunStatus.ABANDONED, RunStatus.LOST)
_UNSETTLED = (StopOutcome.ABANDONED, StopOutcome.LOST)


class RunLog(Observer):
    """Writes a line for each beginning, stop and end of a run.

    What concerns sub-agents alone is told at ``debug``, unless code or processes resist.
    """

    def shown(self, event: Event, record: RunRecord) -> None:
        """Tell of an event, if it is one of those."""
        if not event.type.startswith("run."):
            return
        if event.type == "run.started":
            self._tell(record, logging.INFO, "run began", attempt=record.attempt)
        elif event.type == "run.stopping":
            self._tell(record, logging.INFO, "stop asked for", **event.data)
        elif event.type == "run.escalated":
            self._tell(record, logging.INFO, "stop escalated", **event.data)
        elif record.status.is_terminal and record.stop is not None:
            level = logging.WARNING if record.stop.outcome in _UNSETTLED else logging.INFO
            self._tell(record, level, "stop settled", **_result_of(record.stop, record))
        elif record.status.is_terminal:
            level = logging.WARNING if record.status in _BAD else logging.INFO
            self._tell(record, level, "run ended", status=record.status, **_error_of(record))

    def _tell(self, record: RunRecord, level: int, what: str, **fields: Any) -> None:
        # A sub-agent that fails or is stopped is its parent's affair; one that resists is ours.
        unsettled = record.stop is not None and record.stop.outcome in _UNSETTLED
        if record.parent_id is not None and not unsettled and not _is_stopped_alone(record):
            level = logging.DEBUG
        if _log.isEnabledFor(level):
            about = {"run_id": record.id, "agent": record.agent, "owner": record.owner}
            named = {name: value for name, value in (about | fields).items() if value != ""}
            _log.log(level, what, extra=named)


def _is_stopped_alone(record: RunRecord) -> bool:
    return record.stop is not None and record.stop.source is not StopSource.PARENT


def _result_of(stop: Receipt, record: RunRecord) -> dict[str, Any]:
    return {
        "result": str(stop.outcome),
        "status": str(record.status),
        "mode": str(stop.mode),
        "reached": str(stop.reached),
        "source": str(stop.source),
        "requested_by": stop.requested_by,
        "reason": stop.reason,
        "seconds": stop.seconds,
        "runs_stopped": stop.runs_stopped,
        "cleanup_errors": len(stop.cleanup_errors),
    }


def _error_of(record: RunRecord) -> dict[str, Any]:
    if record.error is None:
        return {}
    return {"error": f"{record.error.type}: {record.error.message}"}

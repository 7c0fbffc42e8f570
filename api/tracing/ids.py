"""Where runs and operations stand in a trace: derived from what is durable, so it needs no memory.

A run that starts again after a crash goes on in the same trace, as the same span; and what its
sub-agents did before the crash hangs below it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator import RunId, RunRecord

SAMPLED = 1


def trace_id_of(record: RunRecord) -> int:
    """Return the trace of the run's tree: that of its starter, or one of its own."""
    if record.traceparent:
        return int(record.traceparent[3:35], 16)
    return _number(record.root_id, 16)


def parent_of(record: RunRecord) -> int | None:
    """Return the span above the run's; None if the trace begins with it."""
    if record.parent_id is not None:
        return span_id_of(record.parent_id)
    return int(record.traceparent[36:52], 16) if record.traceparent else None


def flags_of(record: RunRecord) -> int | None:
    """Return what the starter has decided about the trace; None if there was nobody to decide."""
    return int(record.traceparent[53:55], 16) if record.traceparent else None


def span_id_of(run_id: RunId, operation: int | None = None) -> int:
    """Return the span of a run, or of an operation in it."""
    return _number(run_id if operation is None else f"{run_id} {operation}", 8)


def traceparent_of(trace_id: int, span_id: int, *, sampled: bool) -> str:
    """Return a place in a trace as W3C Trace Context writes it."""
    return f"00-{trace_id:032x}-{span_id:016x}-{SAMPLED if sampled else 0:02x}"


def _number(text: str, size: int) -> int:
    # Never 0, which means none.
    return int.from_bytes(sha256(text.encode()).digest()[:size], "big") or 1

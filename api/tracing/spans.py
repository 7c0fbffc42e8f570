"""Spans, made of what is durable when it is over; so nothing is open that a crash could lose."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from api.logs.fields import MOST, clean_text
from api.tracing.ids import (
    SAMPLED,
    flags_of,
    parent_of,
    span_id_of,
    trace_id_of,
    traceparent_of,
)
from api.tracing.meaning import Meaning, meaning_of_operation, meaning_of_run
from orchestrator import Observer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from orchestrator import Event, RunRecord

SCOPE = "quiesce"


class Traces(Observer):
    """Makes a span of each run, sub-agent and operation when it is over.

    Args:
        provider: that of OpenTelemetry's SDK. Its processors are called in the loop, so they must
            not wait: ``BatchSpanProcessor`` does not, ``SimpleSpanProcessor`` does.
        version: of the program, for the scope of the spans.
    """

    def __init__(self, provider: TracerProvider, version: str = "") -> None:
        tracer = provider.get_tracer(SCOPE, version)
        # Where the SDK is disabled, a tracer of another kind makes no spans at all.
        self._tracer = tracer if isinstance(tracer, Tracer) else None
        self._ids = _Ids()
        if self._tracer is not None:
            self._tracer.id_generator = self._ids

    def traceparent(self, record: RunRecord, operation: int | None) -> str:
        """Return where the run, or an operation of it, stands."""
        if self._tracer is None:
            return ""
        return traceparent_of(
            trace_id_of(record), span_id_of(record.id, operation), sampled=self._is_sampled(record)
        )

    def shown(self, event: Event, record: RunRecord) -> None:
        """Make a span of what is over with the event, if anything is."""
        if self._tracer is None:
            return
        if event.type in ("operation.finished", "operation.cut"):
            self._tell_operation(event, record)
        elif record.status.is_terminal and event.type.startswith("run."):
            self._tell_run(record)

    def _tell_operation(self, event: Event, record: RunRecord) -> None:
        ended = _nanoseconds(event.at)
        self._make(
            meaning_of_operation(record, event.data),
            record,
            span_id=span_id_of(record.id, event.data["operation"]),
            parent=span_id_of(record.id),
            times=(ended - round(event.data["seconds"] * 1e9), ended),
        )

    def _tell_run(self, record: RunRecord) -> None:
        times = _nanoseconds(record.created_at), _nanoseconds(record.ended_at or record.created_at)
        happened = [("quiesce.run.started", record.started_at)]
        if record.stop is not None:
            happened.append(("quiesce.stop.requested", record.stop.requested_at))
            happened += [
                ("quiesce.stop.tightened", later.requested_at) for later in record.stop.also
            ]
        self._make(
            meaning_of_run(record),
            record,
            span_id=span_id_of(record.id),
            parent=parent_of(record),
            times=times,
            happened=[(name, at) for name, at in happened if at is not None],
        )

    def _make(
        self,
        meaning: Meaning,
        record: RunRecord,
        *,
        span_id: int,
        parent: int | None,
        times: tuple[int, int],
        happened: list[tuple[str, str]] | None = None,
    ) -> None:
        assert self._tracer is not None
        self._ids.next = (trace_id_of(record), span_id)
        span = self._tracer.start_span(
            meaning.name,
            self._below(record, parent),
            meaning.kind,
            meaning.attributes,
            start_time=times[0],
        )
        for name, at in happened or ():
            span.add_event(name, timestamp=_nanoseconds(at))
        if meaning.error is not None:
            why = clean_text(meaning.error[:MOST])
            span.set_status(Status(StatusCode.ERROR, why))
        span.end(end_time=times[1])

    def _below(self, record: RunRecord, parent: int | None) -> Context:
        if parent is None:
            return Context()
        above = SpanContext(
            trace_id_of(record),
            parent,
            is_remote=record.parent_id is None,
            trace_flags=TraceFlags(SAMPLED if self._is_sampled(record) else 0),
        )
        return set_span_in_context(NonRecordingSpan(above), Context())

    def _is_sampled(self, record: RunRecord) -> bool:
        """Whether the trace is kept: as the starter has decided, else as the sampler does."""
        flags = flags_of(record)
        if flags is not None:
            return bool(flags & SAMPLED)
        assert self._tracer is not None
        found = self._tracer.sampler.should_sample(Context(), trace_id_of(record), SCOPE)
        return found.decision is Decision.RECORD_AND_SAMPLE


class _Ids(IdGenerator):
    """Gives out the ids that the next span is to have."""

    def __init__(self) -> None:
        self.next = (0, 0)

    def generate_trace_id(self) -> int:
        return self.next[0]

    def generate_span_id(self) -> int:
        return self.next[1]

    def is_trace_id_random(self) -> bool:
        return False


def _nanoseconds(at: str) -> int:
    return round(datetime.fromisoformat(at).timestamp() * 1e6) * 1_000

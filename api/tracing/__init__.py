"""Traces for OpenTelemetry: a span for each run, sub-agent and operation.

Needs the extra ``otel``. The core knows nothing of it.

spans     the observer that makes spans
meaning   what a run and an operation are in OpenTelemetry's words
ids       where they stand in a trace
setup     tracing as the ``OTEL_…`` variables say
"""

from __future__ import annotations

from api.tracing.setup import tracing as tracing

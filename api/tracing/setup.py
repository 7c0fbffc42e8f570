"""Tracing as the ``OTEL_…`` variables of OpenTelemetry say; none of them, no traces."""

from __future__ import annotations

import logging
import os
from contextlib import asynccontextmanager
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

    from orchestrator import Observer

_log = logging.getLogger("quiesce.tracing")

# What is not sent by then, when the process ends, is lost.
CLOSE_S = 3.0

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


class Tracing:
    """What makes traces in this process, if anything does.

    Attributes:
        observers: to give to the orchestrator.
    """

    def __init__(self, provider: TracerProvider | None) -> None:
        self.observers: list[Observer] = []
        self._provider = provider
        if provider is not None:
            from api.tracing.spans import Traces

            self.observers = [Traces(provider, version("quiesce"))]

    async def close(self) -> None:
        """Send what is left, in bounded time, and nothing more. May be called twice."""
        provider, self._provider = self._provider, None
        if provider is None:
            return
        with bounded(CLOSE_S) as patience:
            await trio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)
        if patience.cancelled_caught:
            _log.warning("not all traces could be sent within %g s", CLOSE_S)


@asynccontextmanager
async def tracing(environ: Mapping[str, str] = os.environ) -> AsyncIterator[Tracing]:
    """Make traces for the time of the body, if the environment asks for any.

    They are sent from a thread, so whoever receives them may be slow, or not there. What is wrong
    with the configuration is logged, and nothing else comes of it.
    """
    names = exporters_in(environ)
    made = Tracing(_provider(names, environ) if names else None)
    try:
        yield made
    finally:
        await made.close()


def exporters_in(environ: Mapping[str, str]) -> list[str]:
    """Return the names of the exporters that are asked for."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return []
    named = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if not named and any(environ.get(each) for each in _ENDPOINTS):
        named = "otlp"
    found = [name.strip() for name in named.split(",")]
    return [_full_name(name, environ) for name in found if name not in ("", "none")]


def _full_name(name: str, environ: Mapping[str, str]) -> str:
    """Return the name under which an exporter is registered."""
    if name != "otlp":
        return name
    protocol = next((environ[each] for each in _PROTOCOLS if environ.get(each)), "http/protobuf")
    return "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"


def _provider(names: list[str], environ: Mapping[str, str]) -> TracerProvider | None:
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        _log.warning("OTEL_… variables ask for traces, but `quiesce[otel]` is not installed")
        return None
    named = "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    name = {} if named or environ.get("OTEL_SERVICE_NAME") else {"service.name": "quiesce"}
    # Not at the exit of the interpreter, which would wait for a receiver that is not there.
    provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
    for exporter in _exporters(names):
        provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def _exporters(names: list[str]) -> Iterator[SpanExporter]:
    for name in names:
        try:
            (found,) = entry_points(group="opentelemetry_traces_exporter", name=name)
            yield found.load()()
        except Exception as error:
            _log.error("there is no exporter %r for traces: %r", name, error)

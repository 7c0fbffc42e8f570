"""What a run and an operation are in OpenTelemetry's words.

The names are those of its semantic conventions: ``gen_ai.…`` for agents and models (still in
development there), ``http.…`` for requests. What they have no word for is ``quiesce.…``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry.trace import SpanKind

from orchestrator import RunStatus

if TYPE_CHECKING:
    from orchestrator import Receipt, RunRecord

Attributes = dict[str, Any]

# A stop is no error, and neither is what a stop has cut; but code that resisted it is, and so is
# a run whose process was gone.
_ERRORS = (RunStatus.FAILED, RunStatus.ABANDONED, RunStatus.LOST)


@dataclass(frozen=True, slots=True)
class Meaning:
    """A span, without its place and its times.

    Attributes:
        error: why it went wrong; None if it did not.
    """

    name: str
    kind: SpanKind
    attributes: Attributes = field(default_factory=dict)
    error: str | None = None


def meaning_of_run(record: RunRecord) -> Meaning:
    """Return what a run that has ended is as a span."""
    attributes: Attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "quiesce",
        "gen_ai.agent.name": record.agent,
        "quiesce.run.id": record.id,
        "quiesce.run.root_id": record.root_id,
        "quiesce.run.status": str(record.status),
        "quiesce.run.attempt": record.attempt,
        "quiesce.run.owner": record.owner,
        "quiesce.run.tags": list(record.tags),
    }
    if record.usage.requests:
        attributes["gen_ai.usage.input_tokens"] = record.usage.input_tokens
        attributes["gen_ai.usage.output_tokens"] = record.usage.output_tokens
    if record.stop is not None:
        attributes |= _about(record.stop)
    error = None
    if record.status in _ERRORS:
        attributes["error.type"] = record.error.type if record.error else str(record.status)
        error = record.error.message if record.error else f"the run is {record.status}"
    return Meaning(f"invoke_agent {record.agent}", SpanKind.INTERNAL, attributes, error)


def _about(stop: Receipt) -> Attributes:
    return {
        "quiesce.stop.mode": str(stop.mode),
        "quiesce.stop.reached": str(stop.reached),
        "quiesce.stop.source": str(stop.source),
        "quiesce.stop.requested_by": stop.requested_by,
        "quiesce.stop.reason": stop.reason,
        "quiesce.stop.outcome": str(stop.outcome),
        "quiesce.stop.latency": stop.seconds or 0.0,
    }


def meaning_of_operation(record: RunRecord, told: dict[str, Any]) -> Meaning:
    """Return what an operation that is over is as a span.

    Args:
        told: the data of its last event.
    """
    kind, label = told["kind"], told["label"]
    name, span_kind, attributes = _kind_of(kind, label)
    attributes |= {
        "quiesce.operation.kind": kind,
        "quiesce.run.id": record.id,
        "quiesce.operation.cut": "effect" in told,
    }
    if told.get("effect"):
        attributes["quiesce.operation.effect"] = told["effect"]
    error: str | None = told.get("error")
    if error is not None:
        attributes["error.type"] = error.partition(":")[0]
    return Meaning(name, span_kind, attributes, error)


def _kind_of(kind: str, label: str) -> tuple[str, SpanKind, Attributes]:
    method, _, url = label.partition(" ")
    if kind == "llm":
        about = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
        return f"chat {label}", SpanKind.CLIENT, {**about, "gen_ai.request.model": label}
    if kind == "http" and url:
        return method, SpanKind.CLIENT, {"http.request.method": method, **_about_url(url)}
    # Labels may be all different, and names of spans should not.
    return kind, SpanKind.INTERNAL, {"quiesce.operation.label": label}


def _about_url(url: str) -> Attributes:
    """Say where a request goes; without what may be secret: user, password and query."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return {}
    shown = f"[{host}]" if ":" in host else host
    if port is None:
        port = 443 if parts.scheme == "https" else 80
    else:
        shown = f"{shown}:{port}"
    plain = parts._replace(netloc=shown, query="", fragment="").geturl()
    return {"url.full": plain, "server.address": host, "server.port": port}

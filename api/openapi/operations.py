"""What each call takes and gives, by the orders that it parses and the shapes that it shows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from api import orders, schema
from api.webhooks.calls import DeliveriesQuery

if TYPE_CHECKING:
    from collections.abc import Mapping

NOTHING = ""
# What is no JSON is named by its media type.
HTML = "text/html"
TEXT = "text/plain"
STREAM = "text/event-stream"
FILE = "*/*"
METRICS = (TEXT, "application/openmetrics-text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a call takes, and what it gives.

    Attributes:
        gives: status -> names of the shapes, or media types, that it may be answered with.
        query, body: the orders that are parsed; None if it takes none.
        optional: whether the body may be left out.
        refusals: kinds of problems with which it may be answered, beyond what any call may be.
        headers: those that change what it does.
    """

    gives: Mapping[int, tuple[str, ...]]
    query: type[schema.Order] | None = None
    body: type[schema.Order] | None = None
    optional: bool = False
    refusals: tuple[str, ...] = ()
    headers: tuple[str, ...] = field(default=())


def _gives(
    what: str = NOTHING,
    status: int = 200,
    *,
    query: type[schema.Order] | None = None,
    body: type[schema.Order] | None = None,
    optional: bool = False,
    refusals: str = "",
    headers: tuple[str, ...] = (),
) -> Operation:
    """Return an operation that gives one thing; ``optional`` and the rest as there."""
    return Operation(
        gives={status: (what,)},
        query=query,
        body=body,
        optional=optional,
        refusals=tuple(refusals.split()),
        headers=headers,
    )


def _tagged(what: str, **more: type[schema.Order]) -> Operation:
    """Return an operation that gives nothing to whoever has it already."""
    return Operation(
        gives={200: (what,), 304: (NOTHING,)}, headers=("If-None-Match",), query=more.get("query")
    )


_STARTS = "starts-refused halted queue-full key-conflict key-in-use key-reused too-often"
_KEY = ("Idempotency-Key",)
_ACTS = "run-ended illegal-transition"

# What is answered to a call that acts on a run: 202 while it goes on.
OPERATIONS: Mapping[str, Operation] = {
    "GET /openapi.json": _tagged("Document"),
    "GET /docs": _gives(HTML),
    "GET /healthz": _gives("Health"),
    "GET /readyz": Operation(gives={200: ("Readiness",), 503: ("Readiness",)}),
    "GET /metrics": Operation(gives={200: METRICS}),
    "GET /session": _gives("Session"),
    "POST /session": _gives(
        "Session",
        body=schema.LoginOrder,
        refusals="no-token bad-token too-often cannot-judge",
    ),
    "POST /session/challenge": _gives(
        "Challenge", body=schema.ChallengeOrder, refusals="no-wallets"
    ),
    "DELETE /session": _gives(status=204),
    "GET /audit": _gives("Audit", query=schema.AuditQuery),
    "POST /halt": Operation(
        gives={200: ("Halting",), 202: ("Halting",)},
        body=orders.HaltOrder,
        optional=True,
        refusals=("halt-not-durable",),
    ),
    "GET /halt": _gives("Halted"),
    "DELETE /halt": _gives(status=204),
    "GET /webhooks/deliveries": _gives("Deliveries", query=DeliveriesQuery),
    "POST /webhooks/deliveries/<delivery_id>/retry": _gives(
        "Delivery", 202, refusals="unknown-delivery no-outbox"
    ),
    "GET /": _gives(HTML),
    "GET /dashboard/runs/<run_id>": _gives(HTML),
    "GET /dashboard/login": _gives(HTML),
    "GET /dashboard/schedules": _gives(HTML),
    "GET /dashboard/assets/<version>/<name>": _gives(FILE),
    "POST /schedules": _gives(
        "Schedule", 201, body=orders.ScheduleOrder, refusals="schedule-exists"
    ),
    "GET /schedules": _gives("Schedules"),
    "GET /schedules/<schedule_id>": _gives("Schedule", refusals="unknown-schedule"),
    "DELETE /schedules/<schedule_id>": _gives(status=204, refusals="unknown-schedule"),
    "POST /schedules/<schedule_id>/pause": _gives("Schedule", refusals="unknown-schedule"),
    "POST /schedules/<schedule_id>/resume": _gives("Schedule", refusals="unknown-schedule"),
    "GET /agents": _gives("Agents"),
    "GET /events": _gives(STREAM, query=schema.AllEventsQuery, headers=("Last-Event-ID",)),
    "POST /runs": _gives(
        "Run",
        201,
        query=schema.WaitQuery,
        body=schema.StartOrder,
        refusals=_STARTS,
        headers=_KEY,
    ),
    "POST /runs/stop": _gives("Results", 202, body=schema.BulkStopOrder),
    "GET /runs": _tagged("Runs", query=schema.RunsQuery),
    "GET /runs/<run_id>": _tagged("Run", query=schema.WaitQuery),
    "PATCH /runs/<run_id>": _gives("Run", body=schema.ChangeOrder, refusals=_ACTS),
    "DELETE /runs/<run_id>": _gives(status=204, refusals=f"{_ACTS} part-of-a-tree"),
    "GET /runs/<run_id>/tree": _gives("Tree"),
    "GET /runs/<run_id>/events": Operation(
        gives={200: (STREAM, "Events")}, query=schema.EventsQuery, headers=("Last-Event-ID",)
    ),
    "POST /runs/<run_id>/stop": Operation(
        gives={200: ("Stopped",), 202: ("Stopped",)},
        body=schema.StopOrder,
        optional=True,
        refusals=("run-ended", "too-late-to-stop", "stop-not-durable"),
    ),
    "GET /runs/<run_id>/stop": _gives("Receipt", refusals="never-stopped"),
    "GET /runs/<run_id>/stack": _gives("Tasks"),
    "POST /runs/<run_id>/pause": _gives(
        "Run", 202, body=schema.ControlOrder, optional=True, refusals=_ACTS
    ),
    "POST /runs/<run_id>/resume": _gives(
        "Run",
        202,
        body=schema.ControlOrder,
        optional=True,
        refusals=f"{_ACTS} parent-is-paused",
    ),
    "POST /runs/<run_id>/step": _gives(
        "Run",
        202,
        body=schema.ControlOrder,
        optional=True,
        refusals=f"{_ACTS} parent-is-paused",
    ),
    "POST /runs/<run_id>/answer": _gives(
        "Run", 202, body=schema.AnswerOrder, refusals=f"{_ACTS} nobody-asks"
    ),
    "POST /runs/<run_id>/rerun": _gives(
        "Run",
        201,
        query=schema.WaitQuery,
        body=schema.RerunOrder,
        optional=True,
        refusals=f"{_STARTS} illegal-transition",
        headers=_KEY,
    ),
    "GET /runs/<run_id>/partial": _tagged("Partial"),
    "GET /runs/<run_id>/artifacts": _gives("Artifacts"),
    "GET /runs/<run_id>/artifacts/<name>": Operation(
        gives={200: (FILE,), 304: (NOTHING,)},
        headers=("If-None-Match",),
        refusals=("no-artifact",),
    ),
    "GET /runs/<run_id>/view": Operation(
        gives={200: (FILE,), 304: (NOTHING,)},
        headers=("If-None-Match",),
        refusals=("no-artifact",),
    ),
}

# Of a call that is in no table: those of the dialects, whose answers are their own.
FOREIGN = Operation(
    gives={200: (FILE,), 201: (FILE,), 202: (FILE,), 404: (FILE,), 409: (FILE,)},
    refusals=tuple(f"{_STARTS} {_ACTS} too-late-to-stop stop-not-durable".split()),
)
_CRAWL_PROGRESS = Operation(
    gives={200: (FILE,), 304: (NOTHING,)}, headers=("If-None-Match",), refusals=FOREIGN.refusals
)
_CONTROL = replace(FOREIGN, refusals=(*FOREIGN.refusals, "parent-is-paused"))
_SOCKETIO = _gives(
    TEXT, refusals="bad-handshake unknown-session malformed-packet too-many-sessions"
)
OPERATIONS_OF_DIALECTS: Mapping[str, Operation] = {
    "GET /socket.io/": _SOCKETIO,
    "POST /socket.io/": _SOCKETIO,
    "GET /api/crawl-progress/<run_id>": _CRAWL_PROGRESS,
    "GET /api/progress/<run_id>": _CRAWL_PROGRESS,
    "GET /api/knowledge-items": replace(FOREIGN, refusals=(*FOREIGN.refusals, "invalid-input")),
    "POST /api/knowledge-items/stop/<run_id>": replace(
        FOREIGN, gives={**FOREIGN.gives, 500: (FILE,)}
    ),
    "GET /api/executions/<run_id>/view": replace(FOREIGN, gives={302: (NOTHING,)}),
    "POST /api/executions/<run_id>/pause": _CONTROL,
    "POST /api/executions/<run_id>/resume": _CONTROL,
    "POST /api/executions/<run_id>/step": _CONTROL,
}

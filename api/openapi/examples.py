"""What a call may be given, for readers; a test holds each example against its order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api import orders, schema
from api.openapi.shapes import TEXT, Schema

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS: Mapping[str, Schema] = {
    "Idempotency-Key": TEXT
    | {
        "pattern": "^[!-~]{1,255}$",
        "description": "The same key and order start one run, however often they are sent.",
    },
    "If-None-Match": TEXT | {"description": "An `ETag` whose content the caller has."},
    "Last-Event-ID": TEXT | {"description": "The `id` of the last event that was seen."},
    "Location": TEXT | {"description": "The path of what was made."},
    "ETag": TEXT,
    "Retry-After": {"type": "integer", "description": "Seconds."},
    "WWW-Authenticate": TEXT,
}

EXAMPLES: Mapping[type[schema.Order], tuple[dict[str, Any], ...]] = {
    schema.StartOrder: (
        {"agent": "crawl", "input": {"url": "http://127.0.0.1:9000/"}},
        {"agent": "report", "input": {"pages": 2}, "options": {"deadline_s": 60, "tags": ["a"]}},
    ),
    schema.StopOrder: (
        {"reason": "enough", "wait_s": 10},
        {"mode": "graceful", "grace_s": 2.5},
        {"mode": "now", "discard": True},
    ),
    schema.BulkStopOrder: (
        {"ids": ["run_a5c1883483d2be3d8eed"], "mode": "now"},
        {"filter": {"status": "running", "tag": "nightly"}, "reason": "too many"},
    ),
    schema.ControlOrder: ({"reason": "lunch"},),
    schema.AnswerOrder: ({"question_id": "6fc7ab2a3ed1", "answer": True},),
    schema.ChangeOrder: ({"deadline_s": 60}, {"deadline_s": None, "tags": ["late"]}),
    schema.RerunOrder: ({"from_step": "last"},),
    schema.LoginOrder: (
        {"token": "qt_0123456789"},
        {"address": "0x" + "0" * 40, "signature": "0x" + "0" * 130},
    ),
    schema.ChallengeOrder: ({"address": "0x" + "0" * 40},),
    orders.HaltOrder: ({"reason": "a bill that grows", "mode": "now"},),
    orders.ScheduleOrder: (
        {"agent": "report", "cron": "30 9 * * MON-FRI", "zone": "Europe/Berlin"},
        {"id": "nightly", "agent": "crawl", "cron": "0 3 * * *", "overlap": "stop_previous"},
    ),
}

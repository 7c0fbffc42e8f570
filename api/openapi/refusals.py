"""Which problems a call may be answered with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from api.auth.rights import Right

if TYPE_CHECKING:
    from collections.abc import Iterator

    from api.openapi.operations import Operation

# Kind -> status. A test finds each in the code, and none beside them.
KINDS = {
    "malformed-json": 400,
    "bad-handshake": 400,
    "malformed-packet": 400,
    "unknown-session": 400,
    "no-token": 401,
    "bad-token": 401,
    "forbidden": 403,
    "foreign-host": 403,
    "foreign-origin": 403,
    "no-origin": 403,
    "unknown-run": 404,
    "never-stopped": 404,
    "not-subscribed": 404,
    "no-artifact": 404,
    "no-wallets": 404,
    "unknown-schedule": 404,
    "unknown-delivery": 404,
    "run-ended": 409,
    "illegal-transition": 409,
    "too-late-to-stop": 409,
    "parent-is-paused": 409,
    "part-of-a-tree": 409,
    "nobody-asks": 409,
    "schedule-exists": 409,
    "key-conflict": 409,
    "key-in-use": 409,
    "no-outbox": 409,
    "unsupported-media-type": 415,
    "invalid-input": 422,
    "key-reused": 422,
    "queue-full": 429,
    "too-often": 429,
    "too-many-sessions": 429,
    "internal-error": 500,
    "store-damaged": 500,
    "halted": 503,
    "starts-refused": 503,
    "cannot-judge": 503,
    "store-unavailable": 503,
    "halt-not-durable": 503,
    "stop-not-durable": 503,
}
# Those that are named by their HTTP status.
PLAIN_KINDS = {"bad-request": 400, "not-found": 404, "request-entity-too-large": 413}


def refusals_of(name: str, right: Right, operation: Operation) -> dict[int, list[str]]:
    """Return the kinds of problems that a call may be answered with, by their status.

    Args:
        name: its method and its rule.
    """
    found: dict[int, list[str]] = {}
    for kind in dict.fromkeys((*operation.refusals, *_of_any(name, right, operation))):
        found.setdefault((KINDS | PLAIN_KINDS)[kind], []).append(kind)
    return dict(sorted(found.items()))


def _of_any(name: str, right: Right, operation: Operation) -> Iterator[str]:
    """Yield what is refused before the call itself is asked, or by all that are like it."""
    changes = not name.startswith("GET")
    yield from ("foreign-host", "foreign-origin", "internal-error", "request-entity-too-large")
    if changes:
        yield from ("no-origin", "malformed-json", "unsupported-media-type")
    if right is not Right.OPEN:
        yield from ("no-token", "bad-token", "too-often", "cannot-judge")
        yield from ("store-unavailable", "store-damaged")
    if right not in (Right.OPEN, Right.READ):
        yield "forbidden"
    if "<" in name:
        yield "not-found"
    if "<run_id>" in name and right is not Right.OPEN:
        yield "unknown-run"
    if changes or operation.query is not None:
        yield "invalid-input"

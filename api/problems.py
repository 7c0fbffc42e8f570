"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import http
import logging
from typing import TYPE_CHECKING, Any

from quart import Response, current_app, json, request
from werkzeug.exceptions import HTTPException

from orchestrator import (
    Halted,
    IllegalTransition,
    InvalidInput,
    KeyConflict,
    NobodyAsks,
    OrchestratorError,
    ParentIsPaused,
    QueueFull,
    RunEnded,
    StartsRefused,
    StoreUnavailable,
    UnknownAgent,
    UnknownRun,
)

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from orchestrator import Orchestrator

_log = logging.getLogger("quiesce.api")

RETRY_AFTER_S = 5


def problem(status: int, kind: str, detail: str, **members: Any) -> Response:
    """Return a problem document.

    Args:
        kind: what went wrong, in a few dashed words; the end of the problem's ``type``.
        members: further members of the document, JSON.
    """
    body = {
        "type": f"urn:quiesce:{kind}",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        **members,
    }
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status in (429, 503) else None
    return Response(
        json.dumps(body), status=status, headers=headers, content_type="application/problem+json"
    )


def invalid(problems: list[tuple[str, str]], **members: Any) -> Response:
    """Return the 422 that names each field that does not fit."""
    detail = "; ".join(f"{field}: {why}" for field, why in problems)
    errors = [{"field": field, "message": why} for field, why in problems]
    return problem(422, "invalid-input", detail, **members, errors=errors)


def from_error(error: OrchestratorError, **about: Any) -> Response:
    """Return the problem that an error of the orchestrator means over HTTP.

    Args:
        about: ``run_id`` and ``run_status`` of the run that the request is about, if it is live.
    """
    said = str(error)
    match error:
        case InvalidInput(problems=problems):
            return invalid(list(problems), **about)
        case UnknownAgent():
            return invalid([("agent", said)])
        case UnknownRun(run_id=run_id):
            return problem(404, "unknown-run", said, run_id=run_id)
        case RunEnded(run_id=run_id, status=status):
            return problem(409, "run-ended", said, run_id=run_id, run_status=status)
        case IllegalTransition(move=move):
            return problem(409, "illegal-transition", said, **about, move=move)
        case ParentIsPaused(parent_id=parent_id):
            return problem(409, "parent-is-paused", said, **about, parent_id=parent_id)
        case NobodyAsks(question_id=question_id):
            return problem(409, "nobody-asks", said, **about, question_id=question_id)
        case KeyConflict(key=key, run_id=run_id, status=status):
            return problem(409, "key-conflict", said, run_id=run_id, run_status=status, key=key)
        case QueueFull():
            return problem(429, "queue-full", said)
        case Halted():
            return problem(503, "halted", said)
        case StartsRefused():
            return problem(503, "starts-refused", said)
        case StoreUnavailable():
            return problem(503, "store-unavailable", said, **about)
        case _:
            raise error


def install(app: QuartTrio) -> None:
    """Make the application answer every error with a problem document."""

    async def orchestrator_error(error: OrchestratorError) -> Response:
        orchestrator: Orchestrator = current_app.extensions["quiesce"]
        live = orchestrator.live((request.view_args or {}).get("run_id", ""))
        about = {} if live is None else {"run_id": live.id, "run_status": live.status}
        return from_error(error, **about)

    async def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        kind = http.HTTPStatus(status).phrase.lower().replace(" ", "-")
        return problem(status, kind, error.description or http.HTTPStatus(status).description)

    async def bug(error: Exception) -> Response:
        _log.error("a request failed", exc_info=error)
        return problem(500, "internal-error", "the server made a mistake; its log says which")

    app.register_error_handler(OrchestratorError, orchestrator_error)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, bug)

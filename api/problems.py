"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

from quart import Response, current_app, has_request_context, json, request, websocket
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    NotFound,
    RequestEntityTooLarge,
)
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing.exceptions import WebsocketMismatch

from api.answers import receipt_json
from api.auth.identity import (
    BadCredentials,
    CannotJudge,
    Forbidden,
    TooManySessions,
    TooOften,
    Unidentified,
)
from api.failures import Failures
from api.once import KeyInUse, KeyReused, KeySpent
from orchestrator import (
    Halted,
    IllegalTransition,
    InvalidInput,
    KeyConflict,
    NobodyAsks,
    OrchestratorError,
    ParentIsPaused,
    PartOfATree,
    QueueFull,
    RunEnded,
    ScheduleExists,
    StartsRefused,
    StoreDamaged,
    StoreUnavailable,
    TooLateToStop,
    UnknownAgent,
    UnknownRun,
    UnknownSchedule,
)

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from orchestrator import Orchestrator, Run

RETRY_AFTER_S = 5
# The media type of a problem document.
DOCUMENT = "application/problem+json"


def problem(status: int, kind: str, detail: str, **members: Any) -> Response:
    """Return a problem document.

    Args:
        kind: what went wrong, in a few dashed words; the end of the problem's ``type``.
        members: further members of the document, JSON.
    """
    return Response(
        json.dumps(members_of_all(status, kind, detail) | members),
        status=status,
        headers=_headers(status, kind),
        content_type=DOCUMENT,
    )


def members_of_all(status: int, kind: str, detail: str) -> dict[str, Any]:
    """Return the members that every problem document has."""
    return {
        "type": f"urn:quiesce:{kind}",
        "title": HTTP_STATUS_CODES[status],
        "status": status,
        "detail": detail,
    }


def _headers(status: int, kind: str) -> dict[str, str]:
    if status in (429, 503):
        return {"Retry-After": str(RETRY_AFTER_S)}
    if kind == "key-in-use":
        return {"Retry-After": "1"}
    if status == 401:
        error = ', error="invalid_token"' if kind == "bad-token" else ""
        return {"WWW-Authenticate": f'Bearer realm="quiesce"{error}'}
    return {}


def invalid(problems: list[tuple[str, str]], **members: Any) -> Response:
    """Return the 422 that names each field that does not fit."""
    detail = "; ".join(f"{field}: {why}" for field, why in problems)
    errors = [{"field": field, "message": why} for field, why in problems]
    return problem(422, "invalid-input", detail, **members, errors=errors)


class StopNotDurable(StoreUnavailable):
    """The stop is being carried out, but a crash now could forget it."""

    def __init__(self, run: Run, error: StoreUnavailable) -> None:
        self.run_id = run.id
        self.status = run.status
        self.receipt = run.receipt
        super().__init__(f"the stop is being carried out but is not durable yet: {error}")


def about(run_id: str) -> dict[str, Any]:
    """Return what a problem says of a run that is live; nothing of another."""
    orchestrator: Orchestrator = current_app.extensions["quiesce"]
    live = orchestrator.live(run_id)
    return {} if live is None else {"run_id": live.id, "run_status": live.status}


async def document(response: Response) -> dict[str, Any]:
    """Return the document that a problem's response holds."""
    found: dict[str, Any] = json.loads(await response.get_data())
    return found


# These say nothing of any run, not even that it is there.
_TELL_NOTHING: dict[type[OrchestratorError], tuple[int, str]] = {
    BadCredentials: (401, "bad-token"),
    Unidentified: (401, "no-token"),
    CannotJudge: (503, "cannot-judge"),
    TooManySessions: (429, "too-many-sessions"),
    UnknownSchedule: (404, "unknown-schedule"),
    ScheduleExists: (409, "schedule-exists"),
    QueueFull: (429, "queue-full"),
    Halted: (503, "halted"),
    StartsRefused: (503, "starts-refused"),
    KeyReused: (422, "key-reused"),
    KeySpent: (422, "key-reused"),
    KeyInUse: (409, "key-in-use"),
}


def from_error(error: OrchestratorError, **about: Any) -> Response:
    """Return the problem that an error of the orchestrator means over HTTP.

    Args:
        about: ``run_id`` and ``run_status`` of the run that the request is about, if it is live.
    """
    said = str(error)
    if type(error) in _TELL_NOTHING:
        return problem(*_TELL_NOTHING[type(error)], said)
    match error:
        case InvalidInput(problems=problems):
            return invalid(list(problems), **about)
        case UnknownAgent():
            return invalid([("agent", said)])
        case Forbidden():
            return problem(403, "forbidden", said, **about)
        case TooOften(wait_s=wait_s):
            response = problem(429, "too-often", said)
            response.headers["Retry-After"] = str(ceil(wait_s))
            return response
        case UnknownRun(run_id=run_id):
            return problem(404, "unknown-run", said, run_id=run_id)
        case RunEnded(run_id=run_id, status=status):
            return problem(409, "run-ended", said, run_id=run_id, run_status=status)
        case IllegalTransition(move=move):
            return problem(409, "illegal-transition", said, **about, move=move)
        case TooLateToStop(run_id=too_far, percent=percent, limit=limit):
            about = {"percent": percent, "no_stop_after_percent": limit, **about}
            return problem(409, "too-late-to-stop", said, **{"run_id": too_far} | about)
        case ParentIsPaused(parent_id=parent_id):
            return problem(409, "parent-is-paused", said, **about, parent_id=parent_id)
        case PartOfATree(root_id=root_id):
            return problem(409, "part-of-a-tree", said, **about, root_id=root_id)
        case NobodyAsks(question_id=question_id):
            return problem(409, "nobody-asks", said, **about, question_id=question_id)
        case KeyConflict(key=key, run_id=run_id, status=status):
            return problem(409, "key-conflict", said, run_id=run_id, run_status=status, key=key)
        case StopNotDurable(run_id=run_id, status=status, receipt=receipt):
            shown = {"run_id": run_id, "run_status": status, "receipt": receipt_json(receipt)}
            return problem(503, "stop-not-durable", said, **shown)
        case StoreUnavailable():
            return problem(503, "store-unavailable", said, **about)
        case StoreDamaged():
            return problem(500, "store-damaged", said, **about)
        case _:
            raise error


def _words_of(error: HTTPException) -> str:
    """Return what whoever raised it has said, or what is wrong and what to do."""
    if error.description == type(error).description:
        match error:
            case WebsocketMismatch():
                wants_socket = has_request_context()
                return f"this path is {'only' if wants_socket else 'not'} for WebSockets"
            case NotFound():
                return "nothing has this path; `GET /openapi.json` describes every call"
            case MethodNotAllowed():
                return f"this path takes only {', '.join(sorted(error.valid_methods or ()))}"
            case RequestEntityTooLarge():
                mib = current_app.config["MAX_CONTENT_LENGTH"] // 2**20
                return f"the body is larger than {mib} MiB, the most that is taken; send less"
    return error.description or error.name


def install(app: QuartTrio) -> None:
    """Make the application answer every error with a problem document."""
    failures = Failures("a call", explain=True)

    async def orchestrator_error(error: OrchestratorError) -> Response:
        asked = request if has_request_context() else websocket
        return from_error(error, **about((asked.view_args or {}).get("run_id", "")))

    async def http_error(error: HTTPException) -> Response:
        status = error.code or 500
        # Not by the words of Python's own table, which are others in each version.
        kind = HTTP_STATUS_CODES[status].lower().replace(" ", "-")
        response = problem(status, kind, _words_of(error))
        if isinstance(error, MethodNotAllowed):
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
        return response

    async def bug(error: Exception) -> Response:
        failures.note(error)
        return problem(500, "internal-error", "the server made a mistake; its log says which")

    app.register_error_handler(OrchestratorError, orchestrator_error)
    app.register_error_handler(HTTPException, http_error)
    app.register_error_handler(Exception, bug)

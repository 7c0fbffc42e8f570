"""The web application: guards before every call, errors as problems, health, and the calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quart import Response, g, request
from quart_trio import QuartTrio

from api import (
    answered,
    audit,
    bulk,
    controls,
    dashboard,
    feeds,
    files,
    halts,
    holding,
    metrics,
    openapi,
    problems,
    runs,
    schedules,
    socket,
    starts,
)
from api.auth import Access, guard, login
from api.auth.audit import Trail
from api.auth.headers import harden
from api.auth.noting import note_the_rest
from api.calls import decode_json, query
from api.dialects import install as install_dialects
from api.encoding import Plain
from api.forms import order_in, read_form, values_in
from api.logs import log_answer
from api.metrics import Metrics
from api.once import Starts
from api.openapi.operations import OPERATIONS
from api.stream import Streams
from api.webhooks import calls
from orchestrator import InvalidInput, Knowledge, come_from

if TYPE_CHECKING:
    from collections.abc import Iterable

    from api.webhooks import Outbox
    from orchestrator import Orchestrator

_CALLS = (
    *(starts, runs, bulk, feeds, controls, files, halts, schedules),
    *(login, audit, socket, dashboard, calls, openapi),
)

MAX_BODY = 8 * 2**20
# What JSON may be said to be in: UTF-8, or what is a part of it.
CHARSETS = frozenset(("utf-8", "utf8", "us-ascii", "ascii"))
# The endpoints that take files, and how the body is made of the fields that come with them.
FORMS = {starts.WITH_FILES: order_in, "archon.upload": values_in}
# The blueprint whose bodies are no JSON. It is there with a dialect only, and not imported here.
NO_JSON = "socketio"


def create_app(
    orchestrator: Orchestrator,
    streams: Streams | None = None,
    access: Access | None = None,
    measures: Metrics | None = None,
    dialects: Iterable[str] = (),
    outbox: Outbox | None = None,
) -> QuartTrio:
    """Return the application for an orchestrator, which outlives it.

    Args:
        access: who may do what; None if everybody who can connect may do everything.
        measures: metrics that were given to the orchestrator when it was opened; new ones if None.
        outbox: sends webhooks, and was given to the orchestrator too; None if nothing does.
        dialects: names of further interfaces that it is to have.

    Raises:
        InvalidInput: there is no such dialect.
    """
    measures = measures or Metrics()
    measures.watch(orchestrator)
    app = QuartTrio("api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    # `/runs//stop`, of a script whose variable is empty, is no `/runs/stop`, which is about many.
    app.url_map.merge_slashes = False
    # The connection cuts a client that does not read; a slow one may take its time.
    app.config["RESPONSE_TIMEOUT"] = None
    app.json = Plain(app)
    app.extensions["quiesce"] = orchestrator
    app.extensions["quiesce.streams"] = streams or Streams()
    app.extensions["quiesce.trail"] = Trail(orchestrator)
    app.extensions["quiesce.outbox"] = outbox
    app.extensions["quiesce.knowledge"] = Knowledge(orchestrator)
    answered.install(app, measures.answered, log_answer)
    holding.install(app)
    app.extensions["quiesce.starts"] = Starts(orchestrator)
    metrics.install(app, measures)
    guard.install(app, access or Access())
    app.before_request(_take_traceparent)
    app.before_request(_read_body)
    app.before_request(_refuse_unread_query)
    app.after_request(note_the_rest)
    app.after_request(harden)
    for module in _CALLS:
        app.register_blueprint(module.blueprint)
    install_dialects(app, dialects)
    app.add_url_rule("/healthz", view_func=_healthz)
    app.add_url_rule("/readyz", view_func=_readyz_of(orchestrator))
    problems.install(app)
    return app


async def _healthz() -> dict[str, Any]:
    """Say that the process lives."""
    return {"status": "ok"}


def _readyz_of(orchestrator: Orchestrator) -> Any:
    async def readyz() -> tuple[dict[str, Any], int]:
        """Say whether requests should come here, and if not, why."""
        reasons = [str(why) for why in (orchestrator.refusing, orchestrator.store_error) if why]
        body = {
            "status": "unready" if reasons else "ready",
            "reasons": reasons,
            "warnings": _warnings(orchestrator),
        }
        return body, 503 if reasons else 200

    return readyz


async def _take_traceparent() -> None:
    """Let runs that the request starts be part of the trace that it is part of."""
    come_from(request.headers.get("traceparent", ""))


def _warnings(orchestrator: Orchestrator) -> list[str]:
    """Return what is out of order, but no reason to send requests elsewhere.

    A halt is one: who is sent elsewhere can neither watch what it stops, nor lift it.
    """
    found = [] if orchestrator.blocked is None else [orchestrator.blocked.words]
    if orchestrator.halted is not None:
        found.append(f"halted since {orchestrator.halted.requested_at}: nothing starts")
    return found


async def _refuse_unread_query() -> None:
    """Refuse what stands in the query of a call that changes something and takes no query.

    Whoever says `?mode=now` there means it, and must not be answered as if they had not said it.
    """
    operation = OPERATIONS.get(f"{request.method} {request.url_rule}")
    if operation is None or operation.query is not None or request.method == "GET":
        return
    takes = "this call takes none"
    if operation.body is not None:
        takes = f"the body takes: {', '.join(operation.body.model_fields)}"
    if wrong := [(name, f"is not known in the query; {takes}") for name in query()]:
        raise InvalidInput(wrong)


def _coded_otherwise() -> str:
    """Return why the bytes of the body are not what they stand for; empty if they are."""
    coding = request.headers.get("Content-Encoding", "")
    if coding.lower() not in ("", "identity"):
        return f"the body's `Content-Encoding` is {coding!r}; send the body as it is, without one"
    charset = request.mimetype_params.get("charset", "utf-8")
    if request.is_json and charset.lower() not in CHARSETS:
        return f"the body's charset is {charset!r}; send UTF-8, which JSON is in without one"
    return ""


async def _read_body() -> Response | None:
    """Read and decode the body here, so that a handler can act before it first waits.

    It must be read in any case: a response that overtakes its request's body would leave a dead
    connection behind.
    """
    raw = await request.get_data(cache=True, as_text=False, parse_form_data=False)
    g.body, g.files, g.fields_of_files = None, [], []
    reads = bool(raw) and request.method in ("POST", "PUT", "PATCH")
    if reads and (why := _coded_otherwise()):
        response = problems.problem(415, "unsupported-media-type", why)
        response.headers["Accept-Encoding"] = "identity"
        return response
    if request.endpoint in FORMS and request.mimetype == "multipart/form-data":
        fields, files = read_form(raw, request.mimetype_params.get("boundary", ""))
        g.fields_of_files, g.files = [name for name, _ in files], [file for _, file in files]
        g.body = FORMS[request.endpoint](fields)
    elif reads and request.blueprint != NO_JSON:
        try:
            g.body = decode_json(raw)
        except (ValueError, RecursionError) as error:
            form = ", nor multipart/form-data" if request.endpoint in FORMS else ""
            return problems.problem(400, "malformed-json", f"the body is not JSON{form}: {error}")
        if g.body is None:  # which is not the same as a body that is left out
            raise InvalidInput([("body", "must be a JSON object, and not null")])
    return None

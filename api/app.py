"""The web application: guards before every call, errors as problems, health, and the calls."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from quart import Response, g, json, request
from quart_trio import QuartTrio

from api import controls, feeds, files, problems, runs
from api.stream import Streams

if TYPE_CHECKING:
    from orchestrator import Orchestrator

MAX_BODY = 8 * 2**20


def create_app(orchestrator: Orchestrator, streams: Streams | None = None) -> QuartTrio:
    """Return the application for an orchestrator, which outlives it."""
    app = QuartTrio("api", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    # The connection cuts a client that does not read; a slow one may take its time.
    app.config["RESPONSE_TIMEOUT"] = None
    app.json.sort_keys = False  # type: ignore[attr-defined]  # of the default provider
    app.extensions["quiesce"] = orchestrator
    app.extensions["quiesce.streams"] = streams or Streams()
    app.before_request(_refuse_foreign)
    app.before_request(_read_body)
    for module in (runs, feeds, controls, files):
        app.register_blueprint(module.blueprint)
    app.add_url_rule("/healthz", view_func=_healthz)
    app.add_url_rule("/readyz", view_func=_readyz_of(orchestrator))
    problems.install(app)
    return app


async def _healthz() -> dict[str, Any]:
    return {"status": "ok"}


def _readyz_of(orchestrator: Orchestrator) -> Any:
    async def readyz() -> tuple[dict[str, Any], int]:
        reasons = [str(why) for why in (orchestrator.refusing, orchestrator.store_error) if why]
        body = {
            "status": "unready" if reasons else "ready",
            "reasons": reasons,
            "warnings": [] if orchestrator.blocked is None else [orchestrator.blocked.words],
        }
        return body, 503 if reasons else 200

    return readyz


async def _refuse_foreign() -> Response | None:
    """Refuse what a page of somebody else's makes a browser send to this machine.

    A foreign ``Host`` is DNS rebinding, a foreign ``Origin`` a cross-site request.
    """
    host = request.headers.get("Host", "")
    if not _is_local(host):
        return problems.problem(403, "foreign-host", f"host {host!r} is not this server")
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != host:
        return problems.problem(403, "foreign-origin", f"origin {origin!r} is not this server")
    return None


def _is_local(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _read_body() -> Response | None:
    """Read and decode the body here, so that a handler can act before it first waits.

    It must be read in any case: a response that overtakes its request's body would leave a dead
    connection behind.
    """
    raw = await request.get_data()
    g.body = None
    if raw and request.method in ("POST", "PUT", "PATCH"):
        try:
            g.body = json.loads(raw)
        except (ValueError, RecursionError) as error:
            return problems.problem(400, "malformed-json", f"the body is not JSON: {error}")
    return None

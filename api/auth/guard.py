"""What every request passes before its call: is it meant for us, who sends it, and may they."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from quart import current_app, g, has_request_context, request, websocket

from api.auth.identity import Credentials, Forbidden, Identity
from api.auth.rights import CALLS, UNLISTED, Call, Right, depends_on_owner, permits, refusal
from api.problems import from_error, problem
from orchestrator import OrchestratorError, UnknownRun

if TYPE_CHECKING:
    from quart import Response
    from quart.wrappers.base import BaseRequestWebsocket
    from quart_trio import QuartTrio

    from api.auth.access import Access
    from orchestrator import Orchestrator


def install(app: QuartTrio, access: Access) -> None:
    """Guard every call of the application. To be called before anything else looks at requests."""
    app.extensions["quiesce.access"] = access
    app.before_request(_guard_request)
    app.before_websocket(_guard_websocket)


def caller() -> Identity:
    """Return who sends the request that is being handled."""
    identity: Identity = g.caller
    return identity


def check_agent(name: str) -> None:
    """Refuse the start of an agent that the caller may not start.

    Raises:
        Forbidden: it is for admins only.
    """
    if not _access().may_start(caller(), name):
        raise Forbidden(f"{caller().principal} may not start {name!r}: it is for admins only")


def check_run(right: Right, run_id: str, owner: str) -> None:
    """Refuse what the caller may not do with a run of that owner.

    Raises:
        UnknownRun: they may not even know of it.
        Forbidden: they may see it, and not more.
    """
    if not caller().may_see(owner):
        raise UnknownRun(run_id)
    if not permits(caller(), right, owner):
        raise refusal(caller(), right, owner)


async def _guard_request() -> Response | None:
    refused = _refuse_foreign()
    if refused is None:
        await _admit()
    return refused


async def _guard_websocket() -> Response | None:
    try:
        return await _guard_request()
    except OrchestratorError as error:
        return from_error(error)


def _refuse_foreign() -> Response | None:
    """Refuse what a page of somebody else's makes a browser send here.

    A foreign ``Host`` is DNS rebinding, a foreign ``Origin`` a cross-site request.
    """
    host = _asked().headers.get("Host", "")
    if not _is_ours(host):
        why = f"host {host!r} is not this server"
        remedy = "; `quiesce serve --public-host` names it" if _access().authentication else ""
        return problem(403, "foreign-host", why + remedy)
    origin = _asked().headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != host:
        return problem(403, "foreign-origin", f"origin {origin!r} is not this server")
    return None


def _is_ours(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if _access().authentication and {host.lower(), name} & _access().public_hosts:
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    # Rebinding takes a name: who serves a page from an address does so from that address.
    return address.is_loopback or _access().authentication


async def _admit() -> None:
    """Let the call through, or raise why not."""
    right = _call().right
    if right is Right.OPEN:
        return
    identity = g.caller = await _access().identify(_credentials())
    owner = None
    run_id = (_asked().view_args or {}).get("run_id")
    if run_id is not None and depends_on_owner(identity, right):
        owner = await _owner_of(run_id)
        if not identity.may_see(owner):
            raise UnknownRun(run_id)
    if not permits(identity, right, owner):
        raise refusal(identity, right, owner)


async def _owner_of(run_id: str) -> str:
    """Return whose run it is. Not a checkpoint for a live one."""
    orchestrator: Orchestrator = current_app.extensions["quiesce"]
    live = orchestrator.live(run_id)
    record = live.record if live is not None else await orchestrator.get(run_id)
    return record.owner


def _call() -> Call:
    rule = _asked().url_rule
    if rule is None:  # there is no such call; whoever is known may know that
        return Call(Right.READ)
    method = "WS" if rule.websocket else _asked().method.replace("HEAD", "GET")
    return CALLS.get(f"{method} {rule.rule}", UNLISTED)


def _credentials() -> Credentials:
    headers = _asked().headers
    kind, _, token = headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if kind.lower() == "bearer" else None
    client = _asked().scope.get("client") or ("", 0)
    return Credentials(bearer, headers, client[0])


def _asked() -> BaseRequestWebsocket:
    return request if has_request_context() else websocket


def _access() -> Access:
    access: Access = current_app.extensions["quiesce.access"]
    return access

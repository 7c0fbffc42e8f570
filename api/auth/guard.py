"""What every request passes before its call: is it meant for us, who sends it, and may they."""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio
from quart import current_app, g, has_request_context, request, websocket

from api.auth.audit import Deed
from api.auth.identity import BadCredentials, Credentials, Forbidden, Identity
from api.auth.rights import (
    CALLS,
    CALLS_OF_DIALECTS,
    STARTS,
    UNLISTED,
    Call,
    Right,
    depends_on_owner,
    permits,
    refusal,
)
from api.auth.sessions import COOKIE
from api.problems import from_error, problem
from orchestrator import OrchestratorError, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from quart import Response
    from quart.wrappers.base import BaseRequestWebsocket
    from quart_trio import QuartTrio

    from api.auth.access import Access
    from api.auth.audit import Trail
    from orchestrator import Orchestrator


# How much of a request that is refused is read, and for how long.
DRAINED_BYTES = 64 * 1024
DRAIN_S = 2.0


def install(app: QuartTrio, access: Access) -> None:
    """Guard every call of the application. To be called before anything else looks at requests."""
    app.extensions["quiesce.access"] = access
    app.before_request(_guard_request)
    app.before_websocket(_guard_websocket)


def caller() -> Identity:
    """Return who sends the request that is being handled."""
    identity: Identity = g.caller
    return identity


def the_access() -> Access:
    """Return who may do what."""
    access: Access = current_app.extensions["quiesce.access"]
    return access


def credentials() -> Credentials:
    """Return what the request says of who sends it."""
    given: Credentials | None = g.get("credentials")
    if given is None:
        given = g.credentials = _read_credentials()
    return given


def _read_credentials() -> Credentials:
    headers = _asked().headers
    kind, _, token = headers.get("Authorization", "").partition(" ")
    bearer = token.strip() if kind.lower() == "bearer" else None
    client = _asked().scope.get("client") or ("", 0)
    return Credentials(bearer, headers, client[0], _asked().cookies.get(COOKIE))


def is_secure() -> bool:
    """Whether the request came over TLS, to us or to a proxy in front of us."""
    return _asked().scheme in ("https", "wss") or the_access().proxies.is_secure(credentials())


def origin() -> str:
    """Return the address that the request comes from."""
    return the_access().proxies.origin_of(credentials())


def check_start(name: str, given: Any) -> None:
    """Refuse the start of an agent that the caller may not start, or that is to call such.

    Args:
        given: its input.

    Raises:
        Forbidden: it, or one that it is to call, is for admins only.
        UnknownAgent, InvalidInput: there is no such start.
    """
    _check_agent(name)
    if the_access().may_start_all(caller()):
        return
    orchestrator: Orchestrator = current_app.extensions["quiesce"]
    agents = orchestrator.agents
    for called in agents.get(name).called_by({} if given is None else given):
        _check_agent(called)
        if called in agents and agents.get(called).calls is not None:
            # What that one is to call would be up to a model.
            why = f"{caller().principal} may not let {name!r} call {called!r}, which calls others"
            raise Forbidden(f"{why}: that is for admins only")


def _check_agent(name: str) -> None:
    if not the_access().may_start(caller(), name):
        raise Forbidden(f"{caller().principal} may not start {name!r}: it is for admins only")


def check_owner(right: Right, run_id: str, owner: str) -> None:
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
    try:
        refused = await _guarded()
    except OrchestratorError:
        await _drain()
        raise
    if refused is not None:
        await _drain()
    return refused


async def _guard_websocket() -> Response | None:
    try:
        return await _guarded()
    except OrchestratorError as error:
        return from_error(error)


async def _guarded() -> Response | None:
    refused = _refuse_foreign()
    if refused is None:
        await _admit()
    return refused


async def _drain() -> None:
    """Read what little there is of the body of a request that is refused, and forget it.

    An answer that overtakes its request's body ends the connection, and the client's next call on
    it would fail for no reason that it could tell. But a stranger gets no memory and no time.
    """
    if 0 < (request.content_length or 0) <= DRAINED_BYTES:
        with trio.move_on_after(DRAIN_S):
            await request.get_data(cache=False)


def _refuse_foreign() -> Response | None:
    """Refuse what a page of somebody else's makes a browser send here.

    A foreign ``Host`` is DNS rebinding, a foreign ``Origin`` a cross-site request.
    """
    host = _asked().headers.get("Host", "")
    if not _is_ours(host):
        return problem(403, "foreign-host", _why_foreign(host))
    origin = _asked().headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != host:
        why = (
            f"origin {origin!r} is not this server, which was asked as {host!r}; open its pages by"
            " that name, and let a proxy pass on the `Host` that a browser sends"
        )
        return problem(403, "foreign-origin", why)
    if origin is None and _acts_by_cookie():
        return problem(403, "no-origin", "a request with a cookie must say its `Origin`")
    return None


def _why_foreign(host: str) -> str:
    what = f"host {host!r} is not this server" if host else "the request names no `Host`"
    names = "`localhost` or a loopback address"
    if the_access().authentication:
        names = (
            "`localhost`, an address, or a name that `quiesce serve --public-host NAME` gives it"
        )
    return f"{what}; ask for it by {names}"


def _acts_by_cookie() -> bool:
    """Whether a browser might have been made to send it, with a cookie that its page never saw."""
    given = credentials()
    harmless = has_request_context() and request.method in ("GET", "HEAD")
    return given.bearer is None and given.session is not None and not harmless


def _is_ours(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if the_access().is_public(host):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost"
    # Rebinding takes a name: who serves a page from an address does so from that address.
    return address.is_loopback or the_access().authentication


async def _admit() -> None:
    """Let the call through, or raise why not."""
    right = call().right
    if right is Right.OPEN:
        return
    given, access = credentials(), the_access()
    identity = g.caller = await checked(
        partial(access.identify, given), guessing=given.bearer is not None
    )
    run_id = view_args().get("run_id")
    if run_id is not None:
        await check_run(right, run_id)
    elif not permits(identity, right):
        raise refusal(identity, right)
    if call().action in STARTS:
        access.check_start(identity)


async def check_run(right: Right, run_id: str) -> None:
    """Refuse the caller what they may not do to a run. Not a checkpoint for a live run.

    Raises:
        UnknownRun: there is no such run, or they may not see it.
        Forbidden: they may see it, and not do this.
    """
    if depends_on_owner(caller(), right):
        check_owner(right, run_id, await _owner_of(run_id))
    elif not permits(caller(), right):
        raise refusal(caller(), right)


async def checked(ask: Callable[[], Awaitable[Identity]], *, guessing: bool = True) -> Identity:
    """Ask who it is; that the credentials are no good is noted.

    Args:
        guessing: whether there is something that a stranger could try out.

    Raises:
        TooOften: too many bad ones came from there; these were not looked at.
        Unidentified, BadCredentials, CannotJudge: as for ``Access.identify``.
    """
    if guessing:
        the_access().check_address(origin())
    try:
        return await ask()
    except BadCredentials:
        the_access().count_bad_token(origin())
        trail: Trail = current_app.extensions["quiesce.trail"]
        trail.count(Deed("token", "", origin(), result="bad-token"))
        raise


async def _owner_of(run_id: str) -> str:
    """Return whose run it is. Not a checkpoint for a live one."""
    orchestrator: Orchestrator = current_app.extensions["quiesce"]
    live = orchestrator.live(run_id)
    record = live.record if live is not None else await orchestrator.get(run_id)
    return record.owner


def call() -> Call:
    """Return what the call that is asked for needs, and what it is called in the audit."""
    rule = _asked().url_rule
    if rule is None:  # there is no such call; whoever is known may know that
        return Call(Right.READ)
    method = "WS" if rule.websocket else _asked().method.replace("HEAD", "GET")
    name = f"{method} {rule.rule}"
    return CALLS.get(name) or CALLS_OF_DIALECTS.get(name, UNLISTED)


def view_args() -> dict[str, Any]:
    """Return what the path of the request names."""
    return _asked().view_args or {}


def _asked() -> BaseRequestWebsocket:
    return request if has_request_context() else websocket

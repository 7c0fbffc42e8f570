"""The calls by which pages log in and out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from quart import Blueprint, Response, g, jsonify, request
from werkzeug.datastructures import Headers

from api.auth.guard import caller, checked, credentials, is_secure, the_access
from api.auth.identity import Credentials
from api.auth.sessions import COOKIE, SESSION_S
from api.problems import problem
from api.schema import ChallengeOrder, LoginOrder, parse

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from api.auth.identity import Identity

blueprint = Blueprint("login", __name__)


@blueprint.get("/session")
async def who() -> dict[str, Any]:
    """Say who the caller is."""
    return _session_json(caller())


@blueprint.post("/session/challenge")
async def challenge() -> dict[str, Any] | Response:
    """Say what the holder of a wallet is to sign."""
    address = parse(ChallengeOrder, g.body).address
    access = the_access()
    if access.rules is None or not access.rules.wallets:
        return problem(404, "no-wallets", "this server knows no wallets")
    return access.challenges.challenge(request.host, address)._asdict()


@blueprint.post("/session")
async def log_in() -> Response:
    """Take a token, or the signature of a wallet, and give a cookie for it."""
    order = parse(LoginOrder, g.body)
    access = the_access()
    if order.address is not None:
        again = partial(access.holder_of, order.address)
        identity = await checked(partial(_signed, order, again))
    else:
        # The token alone: what else came along must not decide who the session is.
        again = partial(access.identify, Credentials(order.token, Headers(), credentials().peer))
        identity = await checked(again)
    response = jsonify(_session_json(identity))
    if access.authentication:
        _give_cookie(response, access.sessions.open(again))
    return response


async def _signed(order: LoginOrder, again: Callable[[], Awaitable[Identity]]) -> Identity:
    identity = await again()
    assert order.address is not None
    assert order.signature is not None
    await the_access().challenges.check(request.host, order.address, order.signature)
    return identity


def _give_cookie(response: Response, session_id: str) -> None:
    response.set_cookie(
        COOKIE, session_id, max_age=SESSION_S, secure=is_secure(), httponly=True, samesite="Strict"
    )


@blueprint.delete("/session")
async def log_out() -> Response:
    """End the session of the caller, if there is one."""
    the_access().sessions.close(request.cookies.get(COOKIE))
    response = Response(b"", status=204)
    response.delete_cookie(COOKIE, httponly=True, samesite="Strict")
    return response


def _session_json(identity: Identity) -> dict[str, Any]:
    return {
        "principal": identity.principal,
        "role": identity.role,
        "authentication": the_access().authentication,
    }

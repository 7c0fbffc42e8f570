"""The calls by which pages log in and out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from quart import Blueprint, Response, g, jsonify, request
from werkzeug.datastructures import Headers

from api.auth.guard import caller, credentials, identified, the_access
from api.auth.identity import Credentials
from api.auth.sessions import COOKIE, SESSION_S
from api.schema import LoginOrder, parse

if TYPE_CHECKING:
    from api.auth.identity import Identity

blueprint = Blueprint("login", __name__)


@blueprint.get("/session")
async def who() -> dict[str, Any]:
    """Say who the caller is."""
    return _session_json(caller())


@blueprint.post("/session")
async def log_in() -> Response:
    """Take a token and give a cookie for it."""
    token = parse(LoginOrder, g.body).token
    access = the_access()
    # The token alone: what else came along must not decide who the session is.
    alone = Credentials(token, Headers(), credentials().peer)
    again = partial(access.identify, alone)
    response = jsonify(_session_json(await identified(alone)))
    if access.authentication:
        response.set_cookie(
            COOKIE,
            access.sessions.open(again),
            max_age=SESSION_S,
            secure=request.scheme == "https",
            httponly=True,
            samesite="Strict",
        )
    return response


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

"""Logging in and out, as a page does it."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from api.auth import Access, Identity, Role
from api.auth.identity import BadCredentials
from api.auth.sections import Rules
from api.auth.sessions import MAX_SESSIONS, SESSION_S, Sessions
from api.auth.tokens import Tokens
from api.service import open_server
from tests.api.agents import sleeper
from tests.api.auth.people import PEOPLE, access, token_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestrator import Orchestrator

ANN = Identity("ann", Role.VIEWER)


@asynccontextmanager
async def browser(orchestrator: Orchestrator, allowed: Access) -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps cookies, and says where its requests come from."""
    async with (
        open_server(orchestrator, access=allowed) as url,
        httpx.AsyncClient(base_url=url, headers={"Origin": url}) as client,
    ):
        yield client


async def log_in(client: httpx.AsyncClient, name: str) -> httpx.Response:
    return await client.post("/session", json={"token": token_of(name)})


async def test_a_token_is_exchanged_for_a_cookie(orchestrator: Orchestrator) -> None:
    async with browser(orchestrator, access()) as client:
        assert (await client.get("/session")).status_code == 401
        entered = await log_in(client, "owner")
        olga = {"principal": "olga", "role": "operator", "authentication": True}
        assert (entered.status_code, entered.json()) == (200, olga)
        cookie = entered.headers["Set-Cookie"]
        for attribute in ("HttpOnly", "SameSite=Strict", "Path=/", f"Max-Age={SESSION_S}"):
            assert attribute in cookie.split("; ")
        assert "Secure" not in cookie
        assert token_of("owner") not in cookie
        assert (await client.get("/session")).json() == olga

        orchestrator.agents.get(sleeper)
        started = await client.post("/runs", json={"agent": "sleeper"})
        assert started.json()["owner"] == "olga"

        left = await client.delete("/session")
        assert left.status_code == 204
        assert "Max-Age=0" in left.headers["Set-Cookie"]
        assert (await client.get("/session")).status_code == 401


async def test_the_cookie_is_worth_nothing_after_it_is_given_back(
    orchestrator: Orchestrator,
) -> None:
    async with browser(orchestrator, access()) as client:
        await log_in(client, "owner")
        stolen = dict(client.cookies)
        await client.delete("/session")
        client.cookies.update(stolen)
        assert (await client.get("/session")).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"token": "wrong"}, 401),
        ({"token": ""}, 401),
        ({"token": "\ud800"}, 401),
        ({"token": 5}, 422),
        ({}, 422),
        ({"tokens": "x"}, 422),
        ([], 422),
    ],
)
async def test_nothing_else_is(orchestrator: Orchestrator, body: Any, status: int) -> None:
    async with browser(orchestrator, access()) as client:
        answer = await client.post("/session", content=json.dumps(body))
        assert answer.status_code == status
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null"])
@pytest.mark.parametrize(
    "call", ["POST /runs", "POST /runs/x/stop", "PATCH /runs/x", "DELETE /session", "POST /session"]
)
async def test_a_cookie_alone_changes_nothing_without_an_origin_of_ours(
    orchestrator: Orchestrator, call: str, origin: str | None
) -> None:
    async with browser(orchestrator, access()) as client:
        await log_in(client, "admin")
        del client.headers["Origin"]
        method, path = call.split()
        headers = {} if origin is None else {"Origin": origin}
        answer = await client.request(method, path, headers=headers, json={"agent": "sleeper"})
        kind = "no-origin" if origin is None else "foreign-origin"
        assert (answer.status_code, answer.json()["type"]) == (403, f"urn:quiesce:{kind}")
        assert (await client.get("/session")).status_code == 200


async def test_a_session_ends_with_its_token_and_changes_with_it(
    orchestrator: Orchestrator,
) -> None:
    allowed = access()
    async with browser(orchestrator, allowed) as client:
        await log_in(client, "owner")
        before = allowed.rules
        assert before is not None
        (tokens,) = before.authenticators
        assert isinstance(tokens, Tokens)

        allowed.rules = Rules([Tokens([(digest, ANN) for digest, _ in tokens.listed])])
        assert (await client.get("/session")).json()["principal"] == "ann"
        allowed.rules = Rules([Tokens([])])
        assert (await client.get("/session")).status_code == 401
        allowed.rules = before
        assert (await client.get("/session")).status_code == 401


async def test_a_token_goes_before_a_cookie(orchestrator: Orchestrator) -> None:
    async with browser(orchestrator, access()) as client:
        await log_in(client, "owner")
        bearer = {"Authorization": f"Bearer {token_of('viewer')}"}
        assert (await client.get("/session", headers=bearer)).json()["principal"] == "vic"
        bad = {"Authorization": "Bearer wrong"}
        assert (await client.get("/session", headers=bad)).status_code == 401


async def test_without_authentication_there_is_nothing_to_log_in_to(
    orchestrator: Orchestrator,
) -> None:
    async with browser(orchestrator, Access()) as client:
        anonymous = {"principal": "anonymous", "role": "admin", "authentication": False}
        assert (await client.get("/session")).json() == anonymous
        entered = await log_in(client, "owner")
        assert entered.json() == anonymous
        assert "Set-Cookie" not in entered.headers


async def ann() -> Identity:
    return ANN


async def test_a_session_lasts_for_its_time(autojump_clock: trio.testing.MockClock) -> None:
    sessions = Sessions()
    session_id = sessions.open(ann)
    await trio.sleep(SESSION_S - 1)
    assert await sessions.identify(session_id) == ANN
    await trio.sleep(1)
    assert await sessions.identify(session_id) is None


async def test_the_oldest_session_goes_when_there_are_too_many() -> None:
    sessions = Sessions()
    ids = [sessions.open(ann) for _ in range(MAX_SESSIONS + 1)]
    assert len(set(ids)) == len(ids)
    assert await sessions.identify(ids[0]) is None
    assert await sessions.identify(ids[1]) == ANN


async def test_a_session_whose_credentials_fail_once_is_over() -> None:
    answers = [BadCredentials(), None]

    async def again() -> Identity:
        if error := answers.pop(0):
            raise error
        return PEOPLE["viewer"]

    sessions = Sessions()
    session_id = sessions.open(again)
    assert await sessions.identify(session_id) is None
    assert await sessions.identify(session_id) is None
    assert answers == [None]

"""Whatever is sent as a token, a cookie, a host or a body: no request makes the server fail."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import KeySet

from api.auth import Access, Role
from api.auth.jwts import GivenKeys
from api.auth.proxy import Proxies, ProxyHeader
from api.auth.rights import CALLS, Right
from api.auth.sections import Limits, Rules
from api.auth.tokens import Tokens, hash_of
from orchestrator import open_orchestrator
from tests.api.agents import ALL
from tests.api.auth.people import PEOPLE, Asking, token_of
from tests.api.auth.test_jwts import PUBLIC, provider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from api.auth import Authenticator

pytestmark = pytest.mark.slow

FUZZ = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

# What may stand in a header's value: h11 lets nothing else in.
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"))
NAMES = st.sampled_from(
    [
        *("Authorization", "Cookie", "Origin", "Host", "X-Forwarded-For", "X-Forwarded-User"),
        *("X-Forwarded-Groups", "X-Forwarded-Proto", "If-None-Match", "Last-Event-ID", "Accept"),
        *("Content-Type", "Sec-Fetch-Site", "Range", "Forwarded"),
    ]
)
LIKELY = st.sampled_from(
    [
        *("Bearer ", "bearer x", "Bearer a.b.c", "Basic eA==", "Bearer " + "x" * 5_000),
        *("quiesce_session=", "quiesce_session=x; quiesce_session=y", "null", "http://localhost"),
        *("localhost", "localhost:99999", "[::1", "127.0.0.1, junk", "https", "ann", "*/*;q=9"),
    ]
)
HEADERS = st.lists(st.tuples(NAMES, VALUES | LIKELY), max_size=6)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
# Streams never end, so these are asked for elsewhere.
ASKED = sorted(call for call in CALLS if not call.startswith("WS") and "/events" not in call)


def everything() -> Access:
    """Access by every authenticator there is."""
    proxies = Proxies([ip_network("192.0.2.0/24")])
    roles = {str(role): role for role in Role}
    listed = [(hash_of(token_of(name)), identity) for name, identity in PEOPLE.items()]
    said_by_proxy = ProxyHeader(proxies, "X-Forwarded-User", "X-Forwarded-Groups", roles, None)
    signed = provider(GivenKeys(KeySet.import_key_set(PUBLIC)))
    often = Limits(bad_tokens_per_minute=1_000_000, starts_per_minute=1_000_000)
    wallets = {"0x" + "1" * 40: PEOPLE["owner"]}
    authenticators: list[Authenticator] = [Tokens(listed), signed, said_by_proxy]
    return Access(Rules(authenticators, proxies=proxies, wallets=wallets, limits=often))


@asynccontextmanager
async def opened() -> AsyncIterator[Asking]:
    async with open_orchestrator(agents=ALL) as orchestrator:
        yield Asking(orchestrator, everything())


async def fuzzed(call: str, headers: list[tuple[str, str]], peer: str, content: bytes) -> int:
    async with opened() as asking:
        path = call.replace("<run_id>", "run_no").replace("<name>", "x").replace("<version>", "v")
        answer = await asking.ask(
            path, headers=dict(headers), data=content, scope_base={"client": (peer, 1)}
        )
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        return answer.status_code


@FUZZ
@given(st.sampled_from(ASKED), HEADERS, st.sampled_from(["192.0.2.1", "203.0.113.1", ""]))
def test_no_header_makes_the_server_fail(
    call: str, headers: list[tuple[str, str]], peer: str
) -> None:
    status = trio.run(fuzzed, call, headers, peer, b"")
    assert 200 <= status < 500, (call, headers)


@FUZZ
@given(VALUES | LIKELY)
def test_no_made_up_token_opens_anything(said: str) -> None:
    async def ask() -> list[int]:
        async with opened() as asking:
            headers = {"Authorization": f"Bearer {said}"}
            calls = ("GET /runs", "POST /runs", "GET /audit", "GET /session")
            return [(await asking.ask(call, headers=headers)).status_code for call in calls]

    assert trio.run(ask) == [401] * 4


@FUZZ
@given(VALUES)
def test_no_made_up_cookie_opens_anything(said: str) -> None:
    async def ask() -> int:
        async with opened() as asking:
            headers = {"Cookie": f"quiesce_session={said}"}
            return (await asking.ask("GET /runs", headers=headers)).status_code

    assert trio.run(ask) == 401


@FUZZ
@given(
    st.sampled_from(["", "/challenge"]),
    JSON | st.dictionaries(st.sampled_from(["token", "address", "signature"]), JSON),
)
def test_no_login_makes_the_server_fail(path: str, body: Any) -> None:
    content = json.dumps(body).encode()
    status = trio.run(partial(fuzzed, f"POST /session{path}", [], "203.0.113.1", content))
    assert status in (400, 401, 422), body


@FUZZ
@given(st.binary(max_size=200))
def test_no_bytes_make_a_login_fail(content: bytes) -> None:
    status = trio.run(partial(fuzzed, "POST /session", [], "203.0.113.1", content))
    assert status in (400, 401, 422)


def test_the_fuzzing_asks_for_all_kinds_of_rights() -> None:
    assert {CALLS[call].right for call in ASKED} == set(Right)

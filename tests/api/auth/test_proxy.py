"""What a reverse proxy says, and whether it is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given as generated
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from api.auth import Access, BadCredentials, Credentials, Identity, Role
from api.auth.file import BadTokensFile, read_rules
from api.auth.proxy import Proxies
from tests.api.auth.people import Asking

if TYPE_CHECKING:
    from pathlib import Path

    from api.auth.sections import Rules
    from orchestrator import Orchestrator

FILE = """
[proxy]
addresses = ["10.0.0.0/8", "2001:db8::7"]
user_header = "X-Forwarded-User"
role_header = "X-Forwarded-Groups"
roles = { staff = "operator", lead = "admin" }
"""


def rules(folder: Path, more: str = "") -> Rules:
    (folder / "tokens.toml").write_text(FILE + more)
    return read_rules(folder / "tokens.toml", ())


def from_(peer: str, *headers: tuple[str, str]) -> Credentials:
    return Credentials(None, Headers(headers), peer)


async def who(rules: Rules, peer: str, *headers: tuple[str, str]) -> Identity | None:
    return await rules.authenticators[-1].identify(from_(peer, *headers))


ANN = ("x-forwarded-user", "ann")
STAFF = ("x-forwarded-groups", "guest, staff")


async def test_a_listed_proxy_says_who_it_is(tmp_path: Path) -> None:
    found = await who(rules(tmp_path), "10.1.2.3", ANN, STAFF)
    assert found == Identity("ann", Role.OPERATOR)
    found = await who(rules(tmp_path), "2001:db8::7", ANN, ("X-Forwarded-Groups", "staff,lead"))
    assert found == Identity("ann", Role.ADMIN)


@pytest.mark.parametrize("peer", ["127.0.0.1", "11.0.0.1", "2001:db8::8", "", "unix", "10.0.0.1 "])
async def test_nobody_else_does(tmp_path: Path, peer: str) -> None:
    assert await who(rules(tmp_path), peer, ANN, STAFF) is None


@pytest.mark.parametrize(
    "headers",
    [
        [ANN],
        [ANN, ("X-Forwarded-Groups", "guest")],
        [ANN, ANN, STAFF],
        [ANN, STAFF, STAFF],
        [("X-Forwarded-User", ""), STAFF],
        [("X-Forwarded-User", "a\tb"), STAFF],
        [("X-Forwarded-User", "x" * 201), STAFF],
    ],
)
async def test_what_a_proxy_says_must_be_clear(
    tmp_path: Path, headers: list[tuple[str, str]]
) -> None:
    with pytest.raises(BadCredentials):
        await who(rules(tmp_path), "10.0.0.1", *headers)


async def test_a_request_without_the_header_is_nobodys(tmp_path: Path) -> None:
    assert await who(rules(tmp_path), "10.0.0.1", STAFF) is None


async def test_a_default_role_is_for_those_without_one(tmp_path: Path) -> None:
    found = await who(rules(tmp_path, 'default_role = "viewer"'), "10.0.0.1", ANN)
    assert found == Identity("ann", Role.VIEWER)


async def test_the_header_of_a_client_that_is_no_proxy_opens_nothing(
    tmp_path: Path, orchestrator: Orchestrator
) -> None:
    asking = Asking(orchestrator, Access(rules(tmp_path)))
    answer = await asking.ask("GET /runs", headers=dict([ANN, ("X-Forwarded-Groups", "lead")]))
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("peer", "forwarded", "origin"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.5"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["198.51.100.9, 203.0.113.5"], "203.0.113.5"),
        ("10.0.0.1", ["198.51.100.9", "203.0.113.5, 10.9.9.9"], "203.0.113.5"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.5, junk"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5,"], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("2001:db8::7", ["2001:DB8::0001"], "2001:db8::1"),
        ("", ["203.0.113.5"], ""),
    ],
)
async def test_where_a_request_comes_from(
    tmp_path: Path, peer: str, forwarded: list[str], origin: str
) -> None:
    given = from_(peer, *(("X-Forwarded-For", each) for each in forwarded))
    assert rules(tmp_path).proxies.origin_of(given) == origin


@generated(st.lists(st.text(), max_size=5))
def test_whatever_is_forwarded_is_an_address_or_nothing(forwarded: list[str]) -> None:
    headers = Headers()
    headers._list = [("X-Forwarded-For", each) for each in forwarded]
    given = Credentials(None, headers, "192.0.2.1")
    assert Proxies().origin_of(given) == "192.0.2.1"


def test_a_proxy_says_whether_it_was_asked_over_tls(tmp_path: Path) -> None:
    proxies = rules(tmp_path).proxies
    secure = ("X-Forwarded-Proto", "HTTPS")
    assert proxies.is_secure(from_("10.0.0.1", secure))
    assert not proxies.is_secure(from_("192.0.2.1", secure))
    assert not proxies.is_secure(from_("10.0.0.1", ("X-Forwarded-Proto", "http")))


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (FILE.replace("10.0.0.0/8", "10.0.0.0/99"), 3, "not a valid"),
        (FILE.replace('["10.0.0.0/8", "2001:db8::7"]', "[]"), 3, "must have 1 item or more"),
        (FILE.replace("X-Forwarded-User", "X Forwarded"), 4, "pattern"),
        (FILE.replace("lead", "lead = 5, boss"), 6, "Input should be"),
        ('[proxy]\naddresses = ["10.0.0.1"]', None, "lets nobody in"),
    ],
)
def test_a_bad_table_is_refused_with_the_line(
    tmp_path: Path, text: str, line: int | None, why: str
) -> None:
    (tmp_path / "tokens.toml").write_text(text)
    with pytest.raises(BadTokensFile, match=why) as raised:
        read_rules(tmp_path / "tokens.toml", ())
    assert raised.value.line == line

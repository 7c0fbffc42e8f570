"""Signed tokens of an identity provider: which are believed, and with which keys."""

from __future__ import annotations

import base64
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from hypothesis import given as generated
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from werkzeug.datastructures import Headers

from api.auth import BadCredentials, CannotJudge, Credentials, Identity, Role
from api.auth.file import BadTokensFile, read_rules
from api.auth.jwts import BETWEEN_FETCHES_S, FETCH_S, FRESH_S, FetchedKeys, GivenKeys, Jwts

if TYPE_CHECKING:
    from pathlib import Path

RSA = RSAKey.generate_key(2048, {"kid": "rsa"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
STRANGER = ECKey.generate_key("P-256", {"kid": "ec"})
UNKNOWN = ECKey.generate_key("P-256", {"kid": "later"})
PUBLIC = KeySet([RSA, EC]).as_dict(private=False)
ROLES = {"lead": Role.ADMIN, "staff": Role.OPERATOR, "guest": Role.VIEWER}


def claims(**changed: Any) -> dict[str, Any]:
    now = int(time.time())
    given = {"iss": "https://id.example", "aud": "quiesce", "sub": "ann", "exp": now + 86_400}
    given |= {"groups": ["staff"], **changed}
    return {name: value for name, value in given.items() if value is not None}


def signed(key: Any = EC, alg: str = "ES256", header: Any = None, **changed: Any) -> str:
    kid = {} if key.kid is None else {"kid": key.kid}
    head = {"alg": alg, **kid, **(header or {})}
    return jwt.encode(head, claims(**changed), key, algorithms=[alg])


def provider(keys: Any = None, default: Role | None = None) -> Jwts:
    return Jwts(
        keys or GivenKeys(KeySet.import_key_set(PUBLIC)),
        issuer="https://id.example",
        audience="quiesce",
        algorithms=["RS256", "ES256"],
        principal_claim="sub",
        role_claim="groups",
        roles=ROLES,
        default=default,
    )


def bearer(token: str) -> Credentials:
    return Credentials(token, Headers(), "127.0.0.1")


@pytest.mark.parametrize(
    ("token", "role"),
    [
        (signed(), Role.OPERATOR),
        (signed(RSA, "RS256"), Role.OPERATOR),
        (signed(groups="guest"), Role.VIEWER),
        (signed(groups=["guest", "other", 5, "lead"]), Role.ADMIN),
        (signed(aud=["other", "quiesce"]), Role.OPERATOR),
    ],
    ids=["elliptic", "rsa", "one role", "several", "several audiences"],
)
async def test_a_good_token_says_who_and_what(token: str, role: Role) -> None:
    assert await provider().identify(bearer(token)) == Identity("ann", role)


async def test_clocks_may_differ_a_little() -> None:
    assert await provider().identify(bearer(signed(exp=int(time.time()) - 1)))


def unsigned(alg: str, signature: str = "") -> str:
    parts = [{"alg": alg, "kid": "ec"}, claims()]
    packed = [base64.urlsafe_b64encode(json.dumps(each).encode()).decode() for each in parts]
    return ".".join([*(each.rstrip("=") for each in packed), signature])


def with_other_claims() -> str:
    head, _, signature = signed().split(".")
    return f"{head}.{signed(sub='eve').split('.')[1]}.{signature}"


def signed_with_the_public_key() -> str:
    text = unsigned("HS256").removesuffix(".")
    digest = hmac.digest(RSA.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


BAD = {
    "a stranger's": signed(STRANGER),
    "an unknown key's": signed(UNKNOWN),
    "no signature": unsigned("none"),
    "no signature, in capitals": unsigned("NONE"),
    "a signature that is empty": unsigned("ES256"),
    "the public key as a secret": signed_with_the_public_key(),
    "another algorithm": signed(RSA, "PS256"),
    "other claims": with_other_claims(),
    "another issuer": signed(iss="https://evil.example"),
    "no issuer": signed(iss=None),
    "another audience": signed(aud="other"),
    "no audience": signed(aud=None),
    "expired": signed(exp=int(time.time()) - 60),
    "never expires": signed(exp=None),
    "expires some day": signed(exp="tomorrow"),
    "not yet valid": signed(nbf=int(time.time()) + 86_400),
    "nobody": signed(sub=None),
    "an empty name": signed(sub=""),
    "a name that cannot be printed": signed(sub="a\nb"),
    "a long name": signed(sub="x" * 201),
    "a name that is none": signed(sub=5),
    "no role": signed(groups=None),
    "an unknown role": signed(groups=["admin"]),
    "a role that is none": signed(groups={"lead": True}),
    "dots": "..",
    "junk": "a.b.c",
    "not JSON": "e30.e30.e30",
    "not base64": "*.*.*",
    "not text": "\udcff.\udcff.\udcff",
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD.keys())
async def test_a_bad_token_is_refused(token: str) -> None:
    with pytest.raises(BadCredentials):
        await provider().identify(bearer(token))


@generated(st.text(), st.text(), st.text())
async def test_whatever_looks_like_a_token_is_refused(a: str, b: str, c: str) -> None:
    token = ".".join(each.replace(".", "") for each in (a, b, c))
    with pytest.raises(BadCredentials):
        await provider().identify(bearer(token))


@pytest.mark.parametrize("said", [None, "", "qt_abc", "a.b", "a.b.c.d"])
async def test_other_tokens_are_left_to_others(said: str | None) -> None:
    given = Credentials(said, Headers(), "127.0.0.1")
    assert await provider().identify(given) is None


async def test_a_default_role_is_for_those_without_one() -> None:
    found = await provider(default=Role.VIEWER).identify(bearer(signed(groups="nothing")))
    assert found == Identity("ann", Role.VIEWER)


class Site:
    """An identity provider's document, and how often it was asked for."""

    def __init__(self) -> None:
        self.document: Any = PUBLIC
        self.asked = 0
        self.status = 200
        self.takes_s = 0.0
        self.keys = FetchedKeys("https://id.example/keys", httpx.MockTransport(self._answer))

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        await trio.sleep(self.takes_s)
        return httpx.Response(self.status, json=self.document)


async def test_keys_are_fetched_once_by_many_at_once_and_kept(
    autojump_clock: trio.testing.MockClock,
) -> None:
    site = Site()
    site.takes_s = 1
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(provider(site.keys).identify, bearer(signed()))
    assert site.asked == 1
    await trio.sleep(FRESH_S + 1)
    await provider(site.keys).identify(bearer(signed()))
    assert site.asked == 2


async def test_a_new_key_is_fetched_when_a_token_names_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    site = Site()
    token = signed(UNKNOWN)
    for _ in range(5):  # which a stranger could do for ever
        with pytest.raises(BadCredentials):
            await provider(site.keys).identify(bearer(token))
    assert site.asked == 1
    site.document = KeySet([UNKNOWN]).as_dict(private=False)
    await trio.sleep(BETWEEN_FETCHES_S + 1)
    assert await provider(site.keys).identify(bearer(token)) == Identity("ann", Role.OPERATOR)
    with pytest.raises(BadCredentials):  # the old key was withdrawn
        await provider(site.keys).identify(bearer(signed()))


@pytest.mark.parametrize("how", ["an error", "no keys", "no JWKS", "silence"])
async def test_while_keys_cannot_be_fetched_the_old_ones_are_used(
    autojump_clock: trio.testing.MockClock, how: str
) -> None:
    site = Site()

    def break_it() -> None:
        match how:
            case "an error":
                site.status = 500
            case "no keys":
                site.document = {"keys": []}
            case "no JWKS":
                site.document = [5]
            case "silence":
                site.takes_s = 1_000

    break_it()
    began = trio.current_time()
    with pytest.raises(CannotJudge):
        await provider(site.keys).identify(bearer(signed()))
    assert trio.current_time() - began <= FETCH_S
    site.status, site.document, site.takes_s = 200, PUBLIC, 0
    await trio.sleep(BETWEEN_FETCHES_S + 1)
    assert await provider(site.keys).identify(bearer(signed()))
    break_it()
    await trio.sleep(FRESH_S + 1)
    assert await provider(site.keys).identify(bearer(signed()))


JWT = """
[jwt]
issuer = "https://id.example"
audience = "quiesce"
keys = "keys.json"
role_claim = "groups"
roles = { staff = "operator" }
"""


async def test_the_file_names_the_provider(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text(json.dumps(PUBLIC))
    (tmp_path / "tokens.toml").write_text(JWT)
    rules = read_rules(tmp_path / "tokens.toml", ())
    found = [await each.identify(bearer(signed())) for each in rules.authenticators]
    assert found[-1] == Identity("ann", Role.OPERATOR)


@pytest.mark.parametrize(
    ("before", "after", "line", "why"),
    [
        ("keys.json", "none.json", 5, "No such file"),
        ("keys.json", "tokens.toml", 5, "Expecting value"),
        ("keys.json", "http://id.example/keys", 5, "must be https"),
        ('"quiesce"', "5", 4, "valid string"),
        ('issuer = "https://id.example"', "", 2, "Field required"),
        ('"operator"', '"boss"', 7, "'viewer'"),
        ("[jwt]", '[jwt]\nalgorithms = ["HS256"]', 3, "'RS256'"),
        ("[jwt]", '[jwt]\nalgorithms = ["none"]', 3, "'RS256'"),
        ("[jwt]", "[jwt]\nalgorithms = []", 3, "must have 1 item or more"),
        ("[jwt]", "[jwt]\nsecret = 5", 3, "not known"),
    ],
)
def test_a_bad_table_is_refused_with_the_line(
    tmp_path: Path, before: str, after: str, line: int, why: str
) -> None:
    (tmp_path / "keys.json").write_text(json.dumps(PUBLIC))
    (tmp_path / "tokens.toml").write_text(JWT.replace(before, after))
    with pytest.raises(BadTokensFile, match=why) as raised:
        read_rules(tmp_path / "tokens.toml", ())
    assert raised.value.line == line

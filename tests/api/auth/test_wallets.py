"""Logging in with a wallet: a challenge is signed, once, in time, by the right key."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st

from api.auth import Access, BadCredentials, Identity, Role
from api.auth.file import BadTokensFile, read_rules
from api.auth.sections import Rules
from api.auth.tokens import Tokens
from api.auth.wallets import LASTS_S, Challenges, library, signer_of
from orchestrator import ExtraMissing, Orchestrator
from tests.api.auth.people import PEOPLE, access, token_of
from tests.api.auth.test_sessions import browser

ROOT = Path(__file__).parents[3]

# Through our door, which leaves the limit of recursion of the tests' process as it was.
Account, encode_defunct = library()
WALLET = Account.from_key("0x" + "11" * 32)
STRANGER = Account.from_key("0x" + "22" * 32)
HOST = "quiesce.example"


def sign(message: str, key: Any = WALLET) -> str:
    signature: bytes = key.sign_message(encode_defunct(text=message)).signature
    return "0x" + bytes(signature).hex()


def allowed() -> Access:
    return Access(Rules([Tokens([])], wallets={WALLET.address.lower(): PEOPLE["owner"]}))


async def test_a_signed_challenge_is_exchanged_for_a_cookie(orchestrator: Orchestrator) -> None:
    opened = allowed()
    async with browser(orchestrator, opened) as client:
        address = {"address": WALLET.address}
        challenge = (await client.post("/session/challenge", json=address)).json()
        assert str(client.base_url).removeprefix("http://").rstrip("/") in challenge["message"]
        assert f"Expiration Time: {challenge['expires_at']}" in challenge["message"]
        login = {**address, "signature": sign(challenge["message"])}

        entered = await client.post("/session", json=login)
        assert entered.json() == {"principal": "olga", "role": "operator", "authentication": True}
        assert (await client.get("/session")).json()["principal"] == "olga"

        client.cookies.clear()
        again = await client.post("/session", json=login)
        assert (again.status_code, again.json()["type"]) == (401, "urn:quiesce:bad-token")

        challenge = (await client.post("/session/challenge", json=address)).json()
        login["signature"] = sign(challenge["message"])
        assert (await client.post("/session", json=login)).status_code == 200
        assert opened.rules is not None
        opened.rules.wallets.clear()  # type: ignore[attr-defined]  # a dict in fact
        assert (await client.get("/session")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("challenge", {}, 422),
        ("challenge", {"address": "0x12"}, 422),
        ("challenge", {"address": 5}, 422),
        ("challenge", {"address": STRANGER.address}, 200),
        ("", {"address": WALLET.address}, 422),
        ("", {"signature": "0x" + "00" * 65}, 422),
        ("", {"address": WALLET.address, "signature": "0x12"}, 422),
        ("", {"address": WALLET.address, "signature": "0x" + "00" * 65, "token": "x"}, 422),
        ("", {"address": WALLET.address, "signature": "0x" + "00" * 65}, 401),
        ("", {"address": WALLET.address, "signature": "0x" + "ff" * 65}, 401),
        ("", {"address": STRANGER.address, "signature": "0x" + "11" * 65}, 401),
    ],
)
async def test_nothing_else_is(
    orchestrator: Orchestrator, path: str, body: dict[str, Any], status: int
) -> None:
    async with browser(orchestrator, allowed()) as client:
        answer = await client.post(f"/session/{path}".rstrip("/"), json=body)
        assert answer.status_code == status, answer.text
        assert "Set-Cookie" not in answer.headers


async def test_a_stranger_who_signs_their_own_challenge_stays_outside(
    orchestrator: Orchestrator,
) -> None:
    async with browser(orchestrator, allowed()) as client:
        address = {"address": STRANGER.address}
        challenge = (await client.post("/session/challenge", json=address)).json()
        login = {**address, "signature": sign(challenge["message"], STRANGER)}
        assert (await client.post("/session", json=login)).status_code == 401


@pytest.mark.parametrize("configured", [False, True])
async def test_a_server_without_wallets_has_no_challenge(
    orchestrator: Orchestrator, configured: bool
) -> None:
    async with browser(orchestrator, access() if configured else Access()) as client:
        address = {"address": WALLET.address}
        answer = await client.post("/session/challenge", json=address)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:quiesce:no-wallets")
        if configured:
            entered = await client.post("/session", json={"token": token_of("owner")})
            assert entered.status_code == 200


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The wall clock of challenges; the test turns it."""
    now = [1_000_000.0 * LASTS_S]
    monkeypatch.setattr("api.auth.wallets.time.time", lambda: now[0])
    return now


async def test_a_challenge_is_good_for_its_time(clock: list[float]) -> None:
    challenges = Challenges()
    for late in (0, LASTS_S - 1):
        clock[0] = 1_000_000.0 * LASTS_S + late
        made = challenges.challenge(HOST, WALLET.address)
        signature = sign(made.message)
        clock[0] = 1_000_002.0 * LASTS_S
        with pytest.raises(BadCredentials):
            await challenges.check(HOST, WALLET.address, signature)
        clock[0] -= 0.001
        await challenges.check(HOST, WALLET.address, signature)
        with pytest.raises(BadCredentials):
            await challenges.check(HOST, WALLET.address, signature)


async def test_a_challenge_is_good_for_its_address_host_and_server(clock: list[float]) -> None:
    challenges = Challenges()
    message = challenges.challenge(HOST, WALLET.address).message
    for host, address, signature, server in [
        (HOST, WALLET.address, sign(message, STRANGER), challenges),
        (HOST, STRANGER.address, sign(message, STRANGER), challenges),
        (HOST, STRANGER.address, sign(message), challenges),
        ("evil.example", WALLET.address, sign(message), challenges),
        (HOST, WALLET.address, sign(message), Challenges()),
        (HOST, WALLET.address, sign(message + " "), challenges),
    ]:
        with pytest.raises(BadCredentials):
            await server.check(host, address, signature)
    await challenges.check(HOST, WALLET.address.lower(), sign(message))


async def test_asking_for_many_challenges_spoils_none(clock: list[float]) -> None:
    challenges = Challenges()
    first = challenges.challenge(HOST, WALLET.address)
    assert {challenges.challenge(HOST, WALLET.address) for _ in range(100)} == {first}
    nonce = re.search("Nonce: ([0-9a-f]{32})", first.message)
    assert nonce is not None
    assert nonce[1] not in challenges.challenge(HOST, STRANGER.address).message


@settings(deadline=None, max_examples=30)
@generated(st.binary(min_size=65, max_size=65))
def test_whatever_is_sent_as_a_signature_is_nobodys(raw: bytes) -> None:
    assert signer_of("hello", "0x" + raw.hex()) != WALLET.address.lower()


ENTRY = f"""
[[wallet]]
address = "{WALLET.address}"
principal = "carol"
role = "viewer"
"""


AFTER = """
import json, sys
from pathlib import Path
from api.auth.file import read_rules
from api.auth.wallets import signer_of
before = sys.getrecursionlimit()
if sys.argv[1] == "file":
    read_rules(Path(sys.argv[2]), ())
else:
    signer_of("hello", "0x" + "11" * 65)
assert "py_ecc" in sys.modules, "what raises the limit is not there any more"
assert sys.getrecursionlimit() == before
try:
    json.loads("[" * 100_000)
except RecursionError:
    print("refused")
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["file", "signature"])
def test_a_body_of_many_brackets_does_not_end_a_server_that_knows_wallets(
    tmp_path: Path, way: str
) -> None:
    """In a process of its own: here the library is there already, and the end would be ours."""
    (tmp_path / "tokens.toml").write_text(ENTRY)
    words = [sys.executable, "-c", AFTER, way, str(tmp_path / "tokens.toml")]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "refused\n"), ended.stderr


def test_the_file_lists_wallets(tmp_path: Path) -> None:
    (tmp_path / "tokens.toml").write_text(ENTRY)
    rules = read_rules(tmp_path / "tokens.toml", ())
    assert rules.wallets == {WALLET.address.lower(): Identity("carol", Role.VIEWER)}


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (ENTRY.replace("0x", ""), 3, "pattern"),
        (ENTRY + ENTRY.replace(WALLET.address, WALLET.address.lower()), 2, "same address"),
        (ENTRY.replace('principal = "carol"', ""), 2, "Field required"),
    ],
)
def test_a_bad_entry_is_refused_with_the_line(
    tmp_path: Path, text: str, line: int, why: str
) -> None:
    (tmp_path / "tokens.toml").write_text(text)
    with pytest.raises(BadTokensFile, match=why) as raised:
        read_rules(tmp_path / "tokens.toml", ())
    assert raised.value.line == line


@pytest.mark.parametrize(("text", "extra"), [(ENTRY, "wallet"), ("[jwt]", "jwt")])
def test_what_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, extra: str
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    more = '\nissuer = "i"\naudience = "a"\nkeys = "https://id.example/keys"' * (extra == "jwt")
    (tmp_path / "tokens.toml").write_text(text + more)
    with pytest.raises(ExtraMissing, match=rf"quiesce\[{extra}\]"):
        read_rules(tmp_path / "tokens.toml", ())

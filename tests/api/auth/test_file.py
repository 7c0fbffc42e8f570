"""The tokens file: what it says, and what is wrong with it."""

from __future__ import annotations

import logging
import stat
import tomllib
from typing import TYPE_CHECKING

import pytest
from werkzeug.datastructures import Headers

from api.auth import BadCredentials, Credentials, FileAccess, Identity, Role
from api.auth.file import BadTokensFile, read_rules
from api.auth.tokens import Tokens, hash_of, new_token
from tests.api.processes import invoke

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "a-secret-that-is-long-enough"
GOOD = f"""
[[token]]
principal = "ann"
role = "admin"
hash = "{hash_of("x")}"

[[token]]
principal = "bob"
role = "operator"
token = "{SECRET}"
sees = "own"
"""
HASH = f'hash = "{hash_of("x")}"'


def given(bearer: str | None) -> Credentials:
    return Credentials(bearer, Headers(), "127.0.0.1")


def written(folder: Path, text: str) -> Path:
    path = folder / "tokens.toml"
    path.write_text(text)
    return path


async def test_tokens_are_known_by_hash_or_as_they_are(tmp_path: Path) -> None:
    access = FileAccess(written(tmp_path, GOOD), {"crawl"})
    assert await access.identify(given("x")) == Identity("ann", Role.ADMIN)
    assert await access.identify(given(SECRET)) == Identity("bob", Role.OPERATOR, "own")


@pytest.mark.parametrize("bearer", ["", "X", hash_of("x"), SECRET + " ", "é", "\ud800", "x" * 9999])
async def test_other_tokens_are_not(tmp_path: Path, bearer: str) -> None:
    access = FileAccess(written(tmp_path, GOOD), {"crawl"})
    with pytest.raises(BadCredentials):
        await access.identify(given(bearer))


async def test_agents_that_run_programs_are_for_admins_unless_the_file_says_otherwise(
    tmp_path: Path,
) -> None:
    def may_start(role: Role, agent: str, more: str = "") -> bool:
        access = FileAccess(written(tmp_path, GOOD + more), {"crawl", "command"})
        return access.may_start(Identity("ann", role), agent)

    assert not may_start(Role.OPERATOR, "command")
    assert not may_start(Role.OPERATOR, "playbook")
    assert may_start(Role.OPERATOR, "crawl")
    assert may_start(Role.ADMIN, "command")
    assert may_start(Role.OPERATOR, "command", "[agents]\nadmin_only = []")
    assert not may_start(Role.OPERATOR, "crawl", '[agents]\nadmin_only = ["crawl"]')


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("", None, "lets nobody in"),
        ("# nothing\n", None, "quiesce token new"),
        ("[[token]\n", 1, "Expected"),
        ("\n\nx = \n", 3, "Invalid value"),
        ('[[tokens]]\nprincipal = "a"\n', 1, "tokens: is not known"),
        (f'[[token]]\nrole = "admin"\n{HASH}', 1, "token.0.principal: Field required"),
        (f'[[token]]\nprincipal = ""\nrole = "admin"\n{HASH}', 2, "1 to 200 characters"),
        (f'[[token]]\nprincipal = "a\\n"\nrole = "admin"\n{HASH}', 2, "can be printed"),
        (f'[[token]]\nprincipal = 5\nrole = "admin"\n{HASH}', 2, "valid string"),
        (GOOD + f'[[token]]\n\nprincipal = "c"\nrole = "root"\n{HASH}', 15, "'viewer', 'operator'"),
        ('[[token]]\nprincipal = "a"\nrole = "admin"\nhash = "sha256:12"', 4, "token.0.hash"),
        ('[[token]]\nprincipal = "a"\nrole = "admin"\ntoken = "short"', 4, "at least 24"),
        ('[[token]]\nprincipal = "a"\nrole = "admin"\n', 1, "either `hash` or `token`"),
        (f'[[token]]\nprincipal = "a"\nrole = "admin"\ntoken = "{SECRET}"\n{HASH}', 1, "either"),
        (f'[[token]]\nprincipal = "a"\nrole = "admin"\nsees = "own"\n{HASH}', 1, "sees all runs"),
        (f'[[token]]\nprincipal = "a"\nrole = "admin"\n{HASH}\nexpires = 5', 5, "not known"),
        (GOOD + GOOD, 2, "same token"),
        (GOOD + '[agents]\nadmin_only = ["comand"]', 13, "there is no agent 'comand'"),
        (GOOD + "[agents]\nadmin_only = 5", 13, "agents.admin_only: must be a list"),
        ("token = 5", 1, "token: must be a list"),
    ],
)
def test_a_bad_file_is_refused_with_the_line(
    tmp_path: Path, text: str, line: int | None, why: str
) -> None:
    with pytest.raises(BadTokensFile) as raised:
        read_rules(written(tmp_path, text), {"crawl", "command"})
    assert why in str(raised.value)
    assert raised.value.line == line
    assert (f"tokens.toml, line {line}: " in str(raised.value)) == (line is not None)


def test_an_error_does_not_show_a_token(tmp_path: Path) -> None:
    text = (
        f'[[token]]\nprincipal = "a"\nrole = "{SECRET}"\ntoken = "{SECRET}\\n"\nsees = "{SECRET}"'
    )
    with pytest.raises(BadTokensFile) as raised:
        read_rules(written(tmp_path, text), ())
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("kind", ["missing", "a folder", "bytes"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tokens.toml"
    if kind == "a folder":
        path.mkdir()
    elif kind == "bytes":
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadTokensFile):
        read_rules(path, ())


async def test_a_broken_file_keeps_the_old_tokens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path, GOOD)
    access = FileAccess(path, {"crawl"})
    path.write_text(GOOD.replace("operator", "emperor"))
    with caplog.at_level(logging.ERROR, "quiesce.auth"):
        access.reload()
    assert "line 9: token.1.role" in caplog.text
    assert (await access.identify(given(SECRET))).principal == "bob"

    path.write_text(GOOD.replace(SECRET, new_token()))
    access.reload()
    assert (await access.identify(given("x"))).principal == "ann"
    with pytest.raises(BadCredentials):
        await access.identify(given(SECRET))


async def test_a_new_token_is_shown_once_and_fits_the_lines_beside_it() -> None:
    code, said = invoke("token", "new", "--principal", 'an"n\\é', "--role", "viewer")
    assert code == 0
    token = next(line for line in said.splitlines() if line.startswith("qt_"))
    assert len(token) > 40
    assert said.count(token) == 1
    (entry,) = tomllib.loads(said[said.index("[[token]]") :])["token"]
    assert entry == {"principal": 'an"n\\é', "role": "viewer", "hash": hash_of(token)}


async def test_a_new_token_is_added_to_a_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens.toml"
    add = ("token", "new", "--role", "operator", "--add", str(path), "--principal")
    tokens = [invoke(*add, name)[1].strip() for name in ("ann", "bob")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    rules = read_rules(path, ())
    (listed,) = rules.authenticators
    assert isinstance(listed, Tokens)
    bearers = [listed.bearer_of(each) for each in tokens]
    assert [each and each.principal for each in bearers] == ["ann", "bob"]


@pytest.mark.parametrize("bad", [["--principal", ""], ["--principal", "a\nb"], ["--role", "root"]])
def test_nobody_can_be_called_so(bad: list[str]) -> None:
    options = {"--principal": "ann", "--role": "admin"} | {bad[0]: bad[1]}
    code, said = invoke("token", "new", *(word for pair in options.items() for word in pair))
    assert code == 2
    assert bad[0] in said

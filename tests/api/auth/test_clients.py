"""The Python client and the commands, with a token and without one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
import trustme

from api.client import CallRefused, Client, ServerGone, TokenRefused
from api.service import open_server
from api.tls import Certificate
from orchestrator import InvalidInput, UnknownRun, open_orchestrator
from tests.api.agents import ALL
from tests.api.auth.people import access, token_of
from tests.api.processes import invoke, quiesce
from tests.api.test_tls import AUTHORITY, issue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """A server with tokens."""
    async with (
        open_orchestrator(agents=ALL) as opened,
        open_server(opened, access=access()) as base,
    ):
        yield base


def client_of(url: str, name: str) -> Client:
    return Client(url, token=token_of(name) if name else None)


async def test_a_client_sends_its_token_with_every_call(url: str) -> None:
    def use() -> None:
        with client_of(url, "owner") as client:
            run = client.start("echo", {"text": "x"})
            assert run.record.owner == "olga"
            assert [event.type for event in client.events(run.id)][-1] == "run.succeeded"
            assert client.artifact(run.id, "text.txt") == b"x"
            assert [each.id for each in client.runs()[0]] == [run.id]

    await trio.to_thread.run_sync(use)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("", TokenRefused, "wants a token; give one with --token or QUIESCE_TOKEN"),
        ("nobody", TokenRefused, r"does not take this token \(.*\); give one with --token"),
        ("viewer", CallRefused, r"vic \(viewer\) may look only"),
        ("other", CallRefused, "otto .* belongs to 'olga'"),
        ("narrow other", UnknownRun, "run_"),
    ],
)
async def test_a_client_is_told_why_not(url: str, name: str, kind: type, said: str) -> None:
    def use() -> None:
        with client_of(url, "owner") as owner, client_of(url, name) as client:
            run = owner.start("sleeper")
            with pytest.raises(kind, match=said):
                client.stop(run.id)
            if kind is not CallRefused:
                with pytest.raises(kind):
                    next(client.events(run.id))

    await trio.to_thread.run_sync(use)


@pytest.mark.parametrize("token", ["", "a b", "a\nb", "ä", "\x7f"])
def test_what_cannot_be_a_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput, match="token"):
        Client("http://127.0.0.1:1", token=token)


async def said_by(*arguments: str) -> tuple[int, str]:
    return await trio.to_thread.run_sync(partial(invoke, *arguments))


async def test_a_command_takes_its_token_from_the_environment_or_the_line(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIESCE_SERVER", url)
    code, said = await said_by("ls")
    assert (code, said) == (
        2,
        f"Error: {url} wants a token; give one with --token or QUIESCE_TOKEN\n",
    )
    monkeypatch.setenv("QUIESCE_TOKEN", token_of("viewer"))
    assert await said_by("ls") == (0, "no runs\n")
    code, said = await said_by("ls", "--token", "wrong")
    assert (code, said.count("\n")) == (2, 1)
    assert "does not take this token" in said

    code, said = await said_by("stop", "run_no", "--token", token_of("owner"))
    assert code == 2
    assert "run_no" in said


@pytest.mark.slow
async def test_a_run_on_a_server_takes_its_token_too(url: str, tmp_path: Path) -> None:
    """In a process of its own: it minds signals, which only a main thread can."""

    def ran_by(name: str) -> tuple[int, str]:
        given = ("run", "echo", "text=x", "--server", url, "--token", token_of(name))
        with quiesce(*given, cwd=tmp_path) as process:
            return process.end(), process.said

    refused = "Error: vic (viewer) may look only: this takes an operator\n"
    assert await trio.to_thread.run_sync(ran_by, "viewer") == (2, refused)
    assert (await trio.to_thread.run_sync(ran_by, "owner"))[0] == 0


async def test_a_client_trusts_the_authority_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_known(url: str) -> bool:
        with client_of(url, "viewer") as client:
            try:
                return bool(client.agents())
            except ServerGone as error:
                return "CERTIFICATE_VERIFY_FAILED" not in str(error)

    certificate = Certificate(*issue(tmp_path))
    async with (
        open_orchestrator(agents=ALL) as opened,
        open_server(opened, access=access(), certificate=certificate) as url,
    ):
        for authority, known in ((trustme.CA(), False), (AUTHORITY, True)):
            authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            assert await trio.to_thread.run_sync(is_known, url) is known

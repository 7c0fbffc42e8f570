"""What every request passes before its call."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from quart import websocket
from quart.testing.connections import WebsocketResponseError

from api.auth import Access, CannotJudge, Credentials, Identity
from api.auth.guard import DRAINED_BYTES
from api.auth.sections import Rules
from api.auth.tokens import Tokens, hash_of, new_token
from api.service import open_server
from orchestrator import InvalidInput
from tests.api.auth.people import PEOPLE, Asking, access, token_of
from tests.api.processes import QUIESCE, invoke
from tests.api.wire import connect, request, settled

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator import Orchestrator


async def test_nobody_is_told_how_to_be_known(orchestrator: Orchestrator) -> None:
    asking = Asking(orchestrator, access())
    for call in ("GET /runs", "POST /runs", "GET /nowhere", "PUT /runs", "OPTIONS /runs"):
        answer = await asking.ask(call)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="quiesce"'
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = await answer.get_json()
        assert problem["type"] == "urn:quiesce:no-token"
        assert problem["detail"].startswith("this server wants a token; send one as ")
        assert problem["detail"].endswith("`Authorization: Bearer TOKEN`")


@pytest.mark.parametrize(
    "said", ["Bearer wrong", "bearer", "Bearer ", "BEARER  \xff", "Bearer a b"]
)
async def test_a_bad_token_is_called_so(orchestrator: Orchestrator, said: str) -> None:
    asking = Asking(orchestrator, access())
    answer = await asking.ask("GET /runs", headers={"Authorization": said})
    assert answer.status_code == 401
    assert (await answer.get_json())["type"] == "urn:quiesce:bad-token"
    assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("said", ["Basic dXNlcjpwYXNz", "", "token", "Bearerwrong"])
async def test_what_is_no_token_is_none(orchestrator: Orchestrator, said: str) -> None:
    asking = Asking(orchestrator, access())
    answer = await asking.ask("GET /runs", headers={"Authorization": said})
    assert (await answer.get_json())["type"] == "urn:quiesce:no-token"


async def test_probes_need_no_token(orchestrator: Orchestrator) -> None:
    asking = Asking(orchestrator, access())
    for call in ("GET /healthz", "HEAD /healthz", "GET /readyz"):
        assert (await asking.ask(call)).status_code == 200
        assert (await asking.ask(call, headers={"Host": "evil.example"})).status_code == 403


async def test_a_connection_is_good_for_more_after_a_refusal(orchestrator: Orchestrator) -> None:
    """Whether the body has come by then, or comes later."""
    with trio.fail_after(30):
        async with open_server(orchestrator, access=access()) as url:
            address = ("127.0.0.1", int(url.rpartition(":")[2]))
            for size in (0, 1, 1_000, DRAINED_BYTES):
                for host in ("localhost", "evil.example"):
                    body = b"x" * size
                    asked = request("POST", "/runs", body)
                    asked = asked.replace(b"Host: test", f"Host: {host}".encode())
                    async with connect(address) as wire:
                        await wire.send(asked[: len(asked) - size])
                        await settled()
                        await wire.send(body)
                        for _ in range(3):
                            answer = await wire.answer()
                            assert answer is not None
                            assert answer.status in (401, 403)
                            await wire.send(asked)


@pytest.mark.parametrize("size", [DRAINED_BYTES + 1, 8 * 2**20])
async def test_a_large_body_of_a_refused_request_is_not_waited_for(
    orchestrator: Orchestrator, size: int
) -> None:
    with trio.fail_after(10):
        async with (
            open_server(orchestrator, access=access()) as url,
            connect(("127.0.0.1", int(url.rpartition(":")[2]))) as wire,
        ):
            head = f"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
            answer = await wire.ask(head.encode())
    assert answer is not None
    assert answer.status == 401


async def test_a_refused_request_is_not_understood(orchestrator: Orchestrator) -> None:
    asking = Asking(orchestrator, access())
    answer = await asking.ask("POST /runs", data=b"{ no JSON")
    assert answer.status_code == 401
    answer = await asking.ask("POST /runs", "viewer", data=b"{ no JSON")
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("quiesce.example", None, 200),
        ("QUIESCE.example", None, 200),
        ("quiesce.example:8443", None, 200),
        ("quiesce.example", "https://quiesce.example", 200),
        ("proxied.example:444", None, 200),
        ("proxied.example:445", None, 403),
        ("localhost:8080", "http://localhost:8080", 200),
        ("192.0.2.7:8080", "http://192.0.2.7:8080", 200),
        ("[2001:db8::1]:80", None, 200),
        ("quiesce.example.evil.example", None, 403),
        ("evil.example", "https://evil.example", 403),
        ("quiesce.example", "https://evil.example", 403),
        ("quiesce.example", "null", 403),
        ("", None, 403),
        ("[", None, 403),
    ],
)
async def test_only_names_of_ours_are_served(
    orchestrator: Orchestrator, host: str, origin: str | None, status: int
) -> None:
    allowed = Access(access().rules, public_hosts=["Quiesce.example", "proxied.example:444"])
    asking = Asking(orchestrator, allowed)
    headers = {"Host": host} | ({} if origin is None else {"Origin": origin})
    answer = await asking.ask("GET /runs", "viewer", headers=headers)
    assert answer.status_code == status
    if (await answer.get_json()).get("type") == "urn:quiesce:foreign-host":
        assert "--public-host" in (await answer.get_json())["detail"]


async def test_a_websocket_is_guarded_too(orchestrator: Orchestrator) -> None:
    asking = Asking(orchestrator, access())

    async def tell() -> None:
        await websocket.send("hello")

    asking.app.add_websocket("/unlisted", view_func=tell)

    async def status_of(name: str, **headers: str) -> int | str:
        bearer = {"Authorization": f"Bearer {token_of(name)}"} if name else {}
        test_client = asking.app.test_client()
        sent = {"Host": "localhost", **bearer, **headers}
        said: int | str = ""
        with trio.fail_after(5):
            try:
                async with test_client.websocket("/unlisted", headers=sent) as opened:
                    said = str(await opened.receive())
            except* WebsocketResponseError as refused:
                (error,) = refused.exceptions
                assert isinstance(error, WebsocketResponseError)
                said = error.response.status_code
        return said

    assert await status_of("") == 401
    assert await status_of("nobody") == 401
    assert await status_of("admin", Origin="http://evil.example") == 403
    assert await status_of("viewer") == 403  # it is not in the table, and so for admins only
    assert await status_of("admin") == "hello"


class Undecided:
    """An authenticator that cannot tell at present."""

    async def identify(self, given: Credentials) -> Identity | None:
        raise CannotJudge("the keys cannot be had")


async def test_authenticators_are_asked_in_order(orchestrator: Orchestrator) -> None:
    listed = [(hash_of(token_of("viewer")), PEOPLE["viewer"])]
    asking = Asking(orchestrator, Access(Rules([Tokens(listed), Undecided()])))
    assert (await asking.ask("GET /runs", "viewer")).status_code == 200
    answer = await asking.ask("GET /runs", "admin")
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert "the keys cannot be had" in (await answer.get_json())["detail"]


async def test_a_server_with_tokens_may_bind_any_address(orchestrator: Orchestrator) -> None:
    async with (
        open_server(orchestrator, host="0.0.0.0", access=access()) as url,
        httpx.AsyncClient(base_url=url.replace("0.0.0.0", "127.0.0.1")) as client,
    ):
        assert (await client.get("/runs")).status_code == 401
        bearer = {"Authorization": f"Bearer {token_of('viewer')}"}
        assert (await client.get("/runs", headers=bearer)).status_code == 200


async def test_a_server_without_tokens_may_not(orchestrator: Orchestrator) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(InvalidInput, match="--tokens"), allow_unwrapped=True):
        async with open_server(orchestrator, host="0.0.0.0", access=Access()):
            pass


def test_a_public_host_is_for_a_server_with_tokens() -> None:
    code, said = invoke("serve", "--public-host", "quiesce.example")
    assert code == 2
    assert "--tokens" in said


def test_a_bad_file_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "tokens.toml").write_text("[[token]]\nrole = 5")
    code, said = invoke("serve", "--tokens", str(tmp_path / "tokens.toml"))
    assert code == 2
    assert "tokens.toml, line" in said


@pytest.mark.slow
def test_sighup_reads_the_tokens_again(tmp_path: Path) -> None:
    path, first, second = tmp_path / "tokens.toml", new_token(), new_token()
    path.write_text(f'[[token]]\nprincipal = "ann"\nrole = "viewer"\nhash = "{hash_of(first)}"\n')
    words = [QUIESCE, "serve", "--tokens", str(path), "--store", "memory://", "--port", "0"]
    words += ["--log-level", "warning"]  # so that the lines below are the only ones
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().split()[-1]

        def status_of(token: str) -> int:
            return httpx.get(
                f"{url}/runs", headers={"Authorization": f"Bearer {token}"}
            ).status_code

        assert (status_of(first), status_of(second)) == (200, 401)
        path.write_text("broken")
        process.send_signal(signal.SIGHUP)
        assert "stay as they were" in process.stderr.readline()
        assert (status_of(first), status_of(second)) == (200, 401)
        path.write_text(
            f'[[token]]\nprincipal = "ann"\nrole = "viewer"\nhash = "{hash_of(second)}"\n'
        )
        process.send_signal(signal.SIGHUP)
        assert "was read again" in process.stderr.readline()
        assert (status_of(first), status_of(second)) == (401, 200)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()

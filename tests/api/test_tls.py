"""HTTPS: what works over HTTP works over TLS, and whoever speaks no TLS disturbs nobody."""

from __future__ import annotations

import logging
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trustme

from api.server import GRACEFUL_S
from api.service import open_server
from api.tls import BadCertificate, Certificate
from orchestrator import open_orchestrator
from tests.api.agents import ALL
from tests.api.auth.people import access, token_of
from tests.api.processes import invoke
from tests.api.wire import GET, HOSTILE, connect

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator import Orchestrator

AUTHORITY = trustme.CA()


def trusting(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def issue(folder: Path, authority: trustme.CA = AUTHORITY) -> tuple[Path, Path]:
    """Write a certificate for loopback, and its key."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return certificate, key


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """One that clients of ``trusting`` trust."""
    return Certificate(*issue(tmp_path))


@pytest.mark.parametrize("versions", [(True, False), (False, True)], ids=["http1", "http2"])
async def test_everything_works_over_tls(
    certificate: Certificate, versions: tuple[bool, bool]
) -> None:
    async with (
        open_orchestrator(agents=ALL) as orchestrator,
        open_server(orchestrator, access=access(), certificate=certificate) as url,
        httpx.AsyncClient(
            base_url=url,
            verify=trusting(),
            http1=versions[0],
            http2=versions[1],
            headers={"Origin": url},
        ) as client,
    ):
        assert url.startswith("https://127.0.0.1:")
        assert (await client.get("/runs")).status_code == 401
        entered = await client.post("/session", json={"token": token_of("owner")})
        assert "Secure" in entered.headers["Set-Cookie"].split("; ")
        body = {"agent": "echo", "input": {"text": "hello"}}
        run = (await client.post("/runs?wait_s=5", json=body)).json()
        assert run["result"] == "hello"
        events = await client.get(f"/runs/{run['id']}/events")
        assert "event: run.succeeded" in events.text
        assert events.http_version == ("HTTP/1.1" if versions[0] else "HTTP/2")


async def test_a_client_that_does_not_trust_us_stays_away(
    certificate: Certificate, orchestrator: Orchestrator
) -> None:
    async with (
        open_server(orchestrator, certificate=certificate) as url,
        httpx.AsyncClient(base_url=url, verify=trusting(trustme.CA())) as client,
    ):
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.mark.parametrize("said", [b"", *HOSTILE.values()], ids=["nothing", *HOSTILE])
async def test_whoever_speaks_no_tls_disturbs_nobody(
    certificate: Certificate, orchestrator: Orchestrator, said: bytes
) -> None:
    with trio.fail_after(20):
        async with (
            open_server(orchestrator, certificate=certificate) as url,
            connect(("127.0.0.1", port_of(url))) as wire,
            httpx.AsyncClient(base_url=url, verify=trusting()) as client,
        ):
            await wire.send(said)
            assert (await client.get("/healthz")).status_code == 200


async def test_a_handshake_that_does_not_go_on_is_cut(
    certificate: Certificate, orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server.HANDSHAKE_S", 0.2)
    with trio.fail_after(20):
        async with (
            open_server(orchestrator, certificate=certificate) as url,
            connect(("127.0.0.1", port_of(url))) as wire,
        ):
            await wire.send(b"\x16\x03\x01\x02\x00")
            await wire.rest()


@pytest.mark.slow
async def test_hostile_requests_inside_tls_disturb_nobody(
    certificate: Certificate, orchestrator: Orchestrator
) -> None:
    with trio.fail_after(60):
        async with open_server(orchestrator, certificate=certificate) as url:
            for said in HOSTILE.values():
                tcp = await trio.open_tcp_stream("127.0.0.1", port_of(url))
                tls = trio.SSLStream(tcp, trusting(), server_hostname="127.0.0.1")
                async with tcp:
                    await tls.do_handshake()
                    with suppress(trio.BrokenResourceError):  # it may close first
                        await tls.send_all(said)
            async with httpx.AsyncClient(base_url=url, verify=trusting()) as client:
                assert (await client.get("/healthz")).status_code == 200


async def test_a_client_that_reads_nothing_does_not_hold_the_shutdown(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.connection.Connection.SEND_STALL_S", 0.3)
    with trio.fail_after(30):
        async with open_orchestrator(agents=ALL) as orchestrator:
            run = await orchestrator.start("echo", {"text": "x" * 5_000_000})
            await run.wait()
            async with open_server(orchestrator, certificate=certificate) as url:
                tcp = await trio.open_tcp_stream("127.0.0.1", port_of(url))
                tls = trio.SSLStream(tcp, trusting(), server_hostname="127.0.0.1")
                await tls.do_handshake()
                request = f"GET /runs/{run.id} HTTP/1.1\r\nHost: localhost\r\n\r\n"
                await tls.send_all(request.encode())
                await tls.receive_some(10)
                began = trio.current_time()
            # The server is closed; the client still holds its end.
            assert trio.current_time() - began < GRACEFUL_S + 5
            await tcp.aclose()


async def test_idle_connections_do_not_hold_the_shutdown(
    certificate: Certificate, orchestrator: Orchestrator
) -> None:
    with trio.fail_after(20):
        async with open_server(orchestrator, certificate=certificate) as url:
            tcp = await trio.open_tcp_stream("127.0.0.1", port_of(url))
            tls = trio.SSLStream(tcp, trusting(), server_hostname="127.0.0.1")
            await tls.send_all(GET.replace(b"Host: test", b"Host: localhost"))
            assert (await tls.receive_some(100)).startswith(b"HTTP/1.1 ")
        await tcp.aclose()


async def test_a_renewed_certificate_is_for_new_connections(
    tmp_path: Path, orchestrator: Orchestrator, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, another = Certificate(*issue(tmp_path)), trustme.CA()

    async def is_trusted(authority: trustme.CA) -> bool:
        async with httpx.AsyncClient(base_url=url, verify=trusting(authority)) as client:
            try:
                return (await client.get("/healthz")).status_code == 200
            except httpx.ConnectError:
                return False

    async with open_server(orchestrator, certificate=certificate) as url:
        key = (tmp_path / "key.pem").read_bytes()
        issue(tmp_path, another)
        renewed = (tmp_path / "key.pem").read_bytes()
        (tmp_path / "key.pem").write_bytes(key)  # half of it has come
        with caplog.at_level(logging.WARNING, "quiesce.server"):
            certificate.reload()
        assert "stays as it was" in caplog.text
        assert (await is_trusted(AUTHORITY), await is_trusted(another)) == (True, False)
        (tmp_path / "key.pem").write_bytes(renewed)
        certificate.reload()
        assert (await is_trusted(AUTHORITY), await is_trusted(another)) == (False, True)


@pytest.mark.parametrize("kind", ["missing", "no PEM", "swapped", "another's key", "encrypted"])
def test_a_bad_certificate_is_refused_at_start(tmp_path: Path, kind: str) -> None:
    certificate, key = issue(tmp_path)
    match kind:
        case "missing":
            key.unlink()
        case "no PEM":
            certificate.write_text("hello")
        case "swapped":
            certificate, key = key, certificate
        case "another's key":
            (tmp_path / "other").mkdir()
            key = issue(tmp_path / "other")[1]
        case "encrypted":
            key.write_bytes(encrypted(key.read_bytes()))
    with pytest.raises(BadCertificate, match=r"cannot use the certificate: .*\.pem"):
        Certificate(certificate, key)
    code, said = invoke("serve", "--tls-cert", str(certificate), "--tls-key", str(key))
    assert code == 2
    assert "cannot use the certificate" in said


def encrypted(key: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization as pem

    private = pem.load_pem_private_key(key, None)
    return private.private_bytes(
        pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"secret")
    )


def test_certificate_and_key_go_together(tmp_path: Path) -> None:
    code, said = invoke("serve", "--tls-cert", str(issue(tmp_path)[0]))
    assert code == 2
    assert "go together" in said

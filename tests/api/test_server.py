"""Starting to serve, and coming to an end whatever the clients do."""

from __future__ import annotations

import logging
import socket
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from httpx import AsyncClient
from hypercorn.utils import LifespanFailureError
from quart import Response
from quart import request as current_request
from quart_trio import QuartTrio

from api.server import GRACEFUL_S, CannotListen, serve
from orchestrator.errors import InvalidInput
from tests.api.wire import connect, request, serving, settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GET = request("GET", "/")
BIG = b"x" * 2**20


@pytest.fixture
def closing() -> trio.Event:
    """Both what closes the server and what ends the application's stream."""
    return trio.Event()


@pytest.fixture
def app(closing: trio.Event) -> QuartTrio:
    """An application with a handler of each kind."""
    app = QuartTrio("tests")
    app.config["MAX_CONTENT_LENGTH"] = 10_000

    @app.get("/")
    async def hello() -> str:
        return "hello"

    @app.post("/echo")
    async def echo() -> dict[str, int]:
        return {"size": len(await current_request.get_data())}

    @app.get("/big")
    async def big() -> bytes:
        return BIG

    @app.get("/takes/<float:seconds>")
    async def takes(seconds: float) -> str:
        await trio.sleep(seconds)
        return "at last"

    @app.get("/stream")
    async def stream() -> Response:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: hello\n\n"
            await closing.wait()
            yield b"data: goodbye\n\n"

        response = Response(events(), content_type="text/event-stream")
        response.timeout = None
        return response

    return app


def has_ipv6() -> bool:
    """Tell whether this machine has an IPv6 loopback address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "bound"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("localhost", "127.0.0.1"),
        pytest.param("::1", "::1", marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6")),
    ],
)
async def test_hands_out_the_address_that_it_answers_at(
    app: QuartTrio, host: str, bound: str
) -> None:
    with trio.fail_after(5):
        async with serving(app, host=host) as server:
            assert server.address[0] == bound
            async with connect(server.address) as wire:
                answer = await wire.ask(GET)
    assert answer is not None
    assert answer.body == b"hello"
    assert b"server:" not in answer.head.lower()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1", "example.org", "localhost."])
async def test_refuses_a_host_that_is_not_loopback(app: QuartTrio, host: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        await serve(app, host=host, port=0, closing=trio.Event())
    assert [field for field, _ in raised.value.problems] == ["host"]


@pytest.mark.parametrize("port", [-1, 65536])
async def test_refuses_a_port_that_is_none(app: QuartTrio, port: int) -> None:
    with pytest.raises(InvalidInput) as raised:
        await serve(app, host="127.0.0.1", port=port, closing=trio.Event())
    assert [field for field, _ in raised.value.problems] == ["port"]


async def test_a_port_in_use_is_named_and_its_user_is_not_disturbed(app: QuartTrio) -> None:
    with trio.fail_after(5):
        async with serving(app) as server:
            host, port = server.address
            with pytest.raises(CannotListen, match=f"{port}: Address already in use; end what"):
                await serve(app, host=host, port=port, closing=trio.Event())
            async with connect(server.address) as wire:
                assert await wire.ask(GET)


async def test_a_port_can_be_used_again_at_once(app: QuartTrio) -> None:
    with trio.fail_after(5):
        async with serving(app) as server, connect(server.address) as wire:
            assert await wire.ask(GET)
            await server.close()
            async with serving(QuartTrio("another"), port=server.address[1]) as another:
                assert another.address == server.address


async def test_an_application_that_fails_to_start_is_never_announced(
    app: QuartTrio, closing: trio.Event
) -> None:
    @app.before_serving
    async def fail() -> None:
        raise ValueError("no database")

    start = partial(serve, app, host="127.0.0.1", port=0, closing=closing)
    async with trio.open_nursery() as nursery:
        with pytest.raises(LifespanFailureError, match="no database"):
            await nursery.start(start)


async def test_says_nothing_of_the_requests(
    app: QuartTrio, caplog: pytest.LogCaptureFixture
) -> None:
    with trio.fail_after(5), caplog.at_level(logging.DEBUG):
        async with serving(app) as server, connect(server.address) as wire:
            assert await wire.ask(GET)
    assert {record.name for record in caplog.records} == {"quiesce.server"}
    assert [record.levelname for record in caplog.records] == ["INFO"]


async def test_returns_at_once_if_it_is_closed_before_it_starts(app: QuartTrio) -> None:
    closed = trio.Event()
    closed.set()
    with trio.fail_after(1):
        await serve(app, host="127.0.0.1", port=0, closing=closed)


@pytest.mark.parametrize("gap_s", [None, 0, 0.002, 0.02])
@pytest.mark.parametrize("size", [0, 1, 25, 5_000, 100_000])
@pytest.mark.parametrize(("path", "status"), [("/nope", 404), ("/", 405), ("/echo", 200)])
async def test_a_response_before_its_request_never_hangs_the_connection(
    app: QuartTrio, path: str, status: int, size: int, gap_s: float | None
) -> None:
    body = b"x" * size
    head = request("POST", path, body)[: -size or None]
    expected = 413 if status == 200 and size > app.config["MAX_CONTENT_LENGTH"] else status
    with trio.fail_after(5):
        async with serving(app) as server:
            for _ in range(5):
                async with connect(server.address) as wire:
                    await wire.send(head if gap_s is not None else head + body)
                    if gap_s is not None:
                        await trio.sleep(gap_s)
                        await wire.send(body)
                    first = await wire.answer()
                    assert first is not None
                    assert first.status == expected
                    second = await wire.ask(head + body)
                    assert second is None or second.status == expected


async def test_idle_connections_do_not_hold_the_shutdown(app: QuartTrio) -> None:
    async with AsyncExitStack() as stack:
        stack.enter_context(trio.fail_after(5))
        server = await stack.enter_async_context(serving(app))
        for said in (b"", GET[:-6], GET, GET + GET, request("POST", "/nope", b"x" * 100)) * 4:
            wire = await stack.enter_async_context(connect(server.address))
            await wire.send(said)
        await settled()
        assert await server.close() < GRACEFUL_S / 2


async def test_http2_works_and_does_not_hold_the_shutdown(app: QuartTrio) -> None:
    with trio.fail_after(5):
        async with serving(app) as server, AsyncClient(http1=False, http2=True) as client:
            url = f"http://127.0.0.1:{server.address[1]}"
            assert (await client.get(f"{url}/big")).content == BIG
            assert (await client.post(f"{url}/nope", content=b"x" * 100)).status_code == 404
            assert (await client.get(url)).text == "hello"
            assert await server.close() < GRACEFUL_S / 2


async def test_a_stream_ends_whole(app: QuartTrio, closing: trio.Event) -> None:
    with trio.fail_after(5):
        async with (
            serving(app, closing=closing) as server,
            connect(server.address) as wire,
        ):
            await wire.send(request("GET", "/stream"))
            await settled()
            assert await server.close() < GRACEFUL_S / 2
            assert (await wire.rest()).endswith(b"\r\ndata: goodbye\n\n\r\n0\r\n\r\n")


async def test_a_request_in_flight_is_answered_while_nobody_new_is_let_in(app: QuartTrio) -> None:
    with trio.fail_after(5):
        async with serving(app) as server, connect(server.address) as wire:
            await wire.send(request("GET", "/takes/0.3"))
            await settled()
            server.closing.set()
            await settled()
            with pytest.raises(OSError, match="refused"):
                async with connect(server.address):
                    pass
            answer = await wire.answer()
            assert answer is not None
            assert answer.body == b"at last"
            await server.ended.wait()


async def test_a_request_that_takes_too_long_is_cut(
    app: QuartTrio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server.GRACEFUL_S", 0.2)
    with trio.fail_after(5):
        async with serving(app) as server, connect(server.address) as wire:
            await wire.send(request("GET", "/takes/60.0"))
            await settled()
            assert 0.2 <= await server.close() < 0.7
            assert await wire.rest() == b""


async def test_cancellation_gives_requests_no_time(app: QuartTrio) -> None:
    with trio.fail_after(5), trio.CancelScope() as scope:
        async with (
            serving(app) as server,
            connect(server.address) as watching,
            connect(server.address) as waiting,
        ):
            await watching.send(request("GET", "/stream"))
            await waiting.send(request("GET", "/takes/60.0"))
            await settled()
            began = trio.current_time()
            scope.cancel()
    assert scope.cancelled_caught
    assert trio.current_time() - began < GRACEFUL_S / 2

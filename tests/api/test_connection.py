"""What a client may do to its connection, and that nobody else feels it."""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, cast

import hypercorn.protocol
import hypercorn.trio.run
import pytest
import trio
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from quart import Response, websocket
from quart import request as current_request
from quart_trio import QuartTrio

from api import problems
from api.connection import Connection
from api.server import GRACEFUL_S
from tests.api.wire import HOSTILE, connect, request, serving, settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from hypercorn.typing import Scope

GET = request("GET", "/")
SHORT_S = 0.3
BIG = b"x" * (3 * 2**20)

Ending = Literal["close", "reset"]


@pytest.fixture
def app() -> QuartTrio:
    """An application with every kind of handler that a client can be rude to."""
    app = QuartTrio("tests")

    @app.get("/")
    async def hello() -> str:
        return "hello"

    @app.post("/echo")
    async def echo() -> dict[str, int]:
        return {"size": len(await current_request.get_data())}

    @app.get("/big")
    async def big() -> bytes:
        return BIG

    @app.get("/slow")
    async def slow() -> str:
        await trio.sleep(2 * SHORT_S)
        return "at last"

    @app.websocket("/ws")
    async def ws() -> None:
        while True:
            await websocket.send(await websocket.receive())

    return app


@pytest.fixture
def generator_closed(app: QuartTrio) -> trio.Event:
    """Add an endless stream to the application; return what is set when it has been closed."""
    closed = trio.Event()

    @app.get("/endless/<int:size>")
    async def endless(size: int) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * size
            finally:
                closed.set()

        response = Response(chunks(), content_type="text/event-stream")
        response.timeout = None
        return response

    return closed


@pytest.fixture
def stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve with hypercorn's own connection."""
    monkeypatch.setattr("api.server.install", lambda: None)
    monkeypatch.setattr(hypercorn.trio.run, "TCPServer", TCPServer)
    monkeypatch.setattr(hypercorn.protocol, "H11Protocol", H11Protocol)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut clients that stall, and handlers in a shutdown, early."""
    monkeypatch.setattr(Connection, "SEND_STALL_S", SHORT_S)
    monkeypatch.setattr("api.server.GRACEFUL_S", SHORT_S)


async def attack(app: QuartTrio, payload: bytes, ending: Ending) -> None:
    """Send the payload to a fresh server; fail unless the server and its sibling live on."""

    async def sibling() -> None:
        await released.wait()
        lived.set()

    released, lived = trio.Event(), trio.Event()
    with trio.fail_after(5):
        async with serving(app) as server:
            server.nursery.start_soon(sibling)
            async with connect(server.address) as wire:
                await wire.send(payload)
                await settled()
                if ending == "reset":
                    wire.reset()
            await settled()
            async with connect(server.address) as wire:
                answer = await wire.ask(GET)
            assert answer is not None
            assert answer.body == b"hello"
            released.set()
    assert lived.is_set()


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("name", HOSTILE)
async def test_nothing_that_a_client_sends_is_felt_outside(
    app: QuartTrio, name: str, ending: Ending
) -> None:
    await attack(app, HOSTILE[name], ending)


@pytest.mark.slow
@pytest.mark.usefixtures("stock")
async def test_stock_hypercorn_still_needs_guard_a(app: QuartTrio) -> None:
    deadly = []
    for name, payload in HOSTILE.items():
        try:
            await attack(app, payload, "close")
        except ExceptionGroup:
            deadly.append(name)
    assert deadly, "hypercorn survives all of this by now: is Connection.run still needed?"


async def test_failures_are_counted_and_cannot_fill_the_log(
    app: QuartTrio, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Connection, "failures", 0)
    with trio.fail_after(5), caplog.at_level(logging.DEBUG, "quiesce.server"):
        async with serving(app) as server:
            for _ in range(9):
                async with connect(server.address) as wire:
                    await wire.send(HOSTILE["h2 connect"])
                    await wire.rest()
    assert Connection.failures == 9
    warnings = [r.args for r in caplog.records if r.levelno == logging.WARNING]
    assert [args[0] for args in warnings if isinstance(args, tuple)] == [1, 2, 4, 8]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> Connection:
    """Return a connection of which the unguarded part raises."""

    async def run(_: TCPServer) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    monkeypatch.setattr(TCPServer, "run", run)
    return Connection(*cast("Any", [None] * 5))


@pytest.mark.parametrize(
    "error",
    [ValueError(), ExceptionGroup("", [ValueError(), ExceptionGroup("", [OSError()])])],
)
async def test_no_exception_leaves_run(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    before = Connection.failures

    await failing(monkeypatch, error).run()

    assert Connection.failures == before + 1


@pytest.mark.parametrize(
    "error",
    [KeyboardInterrupt(), BaseExceptionGroup("", [ValueError(), KeyboardInterrupt()])],
)
async def test_what_is_no_exception_leaves_run(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as raised:
        await failing(monkeypatch, error).run()
    left = raised.value
    assert not isinstance(left, BaseExceptionGroup) or left.subgroup(Exception) is None


async def test_cancellation_leaves_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await failing(monkeypatch, ValueError()).run()
    assert scope.cancelled_caught


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("size", [1000, 100_000])  # stuck in its first slice, or in a later one
async def test_a_client_that_stops_reading_is_cut(
    app: QuartTrio, generator_closed: trio.Event, size: int
) -> None:
    with trio.fail_after(5):
        async with serving(app) as server, connect(server.address, receive_buffer=4096) as wire:
            began = trio.current_time()
            await wire.send(request("GET", f"/endless/{size}"))
            await generator_closed.wait()
            assert SHORT_S <= trio.current_time() - began < SHORT_S + 1
            await settled()
            assert not (await wire.rest()).endswith(b"0\r\n\r\n")


async def test_a_client_that_stops_reading_does_not_hold_the_shutdown(
    app: QuartTrio, generator_closed: trio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.server.GRACEFUL_S", SHORT_S)
    monkeypatch.setattr(Connection, "SEND_STALL_S", 3 * SHORT_S)
    with trio.fail_after(5):
        async with serving(app) as server, connect(server.address, receive_buffer=4096) as wire:
            await wire.send(request("GET", "/endless/1000"))
            await settled()
            assert await server.close() < 4 * SHORT_S + 0.5
            assert generator_closed.is_set()


@pytest.mark.slow
@pytest.mark.usefixtures("stock", "generator_closed", "hurried")
async def test_stock_hypercorn_still_needs_guard_b(app: QuartTrio) -> None:
    with trio.fail_after(10):
        async with serving(app) as server, connect(server.address, receive_buffer=4096) as wire:
            await wire.send(request("GET", "/endless/1000"))
            await settled()
            with trio.move_on_after(4 * SHORT_S) as patience:
                await server.close()
            assert patience.cancelled_caught, "is the bound in Connection._send still needed?"


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
async def test_a_slow_but_steady_reader_gets_everything(app: QuartTrio) -> None:
    received = 0
    with trio.fail_after(15):
        async with serving(app) as server, connect(server.address, receive_buffer=65536) as wire:
            began = trio.current_time()
            await wire.send(request("GET", "/big"))
            while received < len(BIG):
                await trio.sleep(0.04)
                data = await wire.some()
                assert data, "the server cut a client that was reading"
                received += len(data)
            assert trio.current_time() - began > 4 * SHORT_S


@pytest.mark.usefixtures("hurried")
async def test_a_slow_but_steady_reader_does_not_hold_the_shutdown(app: QuartTrio) -> None:
    async def read_slowly() -> None:
        while await wire.some():
            await trio.sleep(0.04)
        cut.set()

    cut = trio.Event()
    with trio.fail_after(10):
        async with serving(app) as server, connect(server.address, receive_buffer=65536) as wire:
            await wire.send(request("GET", "/big"))
            server.nursery.start_soon(read_slowly)
            await trio.sleep(2 * SHORT_S)
            assert not cut.is_set()
            assert await server.close() < 2 * SHORT_S + 0.5
            await cut.wait()


async def test_a_client_that_leaves_with_requests_waiting_leaves_nothing_behind(
    app: QuartTrio, generator_closed: trio.Event
) -> None:
    with trio.fail_after(5):
        async with serving(app) as server:
            async with connect(server.address, receive_buffer=4096) as wire:
                await wire.send(request("GET", "/endless/1000") + GET)
                await settled()
                wire.reset()
            await generator_closed.wait()
            # A connection that had not ended would take the whole graceful time.
            assert await server.close() < GRACEFUL_S / 2


async def test_keep_alive_holds_after_the_first_request_too(app: QuartTrio) -> None:
    with trio.fail_after(5):
        async with serving(app, keep_alive_s=SHORT_S) as server, connect(server.address) as wire:
            for path in ("/", "/slow", "/"):  # the second takes longer than an idle client may
                assert await wire.ask(request("GET", path))
            began = trio.current_time()
            assert await wire.rest() == b""
            assert SHORT_S * 0.9 < trio.current_time() - began < SHORT_S + 0.5


@pytest.mark.slow
@pytest.mark.usefixtures("stock")
async def test_stock_hypercorn_still_needs_guard_c(app: QuartTrio) -> None:
    with trio.fail_after(5):
        async with serving(app, keep_alive_s=SHORT_S) as server, connect(server.address) as wire:
            assert await wire.ask(GET)
            with trio.move_on_after(4 * SHORT_S) as patience:
                await wire.rest()
            assert patience.cancelled_caught, "is the shield in protocol_send still needed?"


@pytest.mark.parametrize(
    ("asked", "told"), [(b"", b""), (GET, b"HTTP/1.1 200"), (request("GET", "/slow"), b"")]
)
async def test_a_client_that_leaves_is_let_go_at_once(
    app: QuartTrio, asked: bytes, told: bytes
) -> None:
    with trio.fail_after(5):
        async with serving(app) as server, connect(server.address) as wire:
            await wire.send(asked)
            await settled()
            await wire.stream.send_eof()
            assert (await wire.rest())[:12] == told


@pytest.mark.slow
@pytest.mark.usefixtures("stock")
async def test_stock_hypercorn_still_needs_guard_e(app: QuartTrio) -> None:
    with trio.fail_after(5):
        async with serving(app) as server, connect(server.address) as wire:
            await settled()
            await wire.stream.send_eof()
            with trio.move_on_after(4 * SHORT_S) as patience:
                await wire.rest()
            assert patience.cancelled_caught, "does the idle timer end with the client now?"
            server.nursery.cancel_scope.cancel()


LONG = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + 100_000 * b"x"


@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "Host"),
        (b"hello\r\n\r\n", 400, "request line"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400, "Content-Length"),
        (LONG, 431, "too long"),
    ],
    ids=["no host", "two hosts", "no request", "no length", "long"],
)
async def test_what_cannot_be_read_is_refused_in_words(
    app: QuartTrio, sent: bytes, status: int, said: str
) -> None:
    with trio.fail_after(5):
        async with serving(app) as server, connect(server.address) as wire:
            answer = await wire.ask(sent)
            assert answer is not None
            assert answer.status == status
            assert b"\r\ncontent-type: application/problem+json\r\n" in answer.head.lower()
            assert b"\r\nx-content-type-options: nosniff\r\n" in answer.head.lower()
            problem = json.loads(answer.body)
            assert problem["type"] == "urn:quiesce:unreadable-request"
            assert problem["status"] == status
            assert said in problem["detail"]
            assert await wire.rest() == b""


@pytest.mark.slow
@pytest.mark.usefixtures("stock")
async def test_stock_hypercorn_still_needs_guard_f(app: QuartTrio) -> None:
    with trio.fail_after(5):
        async with serving(app) as server, connect(server.address) as wire:
            answer = await wire.ask(b"hello\r\n\r\n")
            assert answer is not None
            assert answer.body == b"", "does it say by itself now what is wrong?"


async def test_a_request_that_breaks_the_application_is_one_bounded_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(QuartTrio):
        async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await super().__call__(scope, receive, send)
            else:
                raise ValueError("x" * 10_000)

    with trio.fail_after(5), caplog.at_level(logging.INFO, "quiesce.server"):
        async with serving(Broken("tests")) as server:
            for _ in range(9):
                async with connect(server.address) as wire:
                    await wire.send(GET)
                    await wire.rest()
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.args and tuple(record.args)[1] for record in told] == [1, 2, 4, 8]
    assert all(record.exc_info is None for record in told)
    assert all(len(record.getMessage()) < 500 for record in told)
    assert "ValueError('xxx" in told[0].getMessage()
    assert ", at api/test_connection.py:" in told[0].getMessage()


@pytest.mark.parametrize("name", HOSTILE)
async def test_nothing_that_a_client_sends_puts_a_traceback_into_the_log(
    app: QuartTrio, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    problems.install(app)
    with caplog.at_level(logging.INFO):
        await attack(app, HOSTILE[name], "close")
    assert [record.message for record in caplog.records if record.exc_info] == []
    assert [record.message for record in caplog.records if "\n" in record.message] == []


@pytest.mark.parametrize("name", HOSTILE)
async def test_nothing_that_a_client_sends_is_a_mistake_of_the_interface(
    url: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = url.removeprefix("http://").partition(":")
    ours = f"Host: {host}:{port}".encode()
    with trio.fail_after(20), caplog.at_level(logging.INFO):
        async with connect((host, int(port))) as wire:
            await wire.send(HOSTILE[name].replace(b"Host: test", ours))
            await settled()
            with suppress(OSError, trio.BrokenResourceError):
                await wire.stream.send_eof()
            told = await wire.rest()
        async with connect((host, int(port))) as wire:
            answer = await wire.ask(request("GET", "/healthz").replace(b"Host: test", ours))
    assert answer is not None
    assert answer.status == 200
    # 501 is for what nobody could understand: a transfer encoding that there is not.
    assert re.findall(rb"HTTP/1.1 50[^1]", told) == []
    assert b"made a mistake" not in told
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_an_error_of_ours_in_a_stream_is_told_with_its_place(
    app: QuartTrio, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/broken")
    async def broken() -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"begun"
            raise ValueError("our mistake")

        return Response(body())

    with trio.fail_after(5), caplog.at_level(logging.INFO, "quiesce.server"):
        async with serving(app) as server, connect(server.address) as wire:
            await wire.send(request("GET", "/broken"))
            assert not (await wire.rest()).endswith(b"0\r\n\r\n")
    (line,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "ValueError('our mistake'), at api/test_connection.py:" in line

"""A run's own HTTP client.

Each run has a client of its own, since the connection pool of httpcore 1.0.9 is ruined for good
when a request is cancelled while it waits for a slot (encode/httpcore#1093): here the pool has no
limit, and a ``CapacityLimiter`` in front of it bounds the concurrency. HTTP/2 is off: cancelling
a request there sends no RST_STREAM, so the server would go on. Clients share one TLS context,
which alone takes 20 ms to make.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import httpcore
import httpx
import trio

from orchestrator.cleanup import bounded
from orchestrator.errors import OperationRefused
from orchestrator.trace import HEADER

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Iterable

    from orchestrator.operations import Gate

CONNECT_S = 10.0
# A TLS peer that is silent must not hold up the closing of its socket.
CLOSE_S = 1.0


@cache
def tls_context() -> ssl.SSLContext:
    """Return the TLS context that all clients share."""
    return httpx.create_ssl_context()


class _Stream(httpcore.AsyncNetworkStream):
    """A network stream that is known to its client, and closed whatever interrupts it."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, open_streams: set[_Stream]) -> None:
        self._inner = inner
        self._open = open_streams
        self._open.add(self)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  # httpcore's interface
        try:
            return await self._inner.read(max_bytes, timeout)
        except httpcore.NetworkError:
            await self._hear_of_stop()
            raise

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109  # httpcore's interface
        try:
            await self._inner.write(buffer, timeout)
        except httpcore.NetworkError:
            await self._hear_of_stop()
            raise

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's interface
    ) -> httpcore.AsyncNetworkStream:
        # httpcore closes the socket of a failed handshake only for an Exception, and Cancelled
        # is none: without this a stalled handshake leaks its socket until it is collected.
        try:
            self._inner = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            await self.aclose()
            await self._hear_of_stop()
            raise
        return self

    async def _hear_of_stop(self) -> None:
        """Raise ``Cancelled`` rather than an error if it is a stop that has closed the socket.

        A task that was about to read when that happened was not waiting any more.
        """
        if self not in self._open:
            await trio.lowlevel.checkpoint_if_cancelled()

    async def aclose(self) -> None:
        self._open.discard(self)
        try:
            with bounded(CLOSE_S):
                await self._inner.aclose()
        finally:
            self.sever()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and self not in self._open:
            # What tells the pool that a connection is at its end; the socket has no number now.
            return True
        return self._inner.get_extra_info(info)

    def sever(self) -> None:
        """Close the socket without a word. May be called twice; is not a checkpoint."""
        self._open.discard(self)
        sock = self._inner.get_extra_info("socket")
        if sock is not None:
            sock.close()


class _Backend(httpcore.AsyncNetworkBackend):
    def __init__(self) -> None:
        self._trio = httpcore.TrioBackend()
        self.streams: set[_Stream] = set()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._trio.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self.streams)

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


class _Body(httpx.AsyncByteStream):
    """A response's body that gives its slot back when it is closed."""

    def __init__(self, inner: httpx.AsyncByteStream, release: Callable[[], None]) -> None:
        self._inner = inner
        self._release = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._inner.__aiter__()

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._release()


class _Sockets(httpx.AsyncHTTPTransport):
    """Real connections, each known to the backend."""

    def __init__(self, concurrency: int) -> None:
        super().__init__(verify=tls_context(), http2=False)
        self.backend = _Backend()
        # httpx has no public way to hand its pool a network backend.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls_context(),
            max_connections=None,
            max_keepalive_connections=concurrency,
            keepalive_expiry=5.0,
            network_backend=self.backend,
        )


class _Guarded(httpx.AsyncBaseTransport):
    """Refuses requests after a stop, and bounds how many are under way.

    Closing it does not close the transport that it guards.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        gate: Gate,
        concurrency: int,
        traceparent: Callable[[], str],
    ) -> None:
        self._inner = inner
        self._gate = gate
        self._traceparent = traceparent
        self._slots = trio.CapacityLimiter(concurrency)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        borrower = object()
        await self._slots.acquire_on_behalf_of(borrower)
        try:
            # After the wait: a stop may have come in the meantime.
            if not self._gate.may_send:
                raise OperationRefused("http", f"{request.method} {request.url}")
            if place := self._traceparent():
                request.headers.setdefault(HEADER, place)
            response = await self._inner.handle_async_request(request)
            assert isinstance(response.stream, httpx.AsyncByteStream)
        except BaseException:
            self._slots.release_on_behalf_of(borrower)
            raise
        # Anew: a response that was scripted with its content would never close its stream.
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Body(response.stream, self._releaser(borrower)),
            extensions=response.extensions,
        )

    def _releaser(self, borrower: object) -> Callable[[], None]:
        held = [borrower]

        def release() -> None:
            if held:
                self._slots.release_on_behalf_of(held.pop())

        return release


class RunClient:
    """The client of one run, and the means to close it from outside.

    Attributes:
        http: what the agent sees. Connects within 10 s; reads and writes have no limit of their
            own, since deadlines and stops bound them.
    """

    def __init__(
        self,
        gate: Gate,
        concurrency: int,
        scripted: httpx.AsyncBaseTransport | None = None,
        *,
        traceparent: Callable[[], str] = str,
    ) -> None:
        """Make a client.

        Args:
            scripted: answers instead of a network; belongs to whoever made it, and is not closed.
            traceparent: where a request comes from in a trace; empty for nowhere.
        """
        inner = _Sockets(concurrency) if scripted is None else scripted
        self._sockets = inner if isinstance(inner, _Sockets) else None
        self.http = httpx.AsyncClient(
            transport=_Guarded(inner, gate, concurrency, traceparent),
            timeout=httpx.Timeout(None, connect=CONNECT_S),
        )

    @property
    def connections(self) -> int:
        """How many connections are open; none are with a scripted transport."""
        return len(self._streams)

    def sever(self) -> None:
        """Close every socket at once; whoever waits on one gets an error. Not a checkpoint."""
        for stream in self._streams:
            stream.sever()

    async def aclose(self) -> None:
        """Close the client and every connection, also one that was leaked. May be called twice."""
        try:
            await self.http.aclose()
            if self._sockets is not None:
                await self._sockets.aclose()
        finally:
            self.sever()

    @property
    def _streams(self) -> list[_Stream]:
        return [] if self._sockets is None else list(self._sockets.backend.streams)

"""The other end of the wire: a server on loopback that counts what really arrives.

It speaks just enough HTTP/1.1, on plain sockets, so that nothing between the wire and the counts
could hide or delay anything.
"""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CHUNK_S = 0.005
# How a TLS client begins; whoever does that here gets an answer that is no TLS.
TLS = b"\x16\x03"


@dataclass(eq=False)
class Seen:
    """One request as the victim saw it. Times are on Trio's clock."""

    path: str
    begun: float
    finished: float | None = None
    body: bytes = b""


@dataclass(eq=False)
class Connection:
    """One connection as the victim saw it.

    Attributes:
        closed: when the client closed or reset it; None while it is open.
    """

    opened: float
    closed: float | None = None
    requests: list[Seen] = field(default_factory=list)


class Victim:
    """What the server has seen. Paths:

    - ``/stream``: chunks without an end; ``/slow?seconds=S``: an answer after so long;
    - ``/held``: an answer once ``release`` is set; ``/quick``: an answer at once;
    - ``/redirect``: to ``/quick``; ``/half``: promises more than it sends, then waits.

    Attributes:
        address: where it listens; ``stalled`` accepts there and never says a word, which for a
            TLS client is a handshake that stalls.
        sent: chunks of streams that were sent, by path and query.
    """

    def __init__(self) -> None:
        self.address = ("", 0)
        self.stalled_address = ("", 0)
        self.connections: list[Connection] = []
        self.stalled: list[Connection] = []
        self.release = trio.Event()
        self.sent: dict[str, int] = {}
        self.busiest = 0
        self._changed = trio.Event()

    @property
    def url(self) -> str:
        """The base URL."""
        return "http://{}:{}".format(*self.address)

    @property
    def stalled_url(self) -> str:
        """A URL whose TLS handshake never ends."""
        return "https://{}:{}".format(*self.stalled_address)

    @property
    def open(self) -> list[Connection]:
        """The connections that no client has closed."""
        return [each for each in self.connections if each.closed is None]

    @property
    def requests(self) -> list[Seen]:
        """All requests, in the order of their arrival."""
        return sorted((r for c in self.connections for r in c.requests), key=lambda r: r.begun)

    @property
    def running(self) -> list[Seen]:
        """Requests on open connections that have no whole answer yet."""
        return [r for c in self.open for r in c.requests if r.finished is None]

    def forget(self) -> None:
        """Forget the connections that are closed, so that a test may count anew."""
        self.connections = self.open
        self.release = trio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the victim has seen something."""
        while not condition():
            await self._changed.wait()

    def changed(self) -> None:
        """Wake those who wait for something to be seen."""
        self._changed.set()
        self._changed = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until its client leaves."""
        connection = Connection(trio.current_time())
        self.connections.append(connection)
        try:
            with suppress(trio.BrokenResourceError):
                await self._converse(stream, connection)
        finally:
            connection.closed = trio.current_time()
            self.changed()

    async def stall(self, stream: trio.SocketStream) -> None:
        """Take what comes, and never answer."""
        connection = Connection(trio.current_time())
        self.stalled.append(connection)
        try:
            with suppress(trio.BrokenResourceError):
                while await stream.receive_some():
                    self.changed()
        finally:
            connection.closed = trio.current_time()
            self.changed()

    async def _converse(self, stream: trio.SocketStream, connection: Connection) -> None:
        unread = b""
        while True:
            while b"\r\n\r\n" not in unread:
                data = await stream.receive_some()
                if not data:
                    return
                unread += data
                if unread.startswith(TLS):
                    await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    unread = b""
            head, _, unread = unread.partition(b"\r\n\r\n")
            seen = Seen(head.split()[1].decode(), trio.current_time())
            connection.requests.append(seen)
            self.busiest = max(self.busiest, len(self.running))
            self.changed()
            if not await self._answer_or_leave(stream, seen):
                return
            seen.finished = trio.current_time()
            self.changed()

    async def _answer_or_leave(self, stream: trio.SocketStream, seen: Seen) -> bool:
        """Answer; False if the client closed its end first."""
        left = False

        async def watch() -> None:
            nonlocal left
            # No client of these tests sends its next request before it has its answer.
            with suppress(trio.BrokenResourceError):
                assert await stream.receive_some() == b""
            left = True
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            try:
                await self._answer(stream, seen)
            except trio.BrokenResourceError:
                left = True
            nursery.cancel_scope.cancel()
        return not left

    async def _answer(self, stream: trio.SocketStream, seen: Seen) -> None:
        target = urlsplit(seen.path)
        match target.path:
            case "/stream":
                await self._stream(stream, seen)
            case "/slow":
                await trio.sleep(float(parse_qs(target.query)["seconds"][0]))
            case "/held":
                await self.release.wait()
            case "/half":
                await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf")
                await trio.sleep_forever()
            case "/redirect":
                await stream.send_all(
                    b"HTTP/1.1 302 Found\r\nLocation: /quick\r\nContent-Length: 0\r\n\r\n"
                )
                return
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def _stream(self, stream: trio.SocketStream, seen: Seen) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"4\r\ntick\r\n")
            self.sent[seen.path] = self.sent.get(seen.path, 0) + 1
            self.changed()
            await trio.sleep(CHUNK_S)


async def _listen(
    handler: Callable[[trio.SocketStream], Awaitable[None]],
    task_status: trio.TaskStatus[tuple[str, int]],
) -> None:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1000)
    task_status.started(listener.socket.getsockname()[:2])
    await trio.serve_listeners(handler, [listener])


@asynccontextmanager
async def open_victim() -> AsyncIterator[Victim]:
    """Serve on loopback while the body runs."""
    victim = Victim()
    async with trio.open_nursery() as nursery:
        victim.address = await nursery.start(_listen, victim.serve)
        victim.stalled_address = await nursery.start(_listen, victim.stall)
        yield victim
        nursery.cancel_scope.cancel()

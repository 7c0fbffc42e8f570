"""One HTTP/2 connection, stream by stream."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import trio

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator


STATUS = ":status"


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Stream:
    """One stream: what it has brought so far.

    Attributes:
        stalled: it takes no more than its window.
        over: it ended; ``cut`` if by a reset.
    """

    def __init__(self, number: int, *, stalled: bool) -> None:
        self.number = number
        self.stalled = stalled
        self.status = 0
        self.body = b""
        self.over = False
        self.cut = False
        self.changed = trio.Condition()

    async def until(self, text: bytes) -> None:
        """Wait until the body has that text."""
        async with self.changed:
            while text not in self.body:
                assert not self.over, f"it ended without {text!r}: {self.body[-300:]!r}"
                await self.changed.wait()

    async def whole(self) -> Answer:
        """Wait for the end."""
        async with self.changed:
            while not self.over:
                await self.changed.wait()
        assert not self.cut
        return Answer(self.status, self.body)


class Connection:
    """A client's side of a connection."""

    def __init__(self, transport: trio.abc.Stream, authority: str) -> None:
        self._transport = transport
        self._authority = authority
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._streams: dict[int, Stream] = {}
        self._room = trio.Condition()
        self._turn = trio.Lock()

    async def open(self) -> None:
        self._h2.initiate_connection()
        # Streams have windows of their own; that of the connection shall not matter.
        self._h2.increment_flow_control_window(2**24)
        await self.flush()

    async def flush(self) -> None:
        async with self._turn:
            if data := self._h2.data_to_send():
                await self._transport.send_all(data)

    async def begin(
        self,
        call: str,
        body: bytes = b"",
        *,
        end: bool = True,
        stalled: bool = False,
        **headers: str,
    ) -> Stream:
        """Send a request; ``end`` says whether its body is whole."""
        method, path = call.split(" ")
        number = self._h2.get_next_available_stream_id()
        stream = self._streams[number] = Stream(number, stalled=stalled)
        fields = [
            (":method", method),
            (":path", path),
            (":scheme", "http"),
            (":authority", self._authority),
            *((name.replace("_", "-"), value) for name, value in headers.items()),
        ]
        self._h2.send_headers(number, fields, end_stream=end and not body)
        await self.flush()
        if body:
            await self.send(stream, body, end=end)
        return stream

    async def send(self, stream: Stream, body: bytes, *, end: bool = True) -> None:
        """Send more of a body, as fast as the server takes it."""
        while body:
            async with self._room:
                while not (size := self._h2.local_flow_control_window(stream.number)):
                    await self._room.wait()
            size = min(size, self._h2.max_outbound_frame_size)
            piece, body = body[:size], body[size:]
            self._h2.send_data(stream.number, piece, end_stream=end and not body)
            await self.flush()

    async def ask(self, call: str, body: Any = None, **headers: str) -> Answer:
        """Send a request with a JSON body, and return the answer."""
        given = b"" if body is None else json.dumps(body).encode()
        return await (await self.begin(call, given, end=True, stalled=False, **headers)).whole()

    async def reset(self, stream: Stream) -> None:
        """Hang up one stream."""
        self._h2.reset_stream(stream.number, error_code=8)
        await self.flush()

    async def pump(self) -> None:
        """Take what comes, until the server closes."""
        while data := await self._transport.receive_some(2**16):
            for event in self._h2.receive_data(data):
                await self._take(event)
            await self.flush()

    async def _take(self, event: h2.events.Event) -> None:
        async with self._room:
            self._room.notify_all()
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        match event:
            case h2.events.ResponseReceived(headers=headers):  # text, as configured
                stream.status = int(next(value for name, value in headers if str(name) == STATUS))
            case h2.events.DataReceived(data=data, flow_controlled_length=length):
                stream.body += data
                if not stream.stalled and not stream.over:
                    self._h2.acknowledge_received_data(length, stream.number)
            case h2.events.StreamEnded():
                stream.over = True
            case h2.events.StreamReset():
                stream.over = stream.cut = True
        async with stream.changed:
            stream.changed.notify_all()


@asynccontextmanager
async def connecting(url: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Connection]:
    """Speak HTTP/2 with a server: over TLS as ALPN agrees, else by prior knowledge."""
    host, port = urlsplit(url).hostname or "", urlsplit(url).port or 0
    transport: trio.abc.Stream = await trio.open_tcp_stream(host, port)
    if tls is not None:
        tls.set_alpn_protocols(["h2"])
        transport = trio.SSLStream(transport, tls, server_hostname=host, https_compatible=True)
        await transport.do_handshake()
        assert transport.selected_alpn_protocol() == "h2"
    async with transport, trio.open_nursery() as nursery:
        connection = Connection(transport, f"{host}:{port}")
        await connection.open()
        nursery.start_soon(connection.pump)
        yield connection
        nursery.cancel_scope.cancel()

"""The other end of a WebSocket, frame by frame."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import LocalProtocolError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Closed(Exception):
    """The server has closed the connection; ``code`` is None if it did so without a word."""

    def __init__(self, code: int | None, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Peer:
    """One WebSocket client.

    Attributes:
        mute: leave the pings of the server unanswered.
        pings: how many of them have come.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.mute = False
        self.pings = 0
        self.accepted: AcceptConnection | None = None
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._events: list[Event] = []
        self._text = ""

    async def open(self, headers: list[tuple[bytes, bytes]], path: str = "/ws") -> int:
        """Shake hands; return the HTTP status."""
        request = Request("localhost", path, [PerMessageDeflate()], headers)
        await self.stream.send_all(self._ws.send(request))
        match await self._next():
            case AcceptConnection() as accepted:
                self.accepted = accepted
                return 101
            case RejectConnection(status_code=status):
                return status
            case other:
                raise AssertionError(other)

    async def _next(self) -> Event:
        while not self._events:
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise Closed(None, "")
            self._ws.receive_data(data)
            self._events.extend(self._ws.events())
        return self._events.pop(0)

    async def send(self, **words: Any) -> None:
        """Send a command."""
        await self.send_text(json.dumps(words))

    async def send_text(self, text: str) -> None:
        """Send a message."""
        await self.stream.send_all(self._ws.send(TextMessage(data=text)))

    async def send_many(self, commands: list[dict[str, Any]]) -> None:
        """Send commands in one go."""
        frames = [self._ws.send(TextMessage(data=json.dumps(each))) for each in commands]
        await self.stream.send_all(b"".join(frames))

    async def send_frame(self, event: Event) -> None:
        """Send any frame."""
        await self.stream.send_all(self._ws.send(event))

    async def receive(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            Closed: there is none.
        """
        message: dict[str, Any] = json.loads(await self.receive_text())
        return message

    async def receive_text(self) -> str:
        """Return the next message as it is; errors as for ``receive``."""
        while True:
            match await self._next():
                case TextMessage(data=data, message_finished=finished):
                    self._text += data
                    if finished:
                        text, self._text = self._text, ""
                        return text
                case Ping() as ping:
                    self.pings += 1
                    # The frame behind it may be the last one, and nothing can be sent after that.
                    with suppress(LocalProtocolError, trio.BrokenResourceError):
                        if not self.mute:
                            await self.stream.send_all(self._ws.send(ping.response()))
                case Pong():
                    pass
                case CloseConnection(code=code, reason=reason):
                    raise Closed(code, reason or "")
                case other:
                    raise AssertionError(other)

    async def ask(self, **words: Any) -> dict[str, Any]:
        """Send a command and return the next message, which must be its reply."""
        await self.send(**words)
        reply = await self.receive()
        assert set(reply) == {"request", "status", "body"}, reply
        assert reply["request"] == words.get("request")
        return reply

    async def until_closed(self) -> Closed:
        """Read until the server closes the connection, and return how."""
        try:
            while True:
                await self.receive_text()
        except Closed as closed:
            return closed

    def reset(self) -> None:
        """End the connection with a RST."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


@asynccontextmanager
async def talking(url: str, path: str = "/ws", **headers: str) -> AsyncIterator[Peer]:
    """Open a WebSocket for the time of the body; the underscores of ``headers`` are dashes."""
    async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as stream:
        peer = Peer(stream)
        fields = [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ]
        assert await peer.open(fields, path) == 101
        yield peer

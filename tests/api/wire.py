"""A server on a real socket, and the other end of its wire, byte by byte."""

from __future__ import annotations

import re
import socket
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import trio
import trio.testing

from api.server import KEEP_ALIVE_S, Address, serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from quart_trio import QuartTrio


@dataclass
class Server:
    """A server that runs in ``nursery``, where a test may start siblings of it."""

    nursery: trio.Nursery
    closing: trio.Event
    ended: trio.Event = field(default_factory=trio.Event)
    address: Address = ("", 0)

    async def close(self) -> float:
        """Close the server; return how long it took, in seconds."""
        began = trio.current_time()
        self.closing.set()
        await self.ended.wait()
        return trio.current_time() - began


@asynccontextmanager
async def serving(
    app: QuartTrio,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    closing: trio.Event | None = None,
    keep_alive_s: float = KEEP_ALIVE_S,
) -> AsyncIterator[Server]:
    """Serve ``app`` for the body of the block, then close."""

    async def run(task_status: trio.TaskStatus[Address]) -> None:
        await serve(
            app,
            host=host,
            port=port,
            closing=server.closing,
            keep_alive_s=keep_alive_s,
            task_status=task_status,
        )
        server.ended.set()

    async with trio.open_nursery() as nursery:
        server = Server(nursery, trio.Event() if closing is None else closing)
        server.address = await nursery.start(run)
        yield server
        server.closing.set()


class Answer(NamedTuple):
    """One HTTP/1.1 response."""

    status: int
    head: bytes
    body: bytes


class Wire:
    """One raw connection to a server. Whatever the server does to it is data, not an error."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._read = b""

    async def send(self, data: bytes) -> None:
        """Send the bytes, or as many of them as the server takes before it closes."""
        with suppress(trio.BrokenResourceError):
            await self.stream.send_all(data)

    async def some(self, at_most: int = 65536) -> bytes:
        """Return the next bytes; empty once the server has closed or reset the connection."""
        try:
            return await self.stream.receive_some(at_most)
        except trio.BrokenResourceError:
            return b""

    async def rest(self) -> bytes:
        """Return all that comes until the server closes the connection."""
        read, self._read = self._read, b""
        while data := await self.some():
            read += data
        return read

    async def answer(self) -> Answer | None:
        """Return the next response with a ``content-length``; None if the server closes first."""
        while True:
            head, found, body = self._read.partition(b"\r\n\r\n")
            length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
            if found and length and len(body) >= int(length[1]):
                size = int(length[1])
                self._read = body[size:]
                return Answer(int(head.split()[1]), head, body[:size])
            if not (data := await self.some()):
                return None
            self._read += data

    async def ask(self, data: bytes) -> Answer | None:
        """Send a request and return the response; None if the server closes instead."""
        await self.send(data)
        return await self.answer()

    def reset(self) -> None:
        """End the connection with a RST."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()


@asynccontextmanager
async def connect(address: Address, *, receive_buffer: int | None = None) -> AsyncIterator[Wire]:
    """Connect; ``receive_buffer`` bytes bound what the kernel takes while nobody reads."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with trio.socket.socket(family) as sock:
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect(address)
        yield Wire(trio.SocketStream(sock))


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """Return the bytes of an HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def settled() -> None:
    """Return when the server has dealt with all that it was sent."""
    await trio.testing.wait_all_tasks_blocked(cushion=0.005)


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bKdPyn3u98cTfZJSh4TNeQ==\r\n\r\n"
)
GET = request("GET", "/")
POST = b"POST /echo HTTP/1.1\r\nHost: test\r\n"
H2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return an HTTP/2 frame."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def h2_headers(stream: int, **pseudo: bytes) -> bytes:
    """Return a HEADERS frame that ends its stream, with literal pseudo-headers."""
    block = b"".join(
        b"\x00" + bytes([len(name) + 1]) + b":" + name.encode() + bytes([len(value)]) + value
        for name, value in pseudo.items()
    )
    return frame(1, 0x5, stream, block)


SETTINGS = frame(4, 0, 0)
H2_GET = {"method": b"GET", "scheme": b"http", "authority": b"test"}

# What no client should send, under names for the tests' ids.
HOSTILE = {
    "upgrade and a byte": UPGRADE + b"x",
    "upgrade and a frame": UPGRADE + b"\x81\x85\x00\x00\x00\x00hello",
    "upgrade and a request": UPGRADE + GET,
    "upgrade without a key": UPGRADE.replace(b"Sec-WebSocket-Key", b"X-Key"),
    "upgrade without a key, and a byte": UPGRADE.replace(b"Sec-WebSocket-Key", b"X-Key") + b"x",
    "upgrade of version 99": UPGRADE.replace(b"Version: 13", b"Version: 99"),
    "upgrade of an unknown path": UPGRADE.replace(b"/ws", b"/no") + b"\x00",
    "upgrade with a bad extension": UPGRADE.replace(
        b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate; =;;\xff\r\n\r\n"
    ),
    "upgrade with a body": UPGRADE.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\nhello"),
    "h2 preface and junk": H2 + b"\xff" * 64,
    "h2 preface cut short": H2[:-4],
    "h2 preface gone wrong": b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    "h2 data on an idle stream": H2 + SETTINGS + frame(0, 1, 7, b"data"),
    "h2 bad header block": H2 + SETTINGS + frame(1, 0x5, 1, b"\xff\xff\xff\xff\xff"),
    "h2 request without a path": H2 + SETTINGS + h2_headers(1, **H2_GET),
    "h2 path that is not ASCII": H2 + SETTINGS + h2_headers(1, **H2_GET, path=b"/\xff\xfe"),
    "h2 connect": H2 + SETTINGS + h2_headers(1, method=b"CONNECT", authority=b"test"),
    "h2 reset of an unknown stream": H2 + SETTINGS + frame(3, 0, 9, b"\0\0\0\1"),
    "h2 window overflow": H2 + SETTINGS + frame(8, 0, 0, b"\x7f\xff\xff\xff"),
    "h2 priority on itself": H2 + SETTINGS + frame(2, 0, 1, b"\0\0\0\1\xff"),
    "h2c upgrade with junk": b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade, HTTP2-Settings"
    b"\r\nUpgrade: h2c\r\nHTTP2-Settings: !!!!\r\n\r\njunk",
    "h2c upgrade without settings": b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: h2c\r\n\r\n",
    "request line cut short": b"GET / HT",
    "headers cut short": GET[:-6],
    "body cut short": request("POST", "/echo", b"x" * 100)[:-50],
    "chunk size that is no number": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "chunk of endless size": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
    "chunk longer than it says": POST
    + b"Transfer-Encoding: chunked\r\n\r\n1\r\nhello\r\n0\r\n\r\n",
    "unknown transfer encoding": POST + b"Transfer-Encoding: gzip, identity\r\n\r\n",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "length of ten thousand digits": POST + b"Content-Length: " + b"9" * 10000 + b"\r\n\r\n",
    "oversize header": b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * 200_000,
    "thousands of headers": b"GET / HTTP/1.1\r\nHost: test\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
    "header without a colon": b"GET / HTTP/1.1\r\nHost: test\r\nabsurd\r\n\r\n",
    "header that is not ASCII": b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\xff: \x80\r\n\r\n",
    "NULs": b"\0" * 1000,
    "NUL in a path": b"GET /\0 HTTP/1.1\r\nHost: test\r\n\r\n",
    "escapes that are not UTF-8": b"GET /%ff%00?%ff=%00 HTTP/1.1\r\nHost: test\r\n\r\n",
    "target that is no URL": b"GET http://[ HTTP/1.1\r\nHost: test\r\n\r\n",
    "target of a star": b"OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x42" * 500,
    "version from the future": b"GET / HTTP/9.9\r\n\r\n",
    "empty lines": b"\r\n" * 10_000,
    "expectation and no body": POST + b"Content-Length: 9\r\nExpect: 100-continue\r\n\r\n",
    "request and junk": GET + b"\xff\xfe\xfd",
    "many requests at once": GET * 200,
}

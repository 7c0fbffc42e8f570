"""A website on loopback that writes down what is done to it.

It speaks HTTP/1.1 over real sockets and keeps raw counts: connections accepted and closed,
requests begun and finished, and which of them the client left before the answer was whole.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

_CHUNK_BYTES = 64 * 1024


@dataclass(slots=True)
class Answer:
    """What the site says to one request.

    Attributes:
        hold: the answer begins only once this is set.
        hang_up: close the connection instead of answering.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hold: trio.Event | None = None
    hang_up: bool = False


@dataclass(slots=True, eq=False)
class Asked:
    """A request that arrived.

    Attributes:
        target: path and query as they came.
        at: when, on Trio's clock.
        sent: bytes of the body that were handed to the socket.
        finished: the whole answer was.
        cut: the client closed the connection before that.
    """

    target: str
    headers: Mapping[str, str]
    at: float
    sent: int = 0
    finished: bool = False
    cut: bool = False


class Site:
    """The site; its addresses and answers may be changed at any time.

    Attributes:
        answers: for each target (path and query) what is said to the first, second, … request
            for it; the last one is said to all that follow. Everything else is a 404.
        asked: every request so far, in the order of arrival.
        accepted, closed: connections.
    """

    def __init__(self, scheme: str, port: int) -> None:
        self.port = port
        self.root = f"{scheme}://127.0.0.1:{port}"
        self.answers: dict[str, Sequence[Answer]] = {}
        self.asked: list[Asked] = []
        self.accepted = 0
        self.closed = 0
        self._changed = trio.Event()

    def url(self, target: str) -> str:
        """Return the whole address of a target."""
        return self.root + target

    def says(self, target: str, *answers: Answer) -> None:
        """Set what is answered to the requests for a target."""
        self.answers[target] = answers

    def page(
        self,
        target: str,
        *links: str,
        title: str = "",
        head: str = "",
        text: str = "",
        hold: trio.Event | None = None,
    ) -> None:
        """Put an HTML page there, with those links on it."""
        anchors = "".join(f'<a href="{escape(link)}">{escape(link)}</a> ' for link in links)
        html = (
            f"<!doctype html><html><head><title>{escape(title or target)}</title>{head}</head>"
            f"<body><p>{text}</p>{anchors}</body></html>"
        )
        headers = {"Content-Type": "text/html; charset=utf-8"}
        self.says(target, Answer(html.encode(), headers=headers, hold=hold))

    def redirect(self, target: str, to: str, status: int = 302) -> None:
        """Make a target redirect."""
        self.says(target, Answer(status=status, headers={"Location": to}))

    def targets(self) -> list[str]:
        """Return what was asked for, in order, without robots.txt and the usual sitemap."""
        own = ("/robots.txt", "/sitemap.xml")
        return [each.target for each in self.asked if each.target not in own]

    def times(self, target: str) -> int:
        """Return how often a target was asked for."""
        return [each.target for each in self.asked].count(target)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return self.accepted - self.closed

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something that happens at the site makes the condition true."""
        while not holds():
            await self._changed.wait()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end."""
        self.accepted += 1
        self._change()
        try:
            await self._converse(_Connection(stream))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await trio.aclose_forcefully(stream)
            self.closed += 1
            self._change()

    async def _converse(self, connection: _Connection) -> None:
        while (asked := await connection.request()) is not None:
            self.asked.append(asked)
            self._change()
            answer = self._answer(asked.target)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.watch, asked, nursery.cancel_scope)
                await connection.send(asked, answer)
                nursery.cancel_scope.cancel()
            self._change()
            if asked.cut or answer.hang_up:
                return

    def _answer(self, target: str) -> Answer:
        answers = self.answers.get(target, (Answer(b"nothing here", 404),))
        return answers[min(self.times(target), len(answers)) - 1]

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class _Connection:
    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._received = b""

    async def request(self) -> Asked | None:
        """Receive the next request; None once the client has gone, or speaks no HTTP."""
        while b"\r\n\r\n" not in self._received:
            if not await self._receive():
                return None
            if not self._received[:1].isalpha():
                await self._stream.send_all(b"HTTP/1.1 400 What?\r\nConnection: close\r\n\r\n")
                return None
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        return Asked(first.split(" ")[1], headers, trio.current_time())

    async def watch(self, asked: Asked, scope: trio.CancelScope) -> None:
        """Notice that the client leaves while it should wait for an answer."""
        try:
            while await self._receive():
                pass
        except trio.BrokenResourceError:
            pass
        asked.cut = not asked.finished
        scope.cancel()

    async def send(self, asked: Asked, answer: Answer) -> None:
        if answer.hold is not None:
            await answer.hold.wait()
        if answer.hang_up:
            return
        headers = {"Content-Length": str(len(answer.body)), **answer.headers}
        lines = [f"HTTP/1.1 {answer.status} Status", *(f"{k}: {v}" for k, v in headers.items())]
        try:
            await self._stream.send_all("\r\n".join([*lines, "", ""]).encode())
            for at in range(0, len(answer.body), _CHUNK_BYTES):
                chunk = answer.body[at : at + _CHUNK_BYTES]
                await self._stream.send_all(chunk)
                asked.sent += len(chunk)
            asked.finished = True
        except trio.BrokenResourceError:
            asked.cut = True

    async def _receive(self) -> bool:
        chunk = await self._stream.receive_some()
        self._received += chunk
        return bool(chunk)


@asynccontextmanager
async def open_site(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    """Serve a site at a free port of 127.0.0.1; with that context, over TLS."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        site = Site("https" if tls else "http", listener.socket.getsockname()[1])

        async def handle(stream: trio.SocketStream) -> None:
            await site.serve(
                stream if tls is None else trio.SSLStream(stream, tls, server_side=True)
            )

        nursery.start_soon(partial(trio.serve_listeners, handle, [listener]))
        try:
            yield site
        finally:
            nursery.cancel_scope.cancel()

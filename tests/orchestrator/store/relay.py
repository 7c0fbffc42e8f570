"""A relay between a store and its PostgreSQL server, which hangs up at a moment of choice."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from enum import Enum, auto
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Cut(Enum):
    """When to hang up, once."""

    BEFORE_COMMIT = auto()
    """The server never hears of the commit."""
    AFTER_COMMIT = auto()
    """The server has committed, and its answer is lost."""


class Relay:
    """Connections between clients and a server.

    Attributes:
        url: of the database through the relay.
        cut: when the next connection is to be cut; None again once it was.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.url = ""
        self.cut: Cut | None = None
        self._scope = trio.CancelScope()
        self._muted: set[trio.SocketStream] = set()
        self._open: set[trio.SocketStream] = set()

    def mute(self) -> None:
        """Pass nothing on any more, of the connections that are there now."""
        self._muted |= self._open

    def end(self) -> None:
        """Hang up, and answer nobody any more."""
        self._scope.cancel()

    async def listen(
        self, *, task_status: trio.TaskStatus[list[trio.SocketListener]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Relay whoever connects, until the end."""
        with self._scope:
            await trio.serve_tcp(self.serve, 0, host="127.0.0.1", task_status=task_status)

    async def serve(self, client: trio.SocketStream) -> None:
        """Relay one connection until either side, or a cut, ends it."""
        server = await trio.open_tcp_stream("127.0.0.1", self._server_port)
        self._open |= {client, server}
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._pass_on, client, server, Cut.BEFORE_COMMIT, nursery)
            nursery.start_soon(self._pass_on, server, client, Cut.AFTER_COMMIT, nursery)

    async def _pass_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, here: Cut, nursery: trio.Nursery
    ) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                if source in self._muted:
                    continue
                if self.cut is here and b"COMMIT" in data:
                    self.cut = None
                    break
                await sink.send_all(data)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_relay(port: int, database: str) -> AsyncIterator[Relay]:
    """Relay to the server at a port of this machine while the body runs."""
    relay = Relay(port)
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(relay.listen)
        own = listener.socket.getsockname()[1]
        relay.url = f"postgresql://postgres@127.0.0.1:{own}/{database}"
        yield relay
        nursery.cancel_scope.cancel()

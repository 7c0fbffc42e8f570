"""A server that streams for ever to whoever asks, and says when each connection closes.

It runs in a process of its own. Its times are those of ``time.monotonic``, which all processes
of a machine share.
"""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from tests.bench.processes import end_with_parent, open_peer, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.bench.processes import Peer

TICK_S = 0.05

_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = b"5\r\nhello\r\n"


class Victim:
    """The server, as seen from the benchmark."""

    def __init__(self, peer: Peer, port: int) -> None:
        self._peer = peer
        self.url = f"http://127.0.0.1:{port}/"

    async def streaming(self, connections: int) -> None:
        """Wait until so many more connections have been streamed to for a while."""
        for _ in range(connections):
            assert (await self._peer.read())[0] == "streaming"

    async def last_close(self, connections: int) -> float:
        """Return when the last of so many connections was seen to close, in seconds."""
        closed = [await self._peer.read() for _ in range(connections)]
        assert all(what == "closed" for what, _ in closed)
        return max(float(at) for _, at in closed)


@asynccontextmanager
async def open_victim() -> AsyncIterator[Victim]:
    """Run the server for the time of the body."""
    async with open_peer("victim") as peer:
        yield Victim(peer, await peer.read())


async def _serve(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stream_to, stream)
        with suppress(trio.BrokenResourceError):
            await stream.receive_some()
        at = time.monotonic()
        nursery.cancel_scope.cancel()
    say(["closed", at])


async def _stream_to(stream: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError):
        await stream.send_all(_HEAD + _CHUNK)
        await trio.sleep(TICK_S)
        say(["streaming", time.monotonic()])
        while True:
            await stream.send_all(_CHUNK)
            await trio.sleep(TICK_S)


async def _main() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_with_parent)
        serve = partial(trio.serve_tcp, _serve, 0, host="127.0.0.1")
        listeners = await nursery.start(serve)
        say(listeners[0].socket.getsockname()[1])


if __name__ == "__main__":
    trio.run(_main)

"""The other end of the wire: a website that counts, and answers when it is told to."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from trio.testing import wait_all_tasks_blocked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Site:
    """A website.

    Attributes:
        asked: the paths that were asked for, as they came.
        left: how many clients went away before they had their answer.
        open: connections that are open.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[str] = []
        self.left = 0
        self.open = 0
        self._may_answer = trio.Semaphore(0)
        self._changed = trio.Event()

    def answer(self, times: int = 1) -> None:
        """Answer so many requests, those to come included."""
        for _ in range(times):
            self._may_answer.release()

    async def until_asked(self, times: int) -> None:
        """Wait until so many requests have come."""
        while len(self.asked) < times:
            await self._changed.wait()

    async def quiet(self) -> None:
        """Give whatever might still come the time to come."""
        await wait_all_tasks_blocked(cushion=0.02)

    async def serve(self, stream: trio.SocketStream) -> None:
        self.open += 1
        try:
            while request := await stream.receive_some():
                self.asked.append(request.split()[1].decode())
                self._changed.set()
                self._changed = trio.Event()
                if not await self._answer(stream):
                    self.left += 1
                    return
        except trio.BrokenResourceError:
            self.left += 1
        finally:
            self.open -= 1

    async def _answer(self, stream: trio.SocketStream) -> bool:
        """Answer once that is allowed; False if the client went away before."""
        gone = False

        async def watch() -> None:
            nonlocal gone
            gone = not await stream.receive_some()
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await self._may_answer.acquire()
            nursery.cancel_scope.cancel()
        if not gone:
            await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        return not gone


@asynccontextmanager
async def open_site() -> AsyncIterator[Site]:
    """Serve a site for the time of the body."""
    site = Site()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, site.serve, 0)
        site.url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        yield site
        nursery.cancel_scope.cancel()

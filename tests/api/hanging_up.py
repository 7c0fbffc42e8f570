"""Clients that hang up in the middle, and a server for them."""

from __future__ import annotations

import json
import os
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from api.connection import Connection
from api.service import open_server
from orchestrator import Context, Orchestrator, RunFilter, agent, open_orchestrator
from tests.api.wire import Wire, connect, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

    import pytest

    from api.server import Address
    from orchestrator import Agent

# How a connection ends: in order, or with a reset.
ENDINGS: dict[str, Callable[[Wire], None]] = {
    "close": lambda wire: wire.stream.socket.close(),
    "reset": Wire.reset,
}
# Clients that are there at once.
CROWD = 16
# Whether to hang up after every byte of every answer, which takes about half an hour.
EVERY_BYTE = bool(os.environ.get("QUIESCE_EVERY_BYTE"))


class Lockstep:
    """A server's stream of which the client takes no more than its request says, and hangs up.

    Without it the kernel takes a whole answer at once, however little of it is read, and the server
    never sees that somebody has left in its middle.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._wanted = -1
        self._hung_up = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def receive_some(self, at_most: int | None = None) -> bytes | bytearray:
        """Receive, and take note of how many bytes the client wants, and of its end."""
        data: bytes | bytearray = b""
        try:
            data = await self._stream.receive_some(at_most)
        finally:
            if not data:
                self._hung_up.set()
        if wanted := re.search(rb"\r\nX-Wanted: (\d+)\r\n", data):
            self._wanted = int(wanted[1])
        return data

    async def send_all(self, data: bytes) -> None:
        """Send as much as is wanted, and fail with the rest once the client has gone."""
        if self._wanted < 0:
            await self._stream.send_all(data)
            return
        taken, self._wanted = data[: self._wanted], max(0, self._wanted - len(data))
        await self._stream.send_all(taken)
        if len(taken) < len(data):
            await self._hung_up.wait()
            raise trio.BrokenResourceError


def install_lockstep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection of a server be such a stream."""
    made = Connection.__init__

    def init(self: Connection, *given: Any) -> None:
        made(self, *given)
        self.stream = Lockstep(self.stream)  # type: ignore[assignment]

    monkeypatch.setattr(Connection, "__init__", init)


def wanting(sent: bytes, size: int) -> bytes:
    """Return the request of a client that takes so many bytes of the answer."""
    return sent.replace(b"\r\nHost:", b"\r\nX-Wanted: %d\r\nHost:" % size, 1)


@agent
async def quick(ctx: Context, name: str) -> str:
    """Return the name."""
    return name


@agent
async def slow(ctx: Context, name: str) -> None:
    """Wait, behind a gate."""
    await ctx.checkpoint()
    await trio.sleep_forever()


@asynccontextmanager
async def serving(
    agents: Sequence[Agent] = (quick, slow), dialects: Sequence[str] = ()
) -> AsyncIterator[tuple[Orchestrator, Address]]:
    async with (
        open_orchestrator(agents=agents) as orchestrator,
        open_server(orchestrator, dialects=dialects) as url,
    ):
        with trio.fail_after(3600 if EVERY_BYTE else 60):
            yield orchestrator, ("127.0.0.1", int(url.rpartition(":")[2]))


def request_of(method: str, path: str, body: bytes, *headers: str) -> bytes:
    """Return the bytes of a request to this server."""
    return request(method, path, body, *headers).replace(b"Host: test", b"Host: localhost", 1)


def call(method: str, path: str, body: Any = None, *headers: str) -> bytes:
    """Return the bytes of a call with a JSON body."""
    return request_of(method, path, b"" if body is None else json.dumps(body).encode(), *headers)


def start_of(name: str, *headers: str, path: str = "/runs", agent: str = "quick") -> bytes:
    return call("POST", path, {"agent": agent, "input": {"name": name}}, *headers)


async def hang_up(address: Address, sent: bytes, size: int, ending: str) -> bytes:
    """Send that, hear so many bytes of the answer, if it has as many, and hang up."""
    heard = b""
    async with connect(address) as wire:
        await wire.send(sent)
        while len(heard) < size and not is_whole(heard):
            if not (data := await wire.some(size - len(heard))):
                break
            heard += data
        ENDINGS[ending](wire)
    return heard


def is_whole(answer: bytes) -> bool:
    """Whether there is all of an answer: as much as it says, up to its last chunk, or no body."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found or b" 204 " in head[:14] or b" 304 " in head[:14]:
        return bool(found)
    if b"transfer-encoding: chunked" in head.lower():
        return body.endswith(b"\r\n0\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    return length is not None and len(body) >= int(length[1])


async def in_crowds(sizes: Iterable[int], visit: Callable[[int], Awaitable[object]]) -> None:
    """Visit once for each of the sizes, many at the same time."""
    limit = trio.CapacityLimiter(CROWD)

    async def enter(size: int) -> None:
        async with limit:
            await visit(size)

    async with trio.open_nursery() as nursery:
        for size in sizes:
            nursery.start_soon(enter, size)


async def runs_by_name(orchestrator: Orchestrator) -> dict[str, list[str]]:
    """Return the ids of all runs that are stored, by the name that they were started with."""
    found: dict[str, list[str]] = {}
    after = None
    while True:
        page = await orchestrator.runs(RunFilter(), after=after, limit=500)
        for record in page.runs:
            found.setdefault(record.input["name"], []).append(record.id)
        if (after := page.next) is None:
            return found


async def settled(orchestrator: Orchestrator) -> None:
    """Wait until the server has dealt with all that came, and every run has ended."""
    await trio.testing.wait_all_tasks_blocked(cushion=0.01)
    for run in list(orchestrator.registry):
        await run.wait()
    await trio.testing.wait_all_tasks_blocked(cushion=0.01)

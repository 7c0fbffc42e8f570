"""Clients that hang up in the middle, and a server for them."""

from __future__ import annotations

import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from api.service import open_server
from orchestrator import Context, Orchestrator, RunFilter, agent, open_orchestrator
from tests.api.agents import asker
from tests.api.wire import Wire, connect, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable

    from api.server import Address

# How a connection ends: in order, or with a reset.
ENDINGS: dict[str, Callable[[Wire], None]] = {
    "close": lambda wire: wire.stream.socket.close(),
    "reset": Wire.reset,
}
# Clients that are there at once.
CROWD = 16


@agent
async def quick(ctx: Context, name: str) -> str:
    """Return the name."""
    return name


@agent
async def slow(ctx: Context, name: str) -> None:
    """Wait."""
    await trio.sleep_forever()


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Orchestrator, Address]]:
    async with (
        open_orchestrator(agents=[quick, slow, asker]) as orchestrator,
        open_server(orchestrator) as url,
    ):
        with trio.fail_after(60):
            yield orchestrator, ("127.0.0.1", int(url.rpartition(":")[2]))


def call(method: str, path: str, body: Any = None, *headers: str) -> bytes:
    """Return the bytes of a call with a JSON body."""
    content = b"" if body is None else json.dumps(body).encode()
    return request(method, path, content, *headers).replace(b"Host: test", b"Host: localhost")


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
    """Whether there is all of an answer that says how long it is."""
    head, found, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head)
    return bool(found) and length is not None and len(body) >= int(length[1])


async def in_crowds(sizes: Iterable[int], visit: Callable[[int], Awaitable[None]]) -> None:
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

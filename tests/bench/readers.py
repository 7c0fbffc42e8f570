"""A thousand readers of one run's stream: what they cost in memory, and how late events come.

It fails if any of them that reads misses an event, or gets one out of order.

The server is a process of its own, and its floor a route of the same server library that sends the
same bytes to each of its readers.

python -m tests.bench.readers ours|bare
"""

from __future__ import annotations

import os
import re
import sys
import time
from functools import partial
from math import inf
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import trio
from quart import Response
from quart_trio import QuartTrio

from api.server import serve
from api.service import open_server
from orchestrator import Context, agent, open_orchestrator
from tests.api.wire import connect
from tests.bench.measure import Effort, in_turns
from tests.bench.processes import end_with_parent, open_peer, say
from tests.bench.report import Figure, ratio_at_most

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from api.server import Address
    from tests.api.wire import Wire

READERS = 1_000
# Of which so many never read.
STALLED = 50
EVENTS = 4
# Longer than an event takes to all: the floor drops what comes sooner.
PAUSE_S = 2.0


async def bench_readers(effort: Effort) -> list[Figure]:
    """Have 1,000 readers of one run, 50 of which are stalled, and tell them something."""
    readers = effort.of(READERS, least=20)
    measures = {kind: partial(_measured, kind, readers) for kind in ("bare", "ours")}
    taken = await in_turns(effort.times(3), measures)
    beside = "a bare route that streams"
    return [
        Figure(
            f"{what}, {readers:,} readers of one run",
            unit,
            [each[at] for each in taken["ours"]],
            beside,
            [each[at] for each in taken["bare"]],
            ratio_at_most(2),
        )
        for at, (what, unit) in enumerate((("memory", "KiB a reader"), ("delay", "ms to the last")))
    ]


class Heard:
    """How late events came, of those that were told once all readers were there.

    Attributes:
        since: when that was; ``inf`` until it is.
        late_s: number of the event -> how late it came to each reader.
    """

    def __init__(self, readers: int) -> None:
        self.since = inf
        self.late_s: dict[int, list[float]] = {}
        self._readers = readers

    def note(self, number: int, told_at: float) -> None:
        """Note that a reader has an event."""
        if told_at > self.since:
            self.late_s.setdefault(number, []).append(time.monotonic() - told_at)

    def whole(self) -> list[float]:
        """Return how long each event took to its last reader, of those that came to all."""
        return [max(each) for each in self.late_s.values() if len(each) == self._readers]


async def _measured(kind: str, readers: int) -> tuple[float, float]:
    """Return by how much the server grew, and how long an event took to the last reader."""
    stalled = readers * STALLED // READERS
    async with open_peer("readers", kind) as peer:
        pid, host, port, path = await peer.read()
        async with trio.open_nursery() as nursery:
            heard = Heard(readers - stalled)
            ready = [trio.Event() for _ in range(readers)]
            before = _kib(pid)
            for number, event in enumerate(ready):
                nursery.start_soon(_read, (host, port), path, number < stalled, event, heard)
            for event in ready:
                await event.wait()
            grown = _kib(pid) - before
            heard.since = time.monotonic()
            while len(heard.whole()) < EVENTS:
                await trio.sleep(PAUSE_S)
            nursery.cancel_scope.cancel()
    return max(grown, 1) / readers, median(heard.whole()) * 1e3


async def _read(
    address: Address, path: str, stalled: bool, ready: trio.Event, heard: Heard
) -> None:
    async with connect(address) as wire:
        await wire.send(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        began = await wire.some()
        ready.set()
        if stalled:
            await trio.sleep_forever()
        await _listen(wire, began, heard)


async def _listen(wire: Wire, rest: bytes, heard: Heard) -> None:
    """Note how late each event comes that says when it was told, and that none is left out."""
    latest = 0
    while data := await wire.some():
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if found := re.match(rb"id: (\d+)", line):
                assert int(found[1]) == latest + 1, f"{found[1]!r} comes after {latest}"
                latest += 1
            if found := re.search(rb'"told": ?"(\d+):([\d.]+)"', line):
                heard.note(int(found[1]), float(found[2]))


def _kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1])


def _told(number: int) -> str:
    return f"{number}:{time.monotonic()}"


@agent
async def teller(ctx: Context, wait_s: float = 0) -> None:
    """Say something now and then, for ever."""
    number = 0
    while True:
        await ctx.sleep(PAUSE_S)
        await ctx.emit("bench.tick", {"told": _told(number)})
        number += 1


async def _ours() -> None:
    async with open_orchestrator(agents=[teller]) as orchestrator:
        run = await orchestrator.start("teller")
        async with open_server(orchestrator) as url:
            say([os.getpid(), "127.0.0.1", int(url.rpartition(":")[2]), f"/runs/{run.id}/events"])
            await trio.sleep_forever()


async def _bare() -> None:
    app = QuartTrio("bare", static_folder=None)
    latest, changed = b"", trio.Event()

    @app.get("/")
    async def stream() -> Response:
        async def frames() -> AsyncIterator[bytes]:
            yield b"retry: 1000\n\n"
            while True:
                await changed.wait()
                yield latest

        response = Response(frames(), content_type="text/event-stream")
        response.timeout = None
        return response

    async with trio.open_nursery() as nursery:
        listen = partial(serve, app, host="127.0.0.1", port=0, closing=trio.Event())
        host, port = await nursery.start(listen)
        say([os.getpid(), host, port, "/"])
        number = 0
        while True:
            await trio.sleep(PAUSE_S)
            latest = f'event: bench.tick\ndata: {{"told": "{_told(number)}"}}\n\n'.encode()
            changed.set()
            changed = trio.Event()
            number += 1


async def _main(kind: str) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_with_parent)
        await (_ours if kind == "ours" else _bare)()


if __name__ == "__main__":
    trio.run(_main, sys.argv[1])

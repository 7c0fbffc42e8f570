"""Stops and starts over HTTP, beside a call of the same server process that does nothing."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import trio

from tests.api.wire import connect
from tests.bench.measure import Effort, in_turns
from tests.bench.report import Figure, ratio_at_least
from tests.bench.server import COMMIT, NOTHING, open_server
from tests.bench.stop import READERS
from tests.bench.victim import open_victim

if TYPE_CHECKING:
    from api.server import Address
    from tests.api.wire import Answer, Wire
    from tests.bench.victim import Victim

START = {"agent": "sleeper", "input": {}}
STOP = {"mode": "now", "wait_s": 30}


async def bench_stop_over_http(effort: Effort) -> list[Figure]:
    """Stop a parent with five streaming children by a call that waits for its end."""
    with TemporaryDirectory() as folder:
        async with (
            open_victim() as victim,
            open_server(f"sqlite:///{Path(folder) / 'runs.db'}") as at,
            connect(at.quiesce) as wire,
            connect(at.empty) as empty,
        ):
            taken = await in_turns(
                effort.times(30),
                {"empty": partial(_empty, empty), "stop": partial(_stop, wire, victim)},
            )
    return [
        Figure(
            "POST stop to a terminal status, sqlite",
            "ms",
            taken["stop"],
            "an empty POST",
            taken["empty"],
        )
    ]


async def bench_starts(effort: Effort) -> list[Figure]:
    """Start runs that sleep, over one connection and over eight.

    Over one, each start waits for a commit of its own. What that alone costs shows beside POSTs
    that only commit a row.
    """
    figures = []
    with TemporaryDirectory() as folder:
        async with open_server(f"sqlite:///{Path(folder) / 'runs.db'}") as at:
            for connections in (1, 8):
                requests = effort.of(800, least=2 * connections)
                taken = await in_turns(
                    effort.times(7),
                    {
                        name: partial(_rate, address, path, connections, requests)
                        for name, address, path in (
                            ("POSTs to a bare application", at.bare, NOTHING),
                            ("empty POSTs", at.empty, NOTHING),
                            ("POSTs that commit a row", at.empty, COMMIT),
                            ("starts", at.quiesce, "/runs"),
                        )
                    },
                )
                starts = taken.pop("starts")
                name = f"starts over {connections} connection{'s' * (connections > 1)}, sqlite"
                for beside, floor in taken.items():
                    target = ratio_at_least(0.5) if beside == "empty POSTs" else None
                    figures.append(Figure(name, "1/s", starts, beside, floor, target))
    return figures


async def _post(wire: Wire, path: str, value: Any, expected: int) -> Answer:
    body = json.dumps(value).encode()
    answer = await wire.ask(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    assert answer is not None
    assert answer.status == expected, answer
    return answer


async def _empty(wire: Wire) -> float:
    """Return how long a call takes that does nothing, in milliseconds."""
    began = time.monotonic()
    await _post(wire, NOTHING, STOP, 201)
    return (time.monotonic() - began) * 1e3


async def _stop(wire: Wire, victim: Victim) -> float:
    """Return how long a stop takes until its answer says that all is over, in milliseconds."""
    order = {"agent": "family", "input": {"url": victim.url}}
    run_id = json.loads((await _post(wire, "/runs", order, 201)).body)["id"]
    await victim.streaming(READERS)
    began = time.monotonic()
    answer = await _post(wire, f"/runs/{run_id}/stop", STOP, 200)
    took = time.monotonic() - began
    assert json.loads(answer.body)["run"]["status"] == "stopped"
    await victim.last_close(READERS)
    return took * 1e3


async def _rate(address: Address, path: str, connections: int, requests: int) -> float:
    """Return how many calls a second are answered, keeping the connections alive."""
    share = requests // connections
    began = time.monotonic()
    async with trio.open_nursery() as nursery:
        for _ in range(connections):
            nursery.start_soon(_calls, address, path, share)
    return share * connections / (time.monotonic() - began)


async def _calls(address: Address, path: str, count: int) -> None:
    async with connect(address) as wire:
        for _ in range(count):
            await _post(wire, path, START, 201)

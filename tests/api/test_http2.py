"""HTTP/2: one connection carries many calls and streams, and each ends for itself."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.lowlevel

from api.app import MAX_BODY
from api.service import open_server
from api.tls import Certificate
from orchestrator import Context, Orchestrator, agent
from tests.api.http2 import Connection, connecting
from tests.api.test_tls import issue, trusting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

READERS = 40


@agent
async def loud(ctx: Context, times: int = 30) -> int:
    """Say much."""
    for number in range(times):
        await ctx.emit("number.said", {"number": number, "text": "x" * 20_000})
    return times


@pytest.fixture(params=["h2c", "tls"])
async def peer(
    request: pytest.FixtureRequest, served: Orchestrator, tmp_path: Path
) -> AsyncIterator[Connection]:
    """One connection to a server, in the clear and over TLS."""
    served.agents.add(loud)
    certificate = Certificate(*issue(tmp_path)) if request.param == "tls" else None
    async with (
        open_server(served, certificate=certificate) as url,
        connecting(url, None if certificate is None else trusting()) as connection,
    ):
        with trio.fail_after(60):
            yield connection


def seqs_in(body: bytes) -> list[int]:
    return [int(each) for each in re.findall(rb"^id: (\d+)$", body, re.MULTILINE)]


async def started(peer: Connection, agent: str, **options: Any) -> str:
    answer = await peer.ask("POST /runs", {"agent": agent, "options": options})
    assert answer.status == 201
    run_id: str = answer.json["id"]
    return run_id


async def test_starts_streams_and_stops(peer: Connection) -> None:
    run = await started(peer, "busy")
    stream = await peer.begin(f"GET /runs/{run}/events")
    await stream.until(b"operation.started")
    stopped = await peer.ask(f"POST /runs/{run}/stop", {"mode": "now", "wait_s": 30})
    assert (stopped.status, stopped.json["run"]["status"]) == (200, "stopped")
    body = (await stream.whole()).body
    assert body.rstrip().rpartition(b"event: ")[2].startswith(b"snapshot")
    assert seqs_in(body) == list(range(1, len(seqs_in(body)) + 1))


async def test_bodies_of_any_size(peer: Connection) -> None:
    text = "é" * 300_000
    order = {"agent": "echo", "input": {"text": text}}
    answer = await peer.ask("POST /runs?wait_s=30", order)
    assert (answer.status, answer.json["result"]) == (201, text)
    file = await peer.ask(f"GET /runs/{answer.json['id']}/artifacts/text.txt")
    assert file.body.decode() == text
    assert (await peer.ask("POST /runs", {"agent": 1})).status == 422


async def test_a_body_that_is_too_large_is_refused_and_the_connection_goes_on(
    peer: Connection,
) -> None:
    large = await peer.begin("POST /runs", content_length=str(MAX_BODY + 1), end=False)
    assert (await large.whole()).status == 413
    assert (await peer.ask("GET /healthz")).status == 200


@pytest.mark.slow
async def test_many_streams_on_one_connection(peer: Connection) -> None:
    run = await started(peer, "loud")
    streams = [await peer.begin(f"GET /runs/{run}/events") for _ in range(READERS)]
    bodies = [(await stream.whole()).body for stream in streams]
    seqs = seqs_in(bodies[0])
    assert seqs == list(range(1, len(seqs) + 1))
    assert len(seqs) > 30
    assert {json.dumps(seqs_in(body)) for body in bodies} == {json.dumps(seqs)}


async def test_a_stream_that_does_not_read_holds_up_nobody(peer: Connection) -> None:
    run = await started(peer, "loud")
    stalled = await peer.begin(f"GET /runs/{run}/events", stalled=True)
    await stalled.until(b"id: 2\n")
    reader = await peer.begin(f"GET /runs/{run}/events")
    assert b"run.succeeded" in (await reader.whole()).body
    assert (await peer.ask("GET /healthz")).status == 200
    assert not stalled.over
    assert len(stalled.body) < 2**16


async def test_a_reset_ends_that_reader_alone(
    peer: Connection, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.audience.RECONNECT_S", 0.2)
    run = await started(peer, "sleeper", on_disconnect="stop")
    first, second, third = [await peer.begin(f"GET /runs/{run}/events") for _ in range(3)]
    for stream in (first, second, third):
        await stream.until(b"run.started")
    await peer.reset(first)
    await peer.reset(second)
    # Everything on the connection goes on, and the third is a watcher still.
    assert (await peer.ask(f"GET /runs/{run}")).json["status"] == "running"
    live = served.live(run)
    assert live is not None
    await trio.lowlevel.checkpoint()
    await peer.ask(f"POST /runs/{run}/pause")
    await third.until(b"run.paused")
    assert not first.over
    assert not third.over
    await peer.reset(third)
    await live.ended.wait()
    receipt = (await peer.ask(f"GET /runs/{run}/stop")).json
    assert receipt["source"] == "disconnect"


async def test_a_reset_before_the_whole_body_starts_nothing(peer: Connection) -> None:
    body = json.dumps({"agent": "sleeper"}).encode()
    for size in range(len(body)):
        stream = await peer.begin("POST /runs", body[:size], end=False)
        await peer.reset(stream)
    assert (await peer.ask("GET /runs")).json["runs"] == []

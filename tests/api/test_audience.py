"""Runs that stop when nobody watches them any more, seen from the wire."""

from __future__ import annotations

import json
import socket
import struct
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest
import trio

from api import audience
from api.auth import Access
from api.service import open_server
from orchestrator import Event, Orchestrator, RunOptions, RunStatus, StopSource, open_orchestrator
from orchestrator.store import open_store
from orchestrator.store.writes import AppendEvent, SaveRun
from tests.api.agents import ALL
from tests.api.peer import talking
from tests.api.test_once import Door
from tests.api.wire import settled
from tests.orchestrator.store.samples import make_run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx

    from orchestrator import Run

How = Literal["stream", "wait", "websocket"]
GRACE_S = 0.3


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audience, "RECONNECT_S", GRACE_S)


def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def begin(served: Orchestrator, on_disconnect: str = "stop") -> Run:
    return await served.start("sleeper", options={"on_disconnect": on_disconnect})


async def waiter(url: str, on_disconnect: str = "stop", key: str = "") -> trio.SocketStream:
    """Start a run that the connection waits for."""
    order = {"agent": "sleeper", "options": {"on_disconnect": on_disconnect}}
    body = json.dumps(order).encode()
    tcp = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
    head = (
        f"POST /runs?wait_s=60 HTTP/1.1\r\nHost: localhost\r\n{key}"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    await tcp.send_all(head.encode() + body)
    return tcp


async def reader(url: str, run: Run) -> trio.SocketStream:
    """Read the run's stream up to its first event."""
    tcp = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
    await tcp.send_all(f"GET /runs/{run.id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    said = b""
    while b"run.queued" not in said:
        said += await tcp.receive_some()
    return tcp


@asynccontextmanager
async def watching(url: str, served: Orchestrator, how: How) -> AsyncIterator[tuple[Run, object]]:
    """Yield a run and the connection that watches it."""
    if how == "wait":
        async with await waiter(url) as tcp:
            while not served.registry:
                await trio.sleep(0.001)
            await settled()
            yield next(iter(served.registry)), tcp
    elif how == "stream":
        run = await begin(served)
        async with await reader(url, run) as tcp:
            yield run, tcp
    else:
        run = await begin(served)
        async with talking(url) as peer:
            await peer.ask(subscribe=run.id)
            await peer.receive()
            yield run, peer.stream


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("how", ["stream", "wait", "websocket"])
async def test_a_run_stops_when_its_only_watcher_is_gone(
    url: str, served: Orchestrator, how: How, end: str
) -> None:
    with trio.fail_after(20):
        async with watching(url, served, how) as (run, tcp):
            assert isinstance(tcp, trio.SocketStream)
            began = trio.current_time()
            if end == "rst":
                reset(tcp)
            else:
                await tcp.aclose()
            record = await run.wait()

    assert trio.current_time() - began >= GRACE_S
    assert record.stop is not None
    assert record.stop.source is StopSource.DISCONNECT
    assert record.stop.reason == "nobody has watched it for 0.3 s"


@pytest.mark.parametrize("key", ["", "Idempotency-Key: k\r\n"], ids=["no key", "key"])
async def test_a_caller_that_leaves_before_its_run_is_durable_has_left_it_too(
    url: str, served: Orchestrator, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """Interleaving: the run begins, its caller is gone, and only then it is stored."""
    door = Door(served, monkeypatch)
    door.shut()
    with trio.fail_after(20):
        tcp = await waiter(url, key=key)
        while not served.registry:
            await trio.sleep(0.001)
        await settled()
        await tcp.aclose()
        await settled()
        door.open()
        (run,) = served.registry
        record = await run.wait()
    assert record.stop is not None
    assert record.stop.source is StopSource.DISCONNECT


@pytest.mark.parametrize("times", [1, 3])
async def test_a_reader_that_leaves_before_it_is_answered_has_left_its_run_too(
    url: str, served: Orchestrator, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Interleaving: a stream is asked for, its reader is gone, and only then would it begin."""
    asked, never = trio.Event(), trio.Event()

    async def events(*given: object, **more: object) -> None:
        asked.set()
        await never.wait()

    run = await begin(served)
    monkeypatch.setattr(served, "events", events)
    with trio.fail_after(20):
        for _ in range(times):
            tcp = await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))
            head = f"GET /runs/{run.id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
            await tcp.send_all(head.encode())
            await asked.wait()
            await tcp.aclose()
        record = await run.wait()
    assert record.stop is not None
    assert record.stop.source is StopSource.DISCONNECT


async def test_who_asks_for_the_head_of_a_stream_is_no_reader(
    client: httpx.AsyncClient, served: Orchestrator
) -> None:
    run = await begin(served)
    assert (await client.head(f"/runs/{run.id}/events")).status_code == 200
    await trio.sleep(2 * GRACE_S)
    assert run.ladder.stop is None


async def test_who_comes_back_in_time_calls_the_stop_off(url: str, served: Orchestrator) -> None:
    run = await begin(served)
    with trio.fail_after(20):
        tcp = await reader(url, run)
        for _ in range(3):
            await tcp.aclose()
            await settled()
            tcp = await reader(url, run)
        await trio.sleep(2 * GRACE_S)  # as long as any stop that was left behind would take
        assert run.ladder.stop is None
        await tcp.aclose()
        assert (await run.wait()).stop is not None


async def test_a_run_goes_on_while_anybody_watches(url: str, served: Orchestrator) -> None:
    run = await begin(served)
    with trio.fail_after(20):
        one, two = [await reader(url, run) for _ in range(2)]
        await one.aclose()
        await trio.sleep(2 * GRACE_S)
        assert run.ladder.stop is None
        await two.aclose()
        assert (await run.wait()).stop is not None


@pytest.mark.parametrize("how", ["stream", "wait"])
async def test_other_runs_go_on_without_watchers(url: str, served: Orchestrator, how: How) -> None:
    with trio.fail_after(20):
        if how == "wait":
            tcp = await waiter(url, "continue")
            while not served.registry:
                await trio.sleep(0.001)
            await settled()
        else:
            tcp = await reader(url, await begin(served, "continue"))
        await tcp.aclose()
        await trio.sleep(2 * GRACE_S)
    (run,) = served.registry
    assert run.ladder.stop is None


async def test_who_has_waited_long_enough_is_not_lost(
    client: httpx.AsyncClient, served: Orchestrator
) -> None:
    order = {"agent": "sleeper", "options": {"on_disconnect": "stop"}}
    answer = await client.post("/runs?wait_s=0.05", json=order)
    assert answer.json()["status"] == "running"
    await trio.sleep(2 * GRACE_S)
    (run,) = served.registry
    assert run.ladder.stop is None


@pytest.mark.parametrize("how", ["stream", "websocket"])
async def test_who_is_to_say_anew_who_they_are_has_as_long_to_come_back(
    served: Orchestrator, how: How
) -> None:
    """As when the tokens are read again: every stream ends, and its reader may be no more known."""
    access = Access()
    with trio.fail_after(20):
        async with (
            open_server(served, access=access) as url,
            watching(url, served, how) as (run, _),
        ):
            for changed in access.when_changed:
                changed()
            async with await reader(url, run) as tcp:
                await trio.sleep(2 * GRACE_S)  # as long as any stop that was left would take
                assert run.ladder.stop is None
                for changed in access.when_changed:
                    changed()
                said = b""
                while not said.endswith(b"\r\n0\r\n\r\n"):
                    said += await tcp.receive_some()
            record = await run.wait()
    assert record.stop is not None
    assert record.stop.source is StopSource.DISCONNECT


async def test_who_leaves_after_the_tokens_were_read_again_has_left(served: Orchestrator) -> None:
    access = Access()
    with trio.fail_after(20):
        async with open_server(served, access=access) as url:
            for changed in access.when_changed:
                changed()
            async with watching(url, served, "stream") as (run, tcp):
                assert isinstance(tcp, trio.SocketStream)
                await tcp.aclose()
                record = await run.wait()
    assert record.stop is not None
    assert record.stop.source is StopSource.DISCONNECT


@pytest.mark.parametrize("how", ["stream", "wait", "websocket"])
async def test_a_server_that_closes_stops_no_run(served: Orchestrator, how: How) -> None:
    with trio.fail_after(20):
        async with AsyncExitStack() as later:
            async with open_server(served) as url:
                run, _ = await later.enter_async_context(watching(url, served, how))
            await trio.sleep(2 * GRACE_S)  # as long as any stop that was left behind would take
            assert run.ladder.stop is None


@pytest.mark.parametrize("back", [True, False])
async def test_a_run_that_starts_again_has_lost_its_watchers_in_the_crash(
    tmp_path: Path, *, back: bool
) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    options = RunOptions(on_crash="restart", on_disconnect="stop")
    left = replace(
        make_run("run_left", RunStatus.RUNNING, input={}), agent="sleeper", options=options
    )
    async with open_store(url) as store:
        queued = Event(1, left.id, left.id, "run.queued", left.created_at, {"parent_id": None})
        await store.write([SaveRun(left), AppendEvent(queued)])
    with trio.fail_after(20):
        async with open_orchestrator(url, agents=ALL) as served, open_server(served) as base:
            run = served.live("run_left")
            assert run is not None
            if back:
                async with await reader(base, run):
                    await trio.sleep(2 * GRACE_S)  # as long as any stop would take
                    assert run.ladder.stop is None
            else:
                record = await run.wait()
                assert record.stop is not None
                assert record.stop.source is StopSource.DISCONNECT

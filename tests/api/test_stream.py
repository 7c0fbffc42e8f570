"""Feeds over server-sent events, on a real socket."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio

from api import stream
from api.service import open_server
from orchestrator import Context, Orchestrator, agent
from tests.api.reading import reading
from tests.api.wire import connect, request

if TYPE_CHECKING:
    import httpx


async def test_a_feed_is_live_gapless_and_ends_with_the_run(url: str, served: Orchestrator) -> None:
    run = await served.start("family", {"children": 2})

    with trio.fail_after(10):
        async with reading(url, f"/runs/{run.id}/events") as reader:
            first = [await reader.event() for _ in range(6)]
            run.request_stop(reason="seen enough")
            events = [event for event in first if event] + await reader.rest()

    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {event["root_id"] for event in events} == {run.id}
    assert events[-1]["type"] == "run.stopped"
    assert events[-1]["run_id"] == run.id
    assert events[-1]["data"]["receipt"]["reason"] == "seen enough"
    ended = [event["run_id"] for event in events if event["type"] == "run.stopped"]
    assert len(ended) == 3


async def test_a_reader_that_comes_back_misses_nothing_and_sees_nothing_twice(
    url: str, served: Orchestrator
) -> None:
    @agent
    async def counter(ctx: Context) -> None:
        for n in range(40):
            await ctx.emit("test.count", {"n": n})
        await ctx.sleep(1000)

    run = await served.start(counter)
    path = f"/runs/{run.id}/events"
    seen: list[int] = []

    with trio.fail_after(10):
        while len(seen) < 42:
            last = {"Last-Event-Id": str(seen[-1])} if seen else {}
            async with reading(url, path, **last) as reader:
                for _ in range(5):
                    event = await reader.event()
                    assert event is not None
                    seen.append(event["seq"])
                    if len(seen) == 42:
                        break
        await run.stop()
        async with reading(url, f"{path}?after=42") as reader:
            rest = await reader.rest()

    assert seen == list(range(1, 43))
    assert [event["type"] for event in rest] == ["run.stopping", "run.stopped"]


async def test_who_has_seen_no_event_hears_all(url: str, served: Orchestrator) -> None:
    run = await served.start("echo", {"text": "x"})
    await run.wait()
    with trio.fail_after(10):
        async with reading(url, f"/runs/{run.id}/events", Last_Event_ID="") as reader:
            events = await reader.rest()
        async with reading(url, "/events", Last_Event_ID="") as everything:
            await everything.reset()
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6]


async def test_the_feed_of_a_child_holds_the_child_alone(url: str, served: Orchestrator) -> None:
    run = await served.start("family", {"children": 2})
    with trio.fail_after(10):
        while not run.children:
            await trio.lowlevel.checkpoint()
        child = next(iter(run.children))
        await run.stop()
        async with reading(url, f"/runs/{child.id}/events") as reader:
            events = await reader.rest()

    assert {event["run_id"] for event in events} == {child.id}
    assert [event["type"] for event in events] == [
        "run.queued",
        "run.started",
        "run.stopping",
        "run.stopped",
    ]


async def test_a_page_of_events_as_json(client: httpx.AsyncClient, served: Orchestrator) -> None:
    run = await served.start("echo", {"text": "x"})
    await run.wait()
    accept = {"Accept": "application/json"}

    one = (await client.get(f"/runs/{run.id}/events?limit=2", headers=accept)).json()
    two = (await client.get(f"/runs/{run.id}/events?after={one['next']}", headers=accept)).json()

    assert [event["seq"] for event in one["events"]] == [1, 2]
    assert [event["type"] for event in two["events"]] == [
        "run.progress",
        "run.partial",
        "run.artifact",
        "run.succeeded",
    ]
    assert two["next"] is None


async def test_silence_is_filled_with_comments(
    url: str, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.02)
    run = await served.start("sleeper")

    with trio.fail_after(10):
        async with reading(url, f"/runs/{run.id}/events") as reader:
            frames = [await reader.frame() for _ in range(6)]

    assert frames[-2:] == [": keep-alive", ": keep-alive"]


async def test_streams_end_before_the_server_and_runs_go_on(served: Orchestrator) -> None:
    run = await served.start("sleeper")
    with trio.fail_after(5):
        async with AsyncExitStack() as later:
            async with open_server(served) as url:
                path = f"/runs/{run.id}/events"
                reader = await later.enter_async_context(reading(url, path))
            events = await reader.rest()

    assert [event["type"] for event in events] == ["run.queued", "run.started"]
    assert reader.snapshot is None
    assert run.status == "running"


async def test_a_reader_that_leaves_is_forgotten(
    url: str, client: httpx.AsyncClient, served: Orchestrator
) -> None:
    run = await served.start("sleeper")
    with trio.fail_after(5):
        for _ in range(20):
            async with reading(url, f"/runs/{run.id}/events") as reader:
                await reader.event()
        await run.stop()
        assert (await client.get("/healthz")).status_code == 200


async def test_a_late_reader_has_the_whole_run_from_one_request(
    url: str, client: httpx.AsyncClient, served: Orchestrator
) -> None:
    run = await served.start("echo", {"text": "hello"})
    await run.wait()
    whole = (await client.get(f"/runs/{run.id}")).json()
    assert (whole["status"], whole["result"], whole["partial"]) == (
        "succeeded",
        "hello",
        {"text": "h"},
    )

    for after in (0, 3, 6, 1000):
        with trio.fail_after(5):
            async with reading(url, f"/runs/{run.id}/events?after={after}") as reader:
                events = await reader.rest()
        assert [event["seq"] for event in events] == list(range(after + 1, 7))
        assert reader.snapshot == whole


async def test_the_snapshot_comes_once_live_and_has_the_receipt(
    url: str, served: Orchestrator
) -> None:
    run = await served.start("family", {"children": 2})
    with trio.fail_after(5):
        while len(run.children) < 2:
            await trio.lowlevel.checkpoint()
        child = next(iter(run.children))
        async with (
            reading(url, f"/runs/{run.id}/events") as reader,
            reading(url, f"/runs/{child.id}/events") as of_child,
        ):
            await reader.event()
            run.request_stop(reason="enough")
            await reader.rest()
            await of_child.rest()

    assert reader.snapshot is not None
    assert (reader.snapshot["id"], reader.snapshot["status"]) == (run.id, "stopped")
    assert reader.snapshot["stop"]["reason"] == "enough"
    assert of_child.snapshot is not None
    assert (of_child.snapshot["id"], of_child.snapshot["stop"]["source"]) == (child.id, "parent")


@pytest.mark.parametrize("path", ["/runs/{id}/events", "/events"])
async def test_the_head_of_a_stream_is_all_of_it(url: str, served: Orchestrator, path: str) -> None:
    run = await served.start("sleeper")
    with trio.fail_after(10):
        async with connect(("127.0.0.1", int(url.rpartition(":")[2]))) as wire:
            head = request("HEAD", path.format(id=run.id)).replace(b"test", b"localhost")
            await wire.send(head)
            said = b""
            while b"\r\n\r\n" not in said:
                said += await wire.some()
            after = await wire.ask(head.replace(b"HEAD", b"GET").replace(b"/events", b"/no"))
    assert b"\r\ncontent-type: text/event-stream\r\n" in said
    assert said.endswith(b"\r\n\r\n")
    assert after is not None
    assert after.status == 404

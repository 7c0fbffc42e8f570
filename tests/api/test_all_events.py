"""The feed of all runs over server-sent events, on a real socket."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio

from api import stream
from api.service import open_server
from orchestrator import Context, Orchestrator, agent, broadcast
from tests.api.reading import reading

if TYPE_CHECKING:
    import httpx

    from tests.api.reading import Reader


async def test_a_new_reader_is_told_its_place_and_then_hears_every_run(
    url: str, served: Orchestrator
) -> None:
    before = await served.start("echo", {"text": "x"})
    await before.wait()
    with trio.fail_after(10):
        async with reading(url, "/events") as reader:
            await reader.reset()
            runs = [await served.start("echo", {"text": str(n)}) for n in range(3)]
            heard = [await reader.notice() for _ in range(3 * 6)]

    for run in runs:
        told = [event for _, event in heard if event["run_id"] == run.id]
        assert [event["seq"] for event in told] == [1, 2, 3, 4, 5, 6]
        assert told[-1]["type"] == "run.succeeded"
    assert len({position for position, _ in heard}) == len(heard)


async def test_a_reader_that_comes_back_misses_nothing_and_hears_nothing_twice(
    url: str, served: Orchestrator
) -> None:
    @agent
    async def counter(ctx: Context) -> None:
        for n in range(40):
            await ctx.emit("test.count", {"n": n})

    seen: list[tuple[str, int]] = []
    with trio.fail_after(20):
        async with reading(url, "/events") as reader:
            position = await reader.reset()
        runs = [await served.start(counter) for _ in range(5)]
        for how in ("header", "query") * 8:
            path = f"/events?after={position}" if how == "query" else "/events"
            headers = {"Last_Event_ID": position} if how == "header" else {}
            async with reading(url, path, **headers) as reader:
                for _ in range(11):
                    position, event = await reader.notice()
                    seen.append((event["run_id"], event["seq"]))

    for run in runs:
        mine = [seq for run_id, seq in seen if run_id == run.id]
        assert mine == list(range(1, len(mine) + 1))
    assert len(seen) == 16 * 11


async def test_a_place_that_is_not_kept_any_more_is_told_to_be_lost(
    url: str, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "KEPT", 10)
    with trio.fail_after(10):
        async with reading(url, "/events") as reader:
            old = await reader.reset()
        for _ in range(3):
            await (await served.start("echo", {"text": "x"})).wait()
        async with reading(url, "/events", Last_Event_ID=old) as reader:
            new = await reader.reset()
            run = await served.start("sleeper")
            position, event = await reader.notice()

    assert new != old
    assert position not in (old, new)
    assert (event["run_id"], event["seq"]) == (run.id, 1)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("types=run.queued,run.stopped", ["run.queued"] * 4 + ["run.stopped"] * 4),
        ("agent=family&types=run.*", ["run.queued", "run.started", "run.stopping", "run.stopped"]),
        ("agent=sleeper&types=run.started", ["run.started"] * 3),
        ("types=operation.*", []),
        ("types=llm.*,llm.delta", []),
        ("types=run.queued,order.*", ["run.queued"] * 4),
        ("root=nobody", []),
    ],
)
async def test_a_reader_hears_what_it_asks_for_and_nothing_else(
    url: str,
    served: Orchestrator,
    query: str,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.02)
    with trio.fail_after(10):
        async with reading(url, f"/events?{query}") as reader:
            await reader.reset()
            await stop_a_family(served)
            await (run := await served.start("sleeper")).stop()
            heard = await all_up_to_now(reader, served)

    assert sorted(event["type"] for event in heard) == sorted(expected)
    assert run.id in {event["run_id"] for event in heard} or "sleeper" not in query


async def test_a_reader_of_one_tree_hears_nothing_of_others(
    url: str, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.02)
    with trio.fail_after(10):
        mine, other = [await served.start("family") for _ in range(2)]
        async with reading(url, f"/events?root={mine.id}&types=run.stopped") as reader:
            await reader.reset()
            await mine.stop()
            await other.stop()
            heard = await all_up_to_now(reader, served)

    assert {event["root_id"] for event in heard} == {mine.id}
    assert heard[-1]["run_id"] == mine.id


async def stop_a_family(orchestrator: Orchestrator) -> None:
    """Run and stop a parent with two children."""
    run = await orchestrator.start("family", {"children": 2})
    while len(run.children) < 2 or any(child.status != "running" for child in run.children):
        await trio.lowlevel.checkpoint()
    await run.stop()


async def all_up_to_now(reader: Reader, orchestrator: Orchestrator) -> list[dict[str, Any]]:
    """Return what the reader hears until it is told that it has heard everything."""
    now = orchestrator.broadcast.position(orchestrator.broadcast.count)
    heard = []
    while (frame := await reader.frame()) != f": keep-alive\nid: {now}":
        assert frame is not None
        _, _, data = frame.partition("\ndata: ")
        if data:
            heard.append(json.loads(data))
    return heard


async def test_a_reader_of_few_events_keeps_its_place(
    url: str, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.02)
    with trio.fail_after(10):
        async with reading(url, "/events?types=test.nothing") as reader:
            first = await reader.reset()
            await (await served.start("echo", {"text": "x"})).wait()
            places: set[str] = set()
            while len(places - {first}) < 1:
                frame = await reader.frame()
                assert frame is not None
                comment, _, place = frame.partition("\nid: ")
                assert comment == ": keep-alive"
                places.add(place)


@pytest.mark.parametrize(
    ("path", "headers", "field"),
    [
        ("/events?after=yesterday", {}, "after"),
        ("/events", {"Last-Event-ID": "12"}, "after"),
        ("/events?status=running", {}, "status"),
    ],
)
async def test_bad_questions_name_the_field(
    client: httpx.AsyncClient, path: str, headers: dict[str, str], field: str
) -> None:
    answer = await client.get(path, headers=headers)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("types", "said"),
    [
        (
            "run.stoped",
            "'run.stoped' is not known (is 'run.stopped' meant?); known are: llm.*, llm.delta,",
        ),
        ("run.queued, run.stopped", "' run.stopped' is not known (is 'run.stopped' meant?)"),
        ("runs.*,run", "'run' is not known (is 'run.*' meant?)"),
        ("operation.*,step.begun", "'step.begun' is not known"),
        ("llm.deltas", "(is 'llm.delta' meant?)"),
        ("order", "an agent's own are like order.paid"),
        ("*", "'*' is not known"),
        ("", "'' is not known"),
    ],
)
async def test_types_that_no_event_can_have_are_refused(
    client: httpx.AsyncClient, types: str, said: str
) -> None:
    answer = await client.get("/events", params={"types": types})
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == "types"
    assert said in error["message"]


async def test_streams_of_all_runs_end_before_the_server(served: Orchestrator) -> None:
    run = await served.start("sleeper")
    with trio.fail_after(5):
        async with AsyncExitStack() as later:
            async with open_server(served) as url:
                readers = [
                    await later.enter_async_context(reading(url, path))
                    for path in ("/events", "/events?types=test.nothing")
                ]
                for reader in readers:
                    await reader.reset()
                began = trio.current_time()
            for reader in readers:
                assert await reader.fields() is None
            assert trio.current_time() - began < 1
    assert run.status == "running"

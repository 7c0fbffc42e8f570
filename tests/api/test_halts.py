"""Halts and the refusals of a queue, over a real socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from api.service import open_server
from orchestrator import Orchestrator, StoreUnavailable, open_orchestrator
from tests.api.agents import ALL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def served() -> AsyncIterator[Orchestrator]:
    async with open_orchestrator(agents=ALL, max_running=2, max_queued=2) as opened:
        yield opened


@pytest.fixture
async def client(served: Orchestrator) -> AsyncIterator[httpx.AsyncClient]:
    with trio.fail_after(30):
        async with open_server(served) as url, httpx.AsyncClient(base_url=url) as made:
            yield made


async def start(client: httpx.AsyncClient, agent: str = "sleeper", **options: Any) -> Any:
    answer = await client.post("/runs", json={"agent": agent, "options": options})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_a_halt_stops_what_runs_and_what_waits(client: httpx.AsyncClient) -> None:
    runs = [await start(client, "family"), await start(client), await start(client)]
    runs.append(await start(client, start_after_s=60))
    with trio.fail_after(5):
        while len((await client.get(f"/runs/{runs[0]['id']}/tree")).json()["children"]) < 2:
            pass

    answer = await client.post("/halt", json={"reason": "fire", "wait_s": 10})

    assert answer.status_code == 200
    told = answer.json()
    assert told["halt"]["reason"] == "fire"
    assert told["halt"]["requested_by"] == "anonymous"
    assert told["runs_stopped"] == 6
    assert {each["run_id"] for each in told["results"]} == {run["id"] for run in runs}
    for each in told["results"]:
        assert each["status_code"] == 200
        assert each["run"]["status"] == "stopped"
        assert each["receipt"]["source"] == "halt"
        assert each["receipt"]["reason"] == "fire"


async def test_starts_are_refused_until_the_halt_is_lifted(client: httpx.AsyncClient) -> None:
    assert (await client.get("/halt")).json() == {"halt": None, "live": 0}
    empty = await client.post("/halt")
    assert (empty.status_code, empty.json()["results"]) == (200, [])
    assert (await client.get("/halt")).json()["halt"] == empty.json()["halt"]

    refused = await client.post("/runs", json={"agent": "sleeper"})

    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    assert refused.json()["type"] == "urn:quiesce:halted"
    for _ in range(2):
        lifted = await client.delete("/halt")
        assert (lifted.status_code, lifted.content) == (204, b"")
    assert (await client.get("/halt")).json()["halt"] is None
    await start(client)


async def test_a_halted_server_is_ready_and_says_that_it_is_halted(
    client: httpx.AsyncClient,
) -> None:
    await client.post("/halt")
    answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["status"]) == (200, "ready")
    (warning,) = answer.json()["warnings"]
    assert warning.startswith("halted since 2")
    assert (await client.get("/healthz")).status_code == 200


async def test_a_halt_answers_before_the_runs_have_ended_and_can_be_tightened(
    client: httpx.AsyncClient,
) -> None:
    run = await start(client, "busy")

    first = await client.post("/halt", json={"grace_s": 60, "reason": "first"})
    second = await client.post("/halt", json={"mode": "now", "wait_s": 10, "reason": "second"})

    assert first.status_code == 202
    assert first.json()["results"][0]["status_code"] == 202
    assert first.json()["results"][0]["receipt"]["outcome"] == "stopping"
    assert second.status_code == 200
    assert second.json()["halt"]["reason"] == "first"
    (result,) = second.json()["results"]
    assert (result["run_id"], result["receipt"]["reached"]) == (run["id"], "now")


async def test_a_halt_that_is_not_durable_yet_says_so(
    client: httpx.AsyncClient, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await start(client)

    async def full(*batch: object) -> None:
        raise StoreUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(served.store, "write", full)
        answer = await client.post("/halt")
        live = served.live(run["id"])
        assert live is not None
        assert live.record.stop is not None or live.record.status.is_terminal
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:quiesce:halt-not-durable"
    await live.wait()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"mode": "gently"}, "mode"),
        ({"grace_s": -1}, "grace_s"),
        ({"grace_s": "5"}, "grace_s"),
        ({"wait_s": -1}, "wait_s"),
        ({"because": "x"}, "because"),
        ([], "body"),
    ],
)
async def test_a_bad_halt_halts_nothing(client: httpx.AsyncClient, body: Any, field: str) -> None:
    answer = await client.post("/halt", content=json.dumps(body))
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert (await client.get("/halt")).json()["halt"] is None


# What the queue says over HTTP


async def test_a_full_queue_is_a_429(client: httpx.AsyncClient) -> None:
    runs = [await start(client) for _ in range(4)]
    assert [run["status"] for run in runs][2:] == ["queued", "queued"]

    answer = await client.post("/runs", json={"agent": "sleeper"})

    assert answer.status_code == 429
    assert answer.headers["Retry-After"] == "5"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:quiesce:queue-full"
    stopped = await client.post(f"/runs/{runs[3]['id']}/stop")
    assert stopped.json()["receipt"]["previous_status"] == "queued"
    await start(client)


async def test_a_conflict_is_a_409_that_names_the_run(client: httpx.AsyncClient) -> None:
    run = await start(client, key="k")

    order = {"agent": "sleeper", "options": {"key": "k", "on_conflict": "reject"}}
    answer = await client.post("/runs", json=order)

    assert answer.status_code == 409
    told = answer.json()
    assert (told["type"], told["run_id"], told["key"]) == (
        "urn:quiesce:key-conflict",
        run["id"],
        "k",
    )
    assert told["run_status"] in ("queued", "running")


async def test_no_conflict_is_told_with_a_run_that_is_not_durable(
    client: httpx.AsyncClient, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interleaving: the start of the run in the way is not stored, and cannot be at present."""

    async def full(*batch: object) -> None:
        raise StoreUnavailable("the disk is full")

    order = {"agent": "sleeper", "options": {"key": "k", "on_conflict": "reject"}}
    with monkeypatch.context() as patch:
        patch.setattr(served.store, "write", full)
        options = {"key": "k", "start_after_s": 60}
        rival = served.admit("sleeper", options=options, owner="anonymous")
        answer = await client.post("/runs", json=order)
        assert rival.shown is None
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:quiesce:store-unavailable"
    assert rival.id not in answer.text
    with trio.fail_after(10):
        while rival.shown is None:
            await trio.sleep(0.02)
    assert (await client.post("/runs", json=order)).status_code == 409


async def test_a_replacement_is_accepted_and_waits(client: httpx.AsyncClient) -> None:
    old = await start(client, "busy", key="k", grace_s=0.2)
    new = await start(client, key="k", on_conflict="stop_previous")
    assert new["status"] == "queued"
    assert new["available_actions"] == ["stop"]
    ended = (await client.get(f"/runs/{old['id']}", params={"wait_s": 10})).json()
    assert ended["stop"]["source"] == "superseded"


@pytest.mark.parametrize("call", ["pause", "resume", "step"])
async def test_a_run_that_waits_cannot_be_paused(client: httpx.AsyncClient, call: str) -> None:
    run = await start(client, start_after_s=60)
    answer = await client.post(f"/runs/{run['id']}/{call}")
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:quiesce:illegal-transition"
    assert answer.json()["run_status"] == "queued"


async def test_a_run_that_does_not_start_in_time_shows_timed_out(
    client: httpx.AsyncClient,
) -> None:
    for _ in range(2):
        await start(client)
    late = await start(client, start_by_s=0.1)
    ended = (await client.get(f"/runs/{late['id']}", params={"wait_s": 10})).json()
    assert ended["status"] == "timed_out"
    assert ended["started_at"] is None
    assert ended["stop"]["source"] == "deadline"

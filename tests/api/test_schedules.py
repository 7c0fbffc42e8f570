"""Schedules over a real socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from api.service import open_server
from orchestrator import Orchestrator, open_orchestrator
from tests.api.agents import ALL
from tests.api.auth.people import Asking, access

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OFTEN = {"agent": "echo", "input": {"text": "x"}, "cron": "* * * * * *", "id": "often"}
RARELY = {"agent": "sleeper", "cron": "0 0 1 1 *", "id": "rarely"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    with trio.fail_after(30):
        async with (
            open_orchestrator(agents=ALL) as orchestrator,
            open_server(orchestrator) as url,
            httpx.AsyncClient(base_url=url) as made,
        ):
            yield made


async def test_a_schedule_is_made_shown_and_fires(client: httpx.AsyncClient) -> None:
    answer = await client.post("/schedules", json=OFTEN)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == "/schedules/often"
    made = answer.json()
    assert (made["zone"], made["missed"], made["overlap"]) == ("UTC", "skip", "skip")
    assert "dealt_until" not in made

    while (shown := (await client.get("/schedules/often")).json())["last_run_id"] is None:
        await trio.sleep(0.02)

    (listed,) = (await client.get("/schedules")).json()["schedules"]
    assert list(listed) == list(shown) == list(made)
    run = (await client.get(f"/runs/{shown['last_run_id']}", params={"wait_s": 5})).json()
    assert (run["result"], run["tags"]) == ("x", ["schedule:often"])
    found = (await client.get("/runs", params={"tag": "schedule:often"})).json()["runs"]
    assert run["id"] in [each["id"] for each in found]


async def test_a_schedule_is_paused_resumed_and_deleted(client: httpx.AsyncClient) -> None:
    await client.post("/schedules", json=RARELY)
    for _ in range(2):
        paused = await client.post("/schedules/rarely/pause")
        assert (paused.status_code, paused.json()["paused"]) == (200, True)
        assert paused.json()["next_at"] is None
    for _ in range(2):
        resumed = await client.post("/schedules/rarely/resume")
        assert (resumed.status_code, resumed.json()["paused"]) == (200, False)
        assert resumed.json()["next_at"].endswith("-01-01T00:00:00.000Z")
    gone = await client.delete("/schedules/rarely")
    assert (gone.status_code, gone.content) == (204, b"")
    assert (await client.get("/schedules")).json() == {"schedules": []}
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/pause"),
        ("POST", "/resume"),
    ):
        answer = await client.request(method, f"/schedules/rarely{path}")
        assert answer.status_code == 404
        assert answer.json()["type"] == "urn:quiesce:unknown-schedule"


async def test_an_id_that_is_taken_is_a_409(client: httpx.AsyncClient) -> None:
    await client.post("/schedules", json=RARELY)
    answer = await client.post("/schedules", json=RARELY | {"cron": "0 0 2 1 *"})
    assert answer.status_code == 409
    assert answer.json()["type"] == "urn:quiesce:schedule-exists"
    (kept,) = (await client.get("/schedules")).json()["schedules"]
    assert kept["cron"] == RARELY["cron"]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"agent": "nobody"}, "agent"),
        ({"cron": "* * *"}, "cron"),
        ({"cron": 5}, "cron"),
        ({"zone": "Mars/Base"}, "zone"),
        ({"missed": "all"}, "missed"),
        ({"overlap": "reject"}, "overlap"),
        ({"id": "a b"}, "id"),
        ({"id": ""}, "id"),
        ({"input": {"seconds": "x"}}, "input.seconds"),
        ({"input": []}, "input"),
        ({"options": {"on_conflict": "allow"}}, "options.on_conflict"),
        ({"options": {"start_by_s": 0}}, "options.start_by_s"),
        ({"every": 5}, "every"),
    ],
)
async def test_a_bad_schedule_is_a_422_that_names_the_field(
    client: httpx.AsyncClient, wrong: dict[str, Any], field: str
) -> None:
    answer = await client.post("/schedules", content=json.dumps(RARELY | wrong))
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert (await client.get("/schedules")).json() == {"schedules": []}


# Whose it is


async def test_others_may_look_at_most(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_orchestrator(agents=ALL) as orchestrator:
        asking = Asking(orchestrator, access())
        made = await asking.ask("POST /schedules", "owner", body=RARELY)
        assert made.status_code == 201
        assert orchestrator.schedules.get("rarely").owner == "olga"
        found = {
            name: (await asking.ask("POST /schedules/rarely/pause", name)).status_code
            for name in ("viewer", "other", "owner", "admin")
        }
        assert found == {"viewer": 403, "other": 403, "owner": 200, "admin": 200}
        assert (await asking.ask("DELETE /schedules/rarely", "other")).status_code == 403
        await _check_audit(orchestrator)
        assert (await asking.ask("DELETE /schedules/rarely", "admin")).status_code == 204


async def _check_audit(orchestrator: Orchestrator) -> None:
    kept = await orchestrator.kept("audit", limit=100)
    told = [(entry["action"], entry["principal"], entry["result"]) for _, entry in kept]
    assert ("schedule", "olga", "ok") in told
    assert ("unschedule", "otto", "forbidden") in told

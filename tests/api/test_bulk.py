"""Stops of many runs at once, over a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from api.service import open_server
from orchestrator import Orchestrator, StoreUnavailable, open_orchestrator
from orchestrator.ladder import Ladder
from orchestrator.store.writes import SaveRun
from tests.api.agents import ALL
from tests.api.auth.people import access, token_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator import Run
    from orchestrator.model import StopRequest


async def running(orchestrator: Orchestrator, agent: str, count: int = 1, **more: Any) -> list[Run]:
    """Start so many runs, and return them once they are running."""
    runs = [await orchestrator.start(agent, **more) for _ in range(count)]
    with trio.fail_after(10):
        while any(run.status != "running" for run in runs):
            await trio.lowlevel.checkpoint()
    return runs


async def family(orchestrator: Orchestrator) -> list[Run]:
    """Return a running parent and its two children."""
    (parent,) = await running(orchestrator, "family")
    with trio.fail_after(10):
        while [child.status for child in parent.children] != ["running"] * 2:
            await trio.lowlevel.checkpoint()
    return [parent, *parent.children]


async def stop(client: httpx.AsyncClient, **order: Any) -> dict[str, dict[str, Any]]:
    """Stop runs, and return the results by their ids, in order."""
    answer = await client.post("/runs/stop", json=order, timeout=30)
    assert answer.status_code == 202, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    for each in results:
        assert set(each) == {"run_id", "status_code", "run"} | (
            {"receipt"} if each["status_code"] < 300 else {"problem"}
        )
    return {each["run_id"]: each for each in results}


async def test_each_id_has_its_own_result(client: httpx.AsyncClient, served: Orchestrator) -> None:
    (asked,) = await running(served, "sleeper")
    (other,) = await running(served, "sleeper")
    over = await served.start("echo", {"text": "x"})
    await over.wait()
    (stopped,) = await running(served, "sleeper")
    await stopped.stop(reason="before")

    ids = [over.id, asked.id, "run_nobody", stopped.id, asked.id]
    results = await stop(client, ids=ids, reason="enough", wait_s=5)

    assert list(results) == [over.id, asked.id, "run_nobody", stopped.id]
    assert [each["status_code"] for each in results.values()] == [409, 200, 404, 200]
    assert results[over.id]["problem"]["type"] == "urn:quiesce:run-ended"
    assert results[over.id]["run"]["status"] == "succeeded"
    assert results[asked.id]["run"]["status"] == "stopped"
    assert results[asked.id]["receipt"]["reason"] == "enough"
    assert results[asked.id]["receipt"]["also"] == []
    assert results[asked.id]["receipt"] == results[asked.id]["run"]["stop"]
    assert results["run_nobody"]["run"] is None
    assert results["run_nobody"]["problem"]["status"] == 404
    assert results[stopped.id]["receipt"]["reason"] == "before"
    assert other.status == "running"


async def test_all_are_asked_in_one_step_and_answered_once_that_is_durable(
    client: httpx.AsyncClient, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = await running(served, "busy", 20)
    turns, asked_in, durable_in = 0, list[int](), list[int]()
    request, write = Ladder.request, served.store.write

    def note_request(ladder: Ladder, stop_request: StopRequest) -> None:
        asked_in.append(turns)
        request(ladder, stop_request)

    async def note_write(batch: Sequence[Any], *told: Any) -> None:
        if any(isinstance(each, SaveRun) for each in batch):
            durable_in.append(len(batch))
        await write(batch, *told)

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Ladder, "request", note_request)
    monkeypatch.setattr(served.store, "write", note_write)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        results = await stop(client, filter={"agent": "busy"}, grace_s=1000)
        nursery.cancel_scope.cancel()

    assert list(results) == [run.id for run in runs]
    assert len(asked_in) == 20
    assert len(set(asked_in)) == 1
    assert len(durable_in) == 1
    assert {each["status_code"] for each in results.values()} == {202}
    assert {each["run"]["status"] for each in results.values()} == {"stopping"}
    results = await stop(client, ids=[run.id for run in runs], mode="now", wait_s=10)
    assert {each["status_code"] for each in results.values()} == {200}
    assert {each["run"]["status"] for each in results.values()} == {"stopped"}
    assert {len(each["receipt"]["also"]) for each in results.values()} == {1}


@pytest.mark.parametrize(
    ("where", "hit"),
    [
        ({"agent": "sleeper"}, ["tagged", "plain"]),
        ({"tag": "red"}, ["tagged", "asker"]),
        ({"tag": "red", "agent": "sleeper"}, ["tagged"]),
        ({"status": "paused"}, ["paused"]),
        ({"status": "paused,running", "agent": "asker"}, ["asker", "paused"]),
        ({"root": "{parent}"}, ["parent", "one", "two"]),
        ({"parent": "{parent}"}, ["one", "two"]),
        ({"parent": "none", "agent": "family"}, ["parent"]),
        ({"owner": "ann"}, ["plain"]),
        ({"status": "succeeded,stopped"}, []),
        ({"agent": "nobody"}, []),
    ],
)
async def test_a_filter_is_that_of_the_list_and_matches_live_runs(
    where: dict[str, str], hit: list[str]
) -> None:
    with trio.fail_after(30):
        async with (
            open_orchestrator(agents=ALL) as served,
            open_server(served) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            parent, one, two = await family(served)
            (tagged,) = await running(served, "sleeper", tags=["red"])
            (plain,) = await running(served, "sleeper", owner="ann")
            (asker,) = await running(served, "asker", tags=["red"])
            (paused,) = await running(served, "asker")
            paused.request_pause()
            with trio.fail_after(5):
                while paused.status != "paused":
                    await trio.lowlevel.checkpoint()
            over = await served.start("echo", {"text": "x"}, tags=["red"])
            await over.wait()
            named = {
                "parent": parent, "one": one, "two": two, "tagged": tagged,
                "plain": plain, "asker": asker, "paused": paused,
            }  # fmt: skip

            where = {key: value.format(parent=parent.id) for key, value in where.items()}
            if where == {"agent": "sleeper"}:
                hit = ["one", "two", *hit]
            results = await stop(client, filter=where, wait_s=10)

            assert {named[name].id for name in hit} == set(results)
            assert {each["status_code"] for each in results.values()} <= {200}
            for name, run in named.items():
                below = name in ("one", "two") and "parent" in hit
                assert (run.record.stop is not None) == (name in hit or below), name


async def test_what_is_below_another_one_is_stopped_by_that(
    client: httpx.AsyncClient, served: Orchestrator
) -> None:
    parent, one, two = await family(served)

    results = await stop(client, ids=[one.id, parent.id, two.id], reason="all", wait_s=5)

    assert list(results) == [one.id, parent.id, two.id]
    assert {each["status_code"] for each in results.values()} == {200}
    assert results[parent.id]["receipt"]["source"] == "user"
    assert results[parent.id]["receipt"]["runs_stopped"] == 3
    for child in (one, two):
        receipt = results[child.id]["receipt"]
        assert (receipt["source"], receipt["also"]) == ("parent", [])


async def test_a_sub_run_is_stopped_alone(client: httpx.AsyncClient, served: Orchestrator) -> None:
    parent, one, two = await family(served)
    answer = await client.post(f"/runs/{one.id}/stop", json={"wait_s": 5})
    assert answer.status_code == 200
    assert answer.json()["receipt"]["source"] == "user"
    # The agent had not reckoned with that; its siblings are stopped since it failed.
    record = await parent.wait()
    assert record.status == "failed"
    assert record.error is not None
    assert record.error.type == "AgentStopped"
    assert two.record.stop is not None


@pytest.mark.parametrize(
    ("order", "field", "said"),
    [
        ({}, "body", "give either `ids` or `filter`"),
        ({"ids": ["x"], "filter": {"agent": "x"}}, "body", "give either"),
        ({"ids": []}, "ids", "must have 1 item or more"),
        ({"ids": ["x"] * 1001}, "ids", "may have 1000 items at most"),
        ({"ids": [7]}, "ids.0", "string"),
        ({"ids": "x"}, "ids", "list"),
        ({"filter": {}}, "filter", '{"status": "queued,running,'),
        *[
            ({"filter": {"agent": "sleeper", name: None}}, f"filter.{name}", "leave it out")
            for name in ("status", "agent", "owner", "tag", "root", "parent")
        ],
        ({"filter": {"tag": None}}, "filter.tag", "may not be null"),
        ({"filter": {"parent": ""}}, "filter.parent", "'none' means runs that have no parent"),
        ({"filter": {"agents": "x"}}, "filter.agents", "known are: status, agent"),
        ({"filter": {"after": "7"}}, "filter.after", "is not known"),
        (
            {"filter": {"status": "happy"}},
            "filter.status",
            "known are: queued, running",
        ),
        ({"filter": {"status": "stoping"}}, "filter.status", "(is 'stopping' meant?)"),
        ({"filter": {"agent": 7}}, "filter.agent", "string"),
        ({"filter": []}, "filter", "must be an object of named values"),
        ({"ids": ["x"], "mode": "gently"}, "mode", "graceful"),
        ({"ids": ["x"], "why": "y"}, "why", "is not known"),
        ({"ids": ["x"], "wait_s": -1}, "wait_s", "greater"),
    ],
)
async def test_what_does_not_fit_stops_nothing(
    client: httpx.AsyncClient, served: Orchestrator, order: Any, field: str, said: str
) -> None:
    (run,) = await running(served, "sleeper")
    if isinstance(order.get("ids"), list):
        order = order | {"ids": [run.id if each == "x" else each for each in order["ids"]]}
    answer = await client.post("/runs/stop", json=order)

    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["errors"]] == [field]
    assert said in answer.json()["errors"][0]["message"]
    assert run.ladder.stop is None


async def test_a_wait_is_honest_and_no_longer_than_it_says(
    client: httpx.AsyncClient, served: Orchestrator
) -> None:
    (slow,) = await running(served, "busy")
    (fast,) = await running(served, "sleeper")
    with trio.fail_after(10):
        results = await stop(client, ids=[slow.id, fast.id], grace_s=1000, wait_s=0.2)
    assert results[slow.id]["status_code"] == 202
    assert results[slow.id]["receipt"]["outcome"] == "stopping"
    assert results[fast.id]["status_code"] == 200
    assert results[fast.id]["receipt"]["outcome"] == "stopped"
    await slow.stop(mode="now")


async def test_a_store_that_takes_nothing_holds_no_stop_back(
    client: httpx.AsyncClient, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = await running(served, "busy", 3)

    async def fail(_: int) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(served, "durable", fail)
        results = await stop(client, filter={"agent": "busy"}, mode="now", wait_s=60)
    assert {each["status_code"] for each in results.values()} == {503}
    problems = [each["problem"] for each in results.values()]
    assert {each["type"] for each in problems} == {"urn:quiesce:stop-not-durable"}
    for run in runs:
        assert (await run.wait()).status == "stopped"


async def test_one_stops_what_one_may_and_hears_of_the_rest() -> None:
    with trio.fail_after(30):
        async with (
            open_orchestrator(agents=ALL) as served,
            open_server(served, host="127.0.0.1", port=0, access=access()) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            (hers,) = await running(served, "sleeper", owner="olga")
            (his,) = await running(served, "sleeper", owner="otto")
            ended = await served.start("echo", {"text": "x"}, owner="otto")
            await ended.wait()
            ids = [hers.id, his.id, ended.id]

            async def codes(name: str, **order: Any) -> list[int] | int:
                client.headers["Authorization"] = f"Bearer {token_of(name)}"
                answer = await client.post("/runs/stop", json=order)
                if answer.status_code != 202:
                    return answer.status_code
                return [each["status_code"] for each in answer.json()["results"]]

            assert await codes("viewer", ids=ids) == 403
            assert await codes("narrow other", ids=ids) == [404, 404, 404]
            assert await codes("narrow other", filter={"agent": "sleeper"}) == []
            assert hers.ladder.stop is his.ladder.stop is None
            assert await codes("owner", filter={"agent": "sleeper"}, wait_s=5) == [200, 403]
            assert await codes("owner", ids=ids, wait_s=5) == [200, 403, 403]
            assert his.ladder.stop is None
            assert await codes("admin", ids=ids, wait_s=5) == [200, 200, 409]
            assert his.record.stop is not None
            assert (his.record.stop.source, his.record.stop.requested_by) == ("admin", "ada")

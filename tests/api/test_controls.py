"""Pause, resume, step, answer, deadline and rerun over a real socket, seen from both its ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import StoreUnavailable
from tests.api.site import open_site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from orchestrator import Orchestrator
    from tests.api.site import Site


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A website that counts; no test that asks for it may hang."""
    with trio.fail_after(20):
        async with open_site() as opened:
            yield opened


async def start(
    client: httpx.AsyncClient, agent: str, options: dict[str, Any] | None = None, **input: Any
) -> str:
    order = {"agent": agent, "input": input, "options": options or {}}
    response = await client.post("/runs", json=order)
    assert response.status_code == 201, response.text
    return f"/runs/{response.json()['id']}"


async def until(client: httpx.AsyncClient, path: str, **wanted: Any) -> dict[str, Any]:
    """Return the run as soon as it has these values."""
    with trio.fail_after(10):
        while True:
            run: dict[str, Any] = (await client.get(path)).json()
            if all(run[name] == value for name, value in wanted.items()):
                return run
            await trio.sleep(0.005)


async def until_it_asks(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """Return the question of a run as soon as it has one."""
    with trio.fail_after(10):
        while (run := (await client.get(path)).json())["waiting_for"] is None:
            await trio.sleep(0.005)
    question: dict[str, Any] = run["waiting_for"]
    return question


async def ended(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """Return the run once it has ended."""
    run: dict[str, Any] = (await client.get(path, params={"wait_s": 10})).json()
    return run


def refused(response: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Return the problem document that a call was refused with."""
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["type"] == f"urn:quiesce:{kind}"
    return problem


# Pause, resume, step


async def test_a_pause_lets_the_request_in_flight_finish_and_no_other_begin(
    client: httpx.AsyncClient, site: Site
) -> None:
    path = await start(client, "visitor", url=site.url)
    await site.until_asked(1)

    answer = await client.post(f"{path}/pause", json={"reason": "lunch"})

    assert answer.status_code == 202
    run = answer.json()
    assert run["status"] == "pausing"
    assert run["available_actions"] == ["stop", "resume"]
    site.answer(100)
    run = await until(client, path, status="paused")
    assert run["available_actions"] == ["stop", "resume", "step"]
    await site.quiet()
    assert (site.asked, site.left) == (["/0"], 0)

    answer = await client.post(f"{path}/resume")

    assert (answer.status_code, answer.json()["status"]) == (202, "running")
    run = await ended(client, path)
    assert (run["status"], run["result"]) == ("succeeded", 3)
    assert site.asked == ["/0", "/1", "/2"]
    events = (await client.get(f"{path}/events", headers={"Accept": "application/json"})).json()
    told = {each["type"]: each["data"] for each in events["events"]}
    assert told["run.pausing"] == {"requested_by": "anonymous", "reason": "lunch"}
    assert told["run.resumed"] == {"requested_by": "anonymous", "step": False}


async def test_a_run_that_is_pausing_goes_on_as_if_nothing_had_been(
    client: httpx.AsyncClient, site: Site
) -> None:
    path = await start(client, "visitor", url=site.url)
    await site.until_asked(1)
    await client.post(f"{path}/pause")
    resumed = await client.post(f"{path}/resume")
    assert (resumed.status_code, resumed.json()["status"]) == (202, "running")
    site.answer(100)
    assert (await ended(client, path))["status"] == "succeeded"


async def test_a_stop_ends_a_paused_run_at_once(client: httpx.AsyncClient, site: Site) -> None:
    path = await start(client, "visitor", url=site.url)
    await site.until_asked(1)
    await client.post(f"{path}/pause")
    site.answer()
    await until(client, path, status="paused")

    began = trio.current_time()
    stopped = await client.post(f"{path}/stop", json={"grace_s": 30, "wait_s": 10})

    assert trio.current_time() - began < 2
    assert stopped.status_code == 200
    receipt = stopped.json()["receipt"]
    assert (receipt["outcome"], receipt["previous_status"]) == ("stopped", "paused")
    site.answer(100)
    await site.quiet()
    assert (site.asked, site.open) == (["/0"], 0)
    for verb in ("pause", "resume", "step"):
        problem = refused(await client.post(f"{path}/{verb}"), 409, "run-ended")
        assert (problem["run_id"], problem["run_status"]) == (path[6:], "stopped")


async def test_a_step_lets_exactly_one_request_through(
    client: httpx.AsyncClient, site: Site
) -> None:
    site.answer(100)
    path = await start(client, "visitor", {"debug": True}, url=site.url)
    run = await until(client, path, status="paused")
    assert run["options"]["debug"] is True
    await site.quiet()
    assert site.asked == []
    for n in range(1, 4):
        assert (await client.post(f"{path}/step")).status_code == 202
        await site.until_asked(n)
        await until(client, path, status="paused")
        await site.quiet()
        assert site.asked == [f"/{each}" for each in range(n)]
    await client.post(f"{path}/resume")
    assert (await ended(client, path))["result"] == 3


async def test_what_the_lifecycle_forbids_is_a_409(client: httpx.AsyncClient) -> None:
    path = await start(client, "busy", seconds=60)
    run_id = path[6:]
    await until(client, path, status="running")
    for verb, move in (("resume", "resume"), ("step", "make a step"), ("rerun", "be rerun")):
        problem = refused(await client.post(f"{path}/{verb}"), 409, "illegal-transition")
        assert problem["detail"] == f"a run that is running cannot {move}"
        assert (problem["run_id"], problem["run_status"]) == (run_id, "running")
        assert problem["move"] == move
    await client.post(f"{path}/stop")
    for verb in ("pause", "resume", "step"):
        problem = refused(await client.post(f"{path}/{verb}"), 409, "illegal-transition")
        assert problem["run_status"] == "stopping"
    await client.post(f"{path}/stop", json={"mode": "now"})
    assert (await ended(client, path))["status"] == "stopped"


async def test_nothing_below_a_paused_run_goes_on_alone(client: httpx.AsyncClient) -> None:
    path = await start(client, "boss")
    with trio.fail_after(10):
        while len(children := (await client.get(f"{path}/tree")).json()["children"]) < 2:
            pass
    await client.post(f"{path}/pause")
    await until(client, path, status="paused")
    child = children[0]["id"]
    for verb in ("resume", "step"):
        problem = refused(await client.post(f"/runs/{child}/{verb}"), 409, "parent-is-paused")
        assert (problem["run_id"], problem["run_status"]) == (child, "paused")
        assert problem["parent_id"] == path[6:]
    tree = (await client.get(f"{path}/tree")).json()
    assert {each["status"] for each in tree["children"]} == {"paused"}
    await client.post(f"{path}/stop", json={"wait_s": 5})


async def test_a_pause_that_is_not_durable_yet_says_so(
    client: httpx.AsyncClient, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await start(client, "sleeper")
    await until(client, path, status="running")

    async def fail(_: int) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(served, "durable", fail)
        answer = await client.post(f"{path}/pause")
    problem = refused(answer, 503, "store-unavailable")
    assert (problem["run_id"], answer.headers["Retry-After"]) == (path[6:], "5")
    # It took effect all the same: nothing of this run was in flight.
    await until(client, path, status="paused")


# Questions


async def test_a_question_is_shown_and_answered(client: httpx.AsyncClient) -> None:
    path = await start(client, "asker")
    question = await until_it_asks(client, path)
    run = (await client.get(path)).json()
    assert list(question) == ["question_id", "question", "schema", "asked_at", "until_at"]
    assert (question["question"], question["until_at"]) == ("Go on?", None)
    assert question["schema"] == {"enum": ["yes", "no"], "type": "string"}
    assert run["available_actions"] == ["stop", "pause", "answer"]

    order = {"question_id": question["question_id"], "answer": "maybe"}
    problem = refused(await client.post(f"{path}/answer", json=order), 422, "invalid-input")
    assert [each["field"] for each in problem["errors"]] == ["answer"]
    assert (problem["run_id"], problem["run_status"]) == (path[6:], "running")
    assert (await client.get(path)).json()["waiting_for"] == question

    unknown = {"question_id": "nope", "answer": "yes"}
    problem = refused(await client.post(f"{path}/answer", json=unknown), 409, "nobody-asks")
    assert (problem["run_status"], problem["question_id"]) == ("running", "nope")

    given = await client.post(f"{path}/answer", json=order | {"answer": "yes"})
    assert given.status_code == 202
    assert given.json()["waiting_for"] is None
    run = await ended(client, path)
    assert run["result"] == "they said yes"
    refused(await client.post(f"{path}/answer", json=order), 409, "run-ended")
    events = (await client.get(f"{path}/events", headers={"Accept": "application/json"})).json()
    told = {each["type"]: each["data"] for each in events["events"]}
    assert told["run.asked"]["question_id"] == question["question_id"]
    assert told["run.answered"] == {
        "question_id": question["question_id"],
        "answer": "yes",
        "answered_by": "anonymous",
    }


async def test_a_stop_withdraws_a_question(client: httpx.AsyncClient) -> None:
    path = await start(client, "asker")
    question = await until_it_asks(client, path)
    stopped = await client.post(f"{path}/stop", json={"wait_s": 5})
    run = stopped.json()["run"]
    assert (run["status"], run["waiting_for"]) == ("stopped", None)
    assert run["available_actions"] == ["rerun"]
    order = {"question_id": question["question_id"], "answer": "yes"}
    refused(await client.post(f"{path}/answer", json=order), 409, "run-ended")


async def test_a_question_that_nobody_answers_in_time_is_withdrawn(
    client: httpx.AsyncClient,
) -> None:
    path = await start(client, "asker", within_s=0.2)
    assert (await until_it_asks(client, path))["until_at"] is not None
    run = await ended(client, path)
    assert (run["status"], run["waiting_for"]) == ("failed", None)
    assert run["error"]["type"] == "NotAnswered"


# Deadlines


async def test_a_deadline_can_be_moved_and_taken_away(client: httpx.AsyncClient) -> None:
    path = await start(client, "sleeper", {"deadline_s": 1.5}, seconds=1.8)
    first = await until(client, path, status="running")

    moved = await client.patch(path, json={"deadline_s": 60})

    assert moved.status_code == 200
    assert moved.json()["deadline_at"] > first["deadline_at"]
    gone = await client.patch(path, json={"deadline_s": None})
    assert gone.json()["deadline_at"] is None
    assert (await ended(client, path))["status"] == "succeeded"
    refused(await client.patch(path, json={"deadline_s": 1}), 409, "run-ended")


async def test_a_deadline_fires_while_the_run_is_paused(
    client: httpx.AsyncClient, site: Site
) -> None:
    path = await start(client, "visitor", {"deadline_s": 1000}, url=site.url)
    await site.until_asked(1)
    await client.post(f"{path}/pause")
    site.answer()
    await until(client, path, status="paused")
    assert (await client.patch(path, json={"deadline_s": 0.1})).status_code == 200
    run = await ended(client, path)
    assert run["status"] == "timed_out"
    assert (run["stop"]["source"], run["stop"]["previous_status"]) == ("deadline", "paused")
    assert site.asked == ["/0"]


async def test_a_run_that_is_being_stopped_gets_no_other_deadline(
    client: httpx.AsyncClient,
) -> None:
    path = await start(client, "busy", seconds=60)
    await until(client, path, status="running")
    await client.post(f"{path}/stop")
    problem = refused(await client.patch(path, json={"deadline_s": 9}), 409, "illegal-transition")
    assert problem["run_status"] == "stopping"
    await client.post(f"{path}/stop", json={"mode": "now"})


# Tags


async def test_a_run_is_found_by_the_tags_that_it_has_now(client: httpx.AsyncClient) -> None:
    path = await start(client, "sleeper", {"tags": ["old", "kept"]})
    await until(client, path, status="running")

    async def found(tag: str) -> bool:
        return [each["id"] for each in (await client.get(f"/runs?tag={tag}")).json()["runs"]] != []

    changed = await client.patch(path, json={"tags": ["new", "kept", "new"], "deadline_s": 60})

    assert changed.status_code == 200
    assert changed.json()["tags"] == ["new", "kept"]
    assert changed.json()["options"]["tags"] == ["old", "kept"]
    assert changed.json()["deadline_at"] is not None
    assert [await found(tag) for tag in ("old", "kept", "new")] == [False, True, True]
    events = (await client.get(f"{path}/events", headers={"Accept": "application/json"})).json()
    told = {each["type"]: each["data"] for each in events["events"]}
    assert told["run.tagged"] == {"tags": ["new", "kept"], "requested_by": "anonymous"}
    cleared = await client.patch(path, json={"tags": []})
    assert (cleared.json()["tags"], cleared.json()["deadline_at"]) == (
        [],
        changed.json()["deadline_at"],
    )
    await client.patch(path, json={"tags": ["last"]})
    await client.post(f"{path}/stop", json={"wait_s": 5})
    refused(await client.patch(path, json={"tags": ["x"]}), 409, "run-ended")
    again = (await client.post(f"{path}/rerun")).json()
    assert (again["tags"], again["rerun_of"]) == (["last"], path[6:])


async def test_a_deadline_that_is_refused_leaves_the_tags(client: httpx.AsyncClient) -> None:
    path = await start(client, "busy", {"tags": ["old"]}, seconds=60)
    await until(client, path, status="running")
    await client.post(f"{path}/stop")
    change = {"deadline_s": 9, "tags": ["new"]}
    refused(await client.patch(path, json=change), 409, "illegal-transition")
    assert (await client.get(path)).json()["tags"] == ["old"]
    assert (await client.patch(path, json={"tags": ["new"]})).json()["tags"] == ["new"]
    await client.post(f"{path}/stop", json={"mode": "now"})
    assert (await ended(client, path))["tags"] == ["new"]


# What may be done


async def test_the_actions_are_those_that_are_not_refused(client: httpx.AsyncClient) -> None:
    """In every state: what is offered is not refused, and what is not offered is."""
    path = await start(client, "boss")
    with trio.fail_after(10):
        while len(children := (await client.get(f"{path}/tree")).json()["children"]) < 2:
            pass
        paths = [path, *(f"/runs/{child['id']}" for child in children)]
        for each in paths[1:]:
            await until_it_asks(client, each)

    async def offered() -> list[list[str]]:
        return [(await client.get(each)).json()["available_actions"] for each in paths]

    assert await offered() == [["stop", "pause"]] + 2 * [["stop", "pause", "answer"]]
    await client.post(f"{paths[1]}/pause")
    await until(client, paths[1], status="paused")
    assert (await offered())[1] == ["stop", "resume", "step", "answer"]
    await client.post(f"{path}/pause")
    await until(client, path, status="paused")
    assert await offered() == [["stop", "resume", "step"]] + 2 * [["stop", "answer"]]
    for each in paths[1:]:
        for verb in ("resume", "step"):
            refused(await client.post(f"{each}/{verb}"), 409, "parent-is-paused")
    nested = (await client.get(f"{path}/tree")).json()["children"]
    assert [each["available_actions"] for each in nested] == 2 * [["stop", "answer"]]
    await client.post(f"{path}/stop", json={"wait_s": 5})
    assert await offered() == 3 * [["rerun"]]


# Reruns


async def test_a_rerun_reuses_the_steps_before_the_one_that_is_named(
    client: httpx.AsyncClient, site: Site
) -> None:
    site.answer(100)
    path = await start(client, "stepper", {"tags": ["mine"]}, url=site.url)
    assert (await ended(client, path))["result"] == ["ok"] * 3
    for from_step, asked in ((None, "abc"), ("b", "bc"), ("last", "")):
        site.asked.clear()
        body = {} if from_step is None else {"from_step": from_step}
        answer = await client.post(f"{path}/rerun", params={"wait_s": 10}, json=body)
        assert answer.status_code == 201
        run = answer.json()
        assert answer.headers["Location"] == f"/runs/{run['id']}" != path
        assert (run["status"], run["result"]) == ("succeeded", ["ok"] * 3)
        assert (run["rerun_of"], run["tags"]) == (path[6:], ["mine"])
        assert site.asked == [f"/{name}" for name in asked]
    again = await client.post(f"{path}/rerun")
    assert again.status_code == 201
    problem = refused(
        await client.post(f"{path}/rerun", json={"from_step": "nope"}), 422, "invalid-input"
    )
    assert [each["field"] for each in problem["errors"]] == ["from_step"]
    assert "'a', 'b', 'c'" in problem["detail"]


async def test_a_stopped_run_goes_on_in_a_new_one(client: httpx.AsyncClient, site: Site) -> None:
    path = await start(client, "stepper", url=site.url)
    site.answer()
    await site.until_asked(2)
    stopped = await client.post(f"{path}/stop", json={"mode": "now", "wait_s": 5})
    assert stopped.json()["run"]["available_actions"] == ["rerun"]
    site.answer(100)
    answer = await client.post(f"{path}/rerun", params={"wait_s": 10}, json={"from_step": "last"})
    assert answer.json()["result"] == ["ok"] * 3
    assert site.asked == ["/a", "/b", "/b", "/c"]


async def test_nothing_is_rerun_while_starts_are_refused(
    client: httpx.AsyncClient, served: Orchestrator
) -> None:
    path = await start(client, "echo", text="x")
    await ended(client, path)
    served.refuse_starts("closing")
    refused(await client.post(f"{path}/rerun"), 503, "starts-refused")


# What is no request


@pytest.mark.parametrize("verb", ["pause", "resume", "step", "answer", "rerun"])
async def test_an_unknown_run_is_a_404(client: httpx.AsyncClient, verb: str) -> None:
    body = {"question_id": "x", "answer": None} if verb == "answer" else {}
    problem = refused(await client.post(f"/runs/x/{verb}", json=body), 404, "unknown-run")
    assert problem["run_id"] == "x"


async def test_a_change_of_an_unknown_run_is_a_404(client: httpx.AsyncClient) -> None:
    refused(await client.patch("/runs/x", json={"deadline_s": 1}), 404, "unknown-run")


@pytest.mark.parametrize(
    ("method", "verb", "body", "field"),
    [
        *(
            ("POST", verb, body, field)
            for verb in ("pause", "resume", "step")
            for body, field in (
                ("[]", "body"),
                ("1", "body"),
                ('{"because": "x"}', "because"),
                ('{"reason": 1}', "reason"),
            )
        ),
        ("POST", "pause", '{"reason": "\\ud800"}', "reason"),
        ("POST", "answer", "", "body"),
        ("POST", "answer", "{}", "question_id answer"),
        ("POST", "answer", '{"question_id": "x"}', "answer"),
        ("POST", "answer", '{"question_id": 1, "answer": 1}', "question_id"),
        ("POST", "answer", '{"question_id": "x", "answer": 1, "y": 2}', "y"),
        ("POST", "answer", '{"question_id": "x", "answer": 1e999}', "answer"),
        ("POST", "rerun", "[]", "body"),
        ("POST", "rerun", '{"from_step": 1}', "from_step"),
        ("POST", "rerun", '{"step": "a"}', "step"),
        ("PATCH", "", "", "body"),
        ("PATCH", "", "[]", "body"),
        ("PATCH", "", "{}", "body"),
        ("PATCH", "", '{"tags": null}', "body"),
        ("PATCH", "", '{"tags": "x"}', "tags"),
        ("PATCH", "", '{"tags": [1]}', "tags.0"),
        ("PATCH", "", '{"tags": ["\\ud800"]}', "tags"),
        ("PATCH", "", '{"deadline_s": 900, "tags": ["\\ud800"]}', "tags"),
        ("PATCH", "", f'{{"deadline_s": 900, "tags": ["{"x" * 256}"]}}', "tags"),
        ("PATCH", "", f'{{"deadline_s": 900, "tags": ["x", "{"ä" * 128}"]}}', "tags"),
        ("PATCH", "", '{"deadline_s": -1, "tags": ["x"]}', "deadline_s"),
        ("PATCH", "", '{"deadline_s": 1e999}', "deadline_s"),
        ("PATCH", "", '{"deadline_s": -1e999}', "deadline_s"),
        ("PATCH", "", '{"deadline_s": -1}', "deadline_s"),
        ("PATCH", "", '{"deadline_s": 0}', "deadline_s"),
        ("PATCH", "", '{"deadline_s": true}', "deadline_s"),
        ("PATCH", "", '{"deadline_s": "5"}', "deadline_s"),
        ("PATCH", "", '{"deadline_s": 1e12}', "deadline_s"),
        ("PATCH", "", '{"deadline_s": 5, "owner": "x"}', "owner"),
    ],
)
async def test_a_bad_body_names_the_field_and_changes_nothing(
    client: httpx.AsyncClient, method: str, verb: str, body: str, field: str
) -> None:
    path = await start(client, "sleeper")
    before = await until(client, path, status="running")
    answer = await client.request(method, f"{path}/{verb}".rstrip("/"), content=body)
    problem = refused(answer, 422, "invalid-input")
    assert [each["field"] for each in problem["errors"]] == field.split()
    assert (problem["run_id"], problem["run_status"]) == (path[6:], "running")
    assert (await client.get(path)).json() == before
    assert json.loads(answer.content)["status"] == 422


# Delete


async def test_a_run_is_deleted_once_it_has_ended(client: httpx.AsyncClient) -> None:
    path = await start(client, "family", children=1)
    problem = refused(await client.delete(path), 409, "illegal-transition")
    assert problem["run_status"] in ("queued", "running")
    await client.post(f"{path}/stop", json={"wait_s": 10})
    (child,) = (await client.get(f"{path}/tree")).json()["children"]
    problem = refused(await client.delete(f"/runs/{child['id']}"), 409, "part-of-a-tree")
    assert f"/runs/{problem['root_id']}" == path
    answer = await client.delete(path)
    assert (answer.status_code, answer.content) == (204, b"")
    parts = ("", "/tree", "/events", "/stop", "/stack", "/partial", "/artifacts", "/view")
    for gone in (path, f"/runs/{child['id']}"):
        for part in parts:
            refused(await client.get(gone + part), 404, "unknown-run")
        for verb in ("stop", "pause", "rerun"):
            refused(await client.post(f"{gone}/{verb}"), 404, "unknown-run")
        refused(await client.delete(gone), 404, "unknown-run")
    assert (await client.get("/runs")).json()["runs"] == []

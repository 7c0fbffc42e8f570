"""Ignition: every row of what its investigation asks for, against a real server."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import websocket

from api.stream import KEEP_ALIVE_S
from tests.dialects.executions import BOUND_S, do, get, start, status, until, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from tests.api.processes import Site

pytestmark = pytest.mark.slow

CLOSED = (1000).to_bytes(2, "big") + b"the execution is over, or the server closes"


def test_E1_a_cancel_ends_a_long_step_in_its_middle(http: httpx.Client, site: Site) -> None:
    """The regression in full: a step of a minute, and a page that resumes five times after it."""
    site.answers.release()
    steps = [get("first", f"{site.url}/first"), wait("long"), get("after", f"{site.url}/after")]
    execution = start(http, steps)
    site.wait_for("asked", 1)
    while not (http.get(f"/api/executions/{execution}").json()["partial"] or {}).get("steps"):
        time.sleep(0.05)
    began = time.monotonic()

    cancelled = do(http, execution, "cancel")

    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert time.monotonic() - began < 20
    receipt = http.get(f"/runs/{execution}/stop").json()
    assert receipt["outcome"] == "stopped"
    assert receipt["operations"] == {"finished": 0, "cut": 0, "refused": 0}
    site.wait_for("open", 0)
    before = http.get(f"/runs/{execution}").json()
    assert [do(http, execution, "resume").status_code for _ in range(5)] == [409] * 5
    assert http.get(f"/runs/{execution}").json() == before
    assert site.asked == ["/first"]


def test_E1_a_cancel_closes_the_connection_of_the_step_that_is_under_way(
    http: httpx.Client, site: Site
) -> None:
    execution = start(http, [get("long", f"{site.url}/long"), get("after", f"{site.url}/after")])
    site.wait_for("asked", 1)
    assert do(http, execution, "cancel").json()["status"] == "cancelled"
    site.wait_for("left", 1)
    site.wait_for("open", 0)
    assert site.asked == ["/long"]


def test_E2_pause_resume_and_a_resume_after_a_cancel(http: httpx.Client, site: Site) -> None:
    execution = start(http, [get("a", f"{site.url}/a"), get("b", f"{site.url}/b"), wait("c")])
    site.wait_for("asked", 1)
    assert do(http, execution, "pause").status_code == 202
    site.answers.release()
    until(http, execution, "paused")
    assert site.asked == ["/a"]
    assert do(http, execution, "pause").status_code == 409

    assert do(http, execution, "resume").status_code == 202
    site.wait_for("asked", 2)
    assert do(http, execution, "cancel").status_code == 200
    refused = do(http, execution, "resume")
    assert (refused.status_code, refused.json()["run_status"]) == (409, "stopped")
    assert status(http, execution) == "cancelled"
    assert site.asked == ["/a", "/b"]


def test_E2_debug_mode_goes_step_by_step(http: httpx.Client, site: Site) -> None:
    steps = [get(name, f"{site.url}/{name}") for name in "abc"]
    execution = start(http, steps, debug=True)
    for number in range(3):
        until(http, execution, "paused")
        assert len(site.asked) == number
        site.answers.release()
        assert do(http, execution, "step").status_code == 202
        site.wait_for("asked", number + 1)
    until(http, execution, "paused")
    assert do(http, execution, "resume").status_code == 202
    assert until(http, execution, "completed") == "completed"
    assert do(http, execution, "step").status_code == 409


def test_E3_an_execution_is_live_until_it_has_ended_and_its_record_stays(
    http: httpx.Client, site: Site
) -> None:
    execution = start(http, [get("a", f"{site.url}/a"), wait("b", 0)])
    site.wait_for("asked", 1)
    assert len(http.get(f"/runs/{execution}/stack").json()["tasks"]) >= 1
    site.answers.release()
    until(http, execution, "completed")
    assert http.get(f"/runs/{execution}/stack").json()["tasks"] == []
    assert http.get(f"/api/executions/{execution}").json()["result"]["steps"]["b"] == {"seconds": 0}
    assert do(http, execution, "cancel").status_code == 409


@contextmanager
def following(http: httpx.Client, execution: str) -> Iterator[websocket.WebSocket]:
    """A page that listens to an execution."""
    url = str(http.base_url).replace("http", "ws").rstrip("/")
    peer = websocket.create_connection(f"{url}/api/ws/executions/{execution}", timeout=BOUND_S)
    try:
        yield peer
    finally:
        peer.shutdown()  # type: ignore[no-untyped-call]


def test_E4_a_silent_connection_is_kept_alive_until_the_execution_is_over(
    http: httpx.Client,
) -> None:
    """At the real pace: nothing happens in the execution, and the page hears that it lives."""
    execution = start(http, [wait("long", 600)])
    with following(http, execution) as peer:
        began = time.monotonic()
        kinds = [json.loads(peer.recv())["type"]]
        while time.monotonic() - began < KEEP_ALIVE_S - 1:
            kinds.append(json.loads(peer.recv())["type"])
        assert (kinds[0], kinds[-1]) == ("execution", "keepalive")
        peer.send(json.dumps({"type": "ping"}))
        assert json.loads(peer.recv()) == {"type": "pong"}
        do(http, execution, "cancel")
        # Each change that it comes to see.
        while (told := json.loads(peer.recv())["status"]) == "cancelling":
            pass
        assert told == "cancelled"
        assert peer.recv_data() == (websocket.ABNF.OPCODE_CLOSE, CLOSED)


def next_status(peer: websocket.WebSocket, wanted: str) -> None:
    """Read up to the message that says so."""
    while json.loads(peer.recv()).get("status") != wanted:
        pass


def test_E4_the_page_is_told_of_each_change_up_to_the_end(http: httpx.Client) -> None:
    """And what it says meanwhile, even what is no JSON, changes nothing."""
    execution = start(http, [wait("first", 0), wait("long", 600)])
    with following(http, execution) as peer:
        first = json.loads(peer.recv())
        assert (first["type"], first["execution_id"]) == ("execution", execution)
        for text in ("no JSON", "[1]", '{"type": "resume"}', '{"type": 1}', '{"type": "cancel"}'):
            peer.send(text)
        assert do(http, execution, "pause").status_code == 202
        next_status(peer, "paused")
        assert do(http, execution, "resume").status_code == 202
        next_status(peer, "running")
        do(http, execution, "cancel")
        next_status(peer, "cancelled")
        assert peer.recv_data() == (websocket.ABNF.OPCODE_CLOSE, CLOSED)


def test_E4_an_execution_that_is_none_has_no_connection(http: httpx.Client) -> None:
    with (
        pytest.raises(websocket.WebSocketBadStatusException) as refused,
        following(http, "run_nothing"),
    ):
        pass
    assert refused.value.status_code == 404
    plain = http.get("/api/ws/executions/run_nothing")
    assert plain.json()["detail"] == "this path is only for WebSockets"


def test_E5_a_step_that_catches_everything_does_not_keep_the_execution_alive(
    http: httpx.Client, site: Site
) -> None:
    call = {"id": "call", "type": "agent", "parameters": {"agent": "catches_everything"}}
    steps = [{**call, "on_error": "continue"}, get("after", f"{site.url}/after")]
    retry = {"id": "again", "type": "retry", "parameters": {"attempts": 9, "steps": steps}}
    execution = start(http, [{**retry, "on_error": "continue"}])
    while len(http.get(f"/runs/{execution}/tree").json()["children"]) < 1:
        time.sleep(0.05)
    assert do(http, execution, "cancel").json()["status"] == "cancelled"
    children = http.get(f"/runs/{execution}/tree").json()["children"]
    assert [each["status"] in ("stopped", "succeeded") for each in children] == [True]
    assert site.asked == []


def test_E6_steps_share_a_session_that_is_closed_at_the_end(http: httpx.Client, site: Site) -> None:
    """However the execution ends."""
    for end in ("completed", "cancelled"):
        site.answers.release()
        steps = [get("a", f"{site.url}/a"), get("b", f"{site.url}/b")]
        before = len(site.asked)
        execution = start(http, steps)
        site.wait_for("asked", before + 2)
        site.wait_for("open", 1)
        if end == "completed":
            site.answers.release()
        else:
            do(http, execution, "cancel")
            assert http.get(f"/runs/{execution}/stop").json()["clients_closed"] == 1
        assert until(http, execution, "completed", "cancelled") == end
        site.wait_for("open", 0)


@pytest.mark.parametrize(
    ("body", "status_code", "field", "message"),
    [
        ({"playbook": "name: [1"}, 422, "playbook", "line 2: "),
        ({"playbook": "name: a\nsteps:\n- {id: a, type: wat}"}, 422, "playbook", "line 3: steps.0"),
        ({"playbook": "name: a"}, 422, "playbook", "line 1: steps: Field required"),
        ({"playbook": 1}, 422, "playbook", "Input should be a valid string"),
        ({}, 422, "playbook", "Field required"),
        ({"playbook": "x", "debug": "yes"}, 422, "debug", "Input should be a valid boolean"),
        ({"playbook": "x", "more": 1}, 422, "more", "is not known; known are: playbook, inputs"),
    ],
)
def test_E6_a_bad_playbook_is_refused_at_the_start_with_its_line(
    http: httpx.Client, body: dict[str, Any], status_code: int, field: str, message: str
) -> None:
    answer = http.post("/api/executions", json=body)
    assert answer.status_code == status_code
    (error,) = answer.json()["errors"]
    assert error["field"] == field
    assert error["message"].startswith(message)


def test_E6_what_is_no_execution_is_not_found(http: httpx.Client) -> None:
    """Not even a run of another agent."""
    crawl = http.post("/runs", json={"agent": "crawl", "input": {"url": "http://127.0.0.1:1/"}})
    for run in ("run_nothing", crawl.json()["id"]):
        assert http.get(f"/api/executions/{run}").status_code == 404
        for what in ("cancel", "pause", "resume", "step"):
            assert do(http, run, what).status_code == 404

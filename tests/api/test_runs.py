"""The calls about runs, over a real socket."""

from __future__ import annotations

import json
import math
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, agent
from tests.api.agents import ALL
from tests.api.wire import connect

if TYPE_CHECKING:
    import httpx

    from orchestrator import Orchestrator


async def start(client: httpx.AsyncClient, agent: str, **input: Any) -> dict[str, Any]:
    response = await client.post("/runs", json={"agent": agent, "input": input})
    assert response.status_code == 201, response.text
    run: dict[str, Any] = response.json()
    assert response.headers["Location"] == f"/runs/{run['id']}"
    return run


async def test_agents_are_listed_with_their_schema(client: httpx.AsyncClient) -> None:
    listed = {each["name"]: each for each in (await client.get("/agents")).json()["agents"]}

    assert list(listed) == sorted(each.name for each in ALL)
    assert listed["echo"]["description"] == "Return the text."
    assert listed["echo"]["input_schema"]["required"] == ["text"]
    assert listed["echo"]["isolation"] == "task"
    assert listed["echo"]["options"]["grace_s"] == 30


async def test_a_brief_list_has_all_but_what_may_be_large(client: httpx.AsyncClient) -> None:
    await client.post("/runs?wait_s=5", json={"agent": "echo", "input": {"text": "long"}})
    whole = (await client.get("/runs")).json()
    assert (whole["runs"][0]["input"], whole["runs"][0]["result"]) == ({"text": "long"}, "long")

    brief = (await client.get("/runs?brief=true")).json()
    assert brief["next"] == whole["next"]
    for run in whole["runs"]:
        del run["input"], run["result"]
    assert brief["runs"] == whole["runs"]
    refused = await client.get("/runs?brief=very")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "brief")


async def test_what_json_has_no_number_for_is_null(
    client: httpx.AsyncClient, served: Orchestrator
) -> None:
    """One agent with such a default must not keep pages from reading the list of all."""

    @agent
    async def patient(ctx: Context, limits: tuple[float, ...] = (math.inf, 1, math.nan)) -> None:
        """Wait, for as long as it takes."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    served.agents.add(patient)
    for path in ("/agents", "/openapi.json"):
        json.loads((await client.get(path)).text, parse_constant=refuse)
    listed = (await client.get("/agents")).json()["agents"]
    (schema,) = [each["input_schema"] for each in listed if each["name"] == "patient"]
    assert schema["properties"]["limits"]["default"] == [None, 1, None]


async def test_a_run_is_started_watched_and_kept(client: httpx.AsyncClient) -> None:
    run = await start(client, "echo", text="hello")

    ended = (await client.get(f"/runs/{run['id']}", params={"wait_s": 5})).json()

    assert ended["status"] == "succeeded"
    assert ended["result"] == "hello"
    assert ended["partial"] == {"text": "h"}
    assert ended["progress"] == {"percent": 50, "message": "half"}
    assert ended["available_actions"] == ["rerun"]
    kept = (await client.get(f"/runs/{run['id']}/artifacts")).json()["artifacts"]
    assert kept == [{"name": "text.txt", "media_type": "text/plain", "size": 5}]
    file = await client.get(f"/runs/{run['id']}/artifacts/text.txt")
    assert (file.content, file.headers["Content-Type"]) == (b"hello", "text/plain")


async def test_a_failure_says_what_happened(client: httpx.AsyncClient) -> None:
    run = await start(client, "failing")

    ended = (await client.get(f"/runs/{run['id']}", params={"wait_s": 5})).json()

    assert ended["status"] == "failed"
    assert ended["error"]["type"] == "ValueError"
    assert ended["error"]["message"] == "as asked"
    assert "test" in ended["error"]["traceback"]


async def test_a_stop_answers_202_and_then_200(client: httpx.AsyncClient) -> None:
    run = await start(client, "busy", seconds=0.5)
    path = f"/runs/{run['id']}/stop"

    first = await client.post(path, json={"reason": "enough"})
    waited = await client.post(path, json={"wait_s": 5})
    again = await client.post(path)

    assert [first.status_code, waited.status_code, again.status_code] == [202, 200, 200]
    assert first.json()["run"]["status"] == "stopping"
    assert first.json()["run"]["available_actions"] == ["stop"]
    assert first.json()["receipt"]["outcome"] == "stopping"
    receipt = again.json()["receipt"]
    assert receipt["outcome"] == "stopped"
    assert receipt["reason"] == "enough"
    assert receipt["reached"] == "graceful"
    assert receipt["operations"] == {"finished": 1, "cut": 0, "refused": 0}
    assert len(receipt["also"]) == 1
    assert (await client.get(path)).json() == receipt


async def test_a_stop_now_cuts_what_is_in_flight(client: httpx.AsyncClient) -> None:
    run = await start(client, "busy")

    answer = await client.post(f"/runs/{run['id']}/stop", json={"mode": "now", "wait_s": 5})

    assert answer.status_code == 200
    assert answer.json()["receipt"]["reached"] == "now"
    assert answer.json()["run"]["status"] == "stopped"


async def test_a_run_that_ended_by_itself_cannot_be_stopped(client: httpx.AsyncClient) -> None:
    run = await start(client, "echo", text="x")
    await client.get(f"/runs/{run['id']}", params={"wait_s": 5})

    answer = await client.post(f"/runs/{run['id']}/stop")

    assert answer.status_code == 409
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["run_id"] == run["id"]
    assert answer.json()["run_status"] == "succeeded"
    assert (await client.get(f"/runs/{run['id']}/stop")).status_code == 404


async def test_discard_removes_what_the_run_had(client: httpx.AsyncClient) -> None:
    run = await start(client, "sleeper")
    await client.post(f"/runs/{run['id']}/stop", json={"discard": True, "wait_s": 5})
    assert (await client.get(f"/runs/{run['id']}/partial")).json() is None


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("POST", "/runs", {"agent": "nobody"}, 422, "agent"),
        ("POST", "/runs", {"agent": "echo"}, 422, "input.text"),
        ("POST", "/runs", {"agent": "echo", "input": {"text": "x", "y": 1}}, 422, "input.y"),
        ("POST", "/runs", {"agent": "sleeper", "options": {"grace": 1}}, 422, "options.grace"),
        (
            "POST",
            "/runs",
            {"agent": "sleeper", "options": {"deadline_s": -1}},
            422,
            "options.deadline_s",
        ),
        (
            "POST",
            "/runs",
            {"agent": "sleeper", "options": {"deadline_s": True}},
            422,
            "options.deadline_s",
        ),
        (
            "POST",
            "/runs",
            {"agent": "sleeper", "options": {"tags": ["\ud800"]}},
            422,
            "options.tags",
        ),
        ("POST", "/runs", {"agent": "sleeper", "inputs": {}}, 422, "inputs"),
        ("POST", "/runs/x/stop", {"grace_s": "5"}, 422, "grace_s"),
        ("GET", f"/runs/x/events?after={2**70}", None, 422, "after"),
        ("POST", "/runs", {}, 422, "agent"),
        ("POST", "/runs", [], 422, "body"),
        ("GET", "/runs?status=happy", None, 422, "status"),
        ("GET", "/runs?statuses=running", None, 422, "statuses"),
        ("GET", "/runs?parent=", None, 422, "parent"),
        ("GET", "/runs?limit=0", None, 422, "limit"),
        ("GET", "/runs?limit=1&limit=2", None, 422, "limit"),
        ("GET", "/runs?after=elsewhere", None, 422, "after"),
        ("GET", "/runs/x?wait_s=-1", None, 422, "wait_s"),
        ("POST", "/runs/x/stop", {"mode": "gently"}, 422, "mode"),
        ("POST", "/runs/x/stop", {"grace_s": -1}, 422, "grace_s"),
        ("POST", "/runs/x/stop", {"because": "x"}, 422, "because"),
        ("POST", "/runs/x/stop", {"discard": "yes"}, 422, "discard"),
        ("POST", "/runs/x/stop", {"discard": 1}, 422, "discard"),
        ("POST", "/runs/stop", {"ids": ["x"], "discard": "true"}, 422, "discard"),
        ("GET", "/runs/x/events?after=-1", None, 422, "after"),
        ("GET", "/runs/x/events?limit=1", None, 422, "limit"),
        ("GET", "/runs/x", None, 404, None),
        ("GET", "/runs/x/tree", None, 404, None),
        ("GET", "/runs/x/events", None, 404, None),
        ("GET", "/runs/x/stop", None, 404, None),
        ("POST", "/runs/x/stop", None, 404, None),
        ("GET", "/runs/x/stack", None, 404, None),
        ("GET", "/nowhere", None, 404, None),
        ("PUT", "/runs", {}, 405, None),
    ],
)
async def test_bad_requests_name_the_field(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, field: str | None
) -> None:
    content = None if body is None else json.dumps(body)
    response = await client.request(method, path, content=content)

    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["detail"]
    if field is not None:
        assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize(
    ("path", "body", "field", "message"),
    [
        ("/runs", {"agent": "echo", "input": []}, "input", "must be an object of named values"),
        (
            "/runs",
            {"agent": "sleeper", "options": 1},
            "options",
            "must be an object of named values",
        ),
        ("/runs", {"agent": "sleeper", "options": {"tags": "a"}}, "options.tags", "must be a list"),
        ("/runs/stop", {"ids": "x"}, "ids", "must be a list"),
        ("/runs/stop", {"ids": []}, "ids", "must have 1 item or more"),
        ("/runs/stop", {"ids": ["x"] * 1_001}, "ids", "may have 1000 items at most"),
    ],
)
async def test_what_does_not_fit_is_said_in_words_of_json(
    client: httpx.AsyncClient, path: str, body: Any, field: str, message: str
) -> None:
    (error,) = (await client.post(path, json=body)).json()["errors"]
    assert error == {"field": field, "message": message}


@pytest.mark.parametrize(
    "address",
    ["a..b", "a b", "127.0.0.1:0", "127.0.0.1:99999", "127.0.0.1:x", "x" * 64, "%00", "[::1"],
)
async def test_a_webhook_at_a_host_that_could_not_exist_is_a_422(
    client: httpx.AsyncClient, address: str
) -> None:
    options = {"webhook": f"http://{address}/told"}
    response = await client.post("/runs", json={"agent": "sleeper", "options": options})
    assert response.status_code == 422
    assert [each["field"] for each in response.json()["errors"]] == ["options.webhook"]


@pytest.mark.parametrize("address", ["example.org", "my_host.", "EXAMPLE.org:1", "[::1]:80", "1"])
async def test_a_webhook_at_any_other_is_taken(client: httpx.AsyncClient, address: str) -> None:
    options = {"webhook": f"http://{address}/told"}
    order = {"agent": "echo", "input": {"text": "x"}, "options": options}
    response = await client.post("/runs", json=order)
    assert response.status_code == 201
    assert response.json()["options"]["webhook"] == options["webhook"]


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"agent": "\xff"}', b"[" * 100_000])
async def test_a_body_that_is_not_json_is_a_400(client: httpx.AsyncClient, body: bytes) -> None:
    response = await client.post("/runs", content=body)
    assert response.status_code == 400
    assert response.json()["type"] == "urn:quiesce:malformed-json"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"agent": "echo", "input": {"text": NaN}}', "NaN is no number of JSON"),
        (b'{"grace_s": -Infinity}', "-Infinity is no number of JSON"),
        (b'{"mode": "now", "mode": "graceful"}', "'mode' is given more than once in one object"),
        (b'{"a": [{"b": {"c": 1, "d": 2, "c": 1}}]}', "'c' is given more than once in one object"),
        (b'{"grace_s": ' + b"1" * 5_000 + b"}", "a number has too many digits"),
        (b'{"agent": "\xff"}', "it is not UTF-8"),
        ('{"agent": "echo"}'.encode("utf-16"), "it is not UTF-8"),
    ],
)
async def test_what_json_does_not_have_is_named(
    client: httpx.AsyncClient, body: bytes, said: str
) -> None:
    for path in ("/runs", "/runs/stop"):
        response = await client.post(path, content=body)
        assert response.status_code == 400, response.text
        assert response.json()["type"] == "urn:quiesce:malformed-json"
        assert said in response.json()["detail"]


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Content-Encoding": "gzip"}, "`Content-Encoding` is 'gzip'; send the body as it is"),
        ({"Content-Encoding": "identity, br"}, "`Content-Encoding` is 'identity, br'"),
        ({"Content-Type": "application/json; charset=latin-1"}, "charset is 'latin-1'; send UTF-8"),
        ({"Content-Type": "application/ld+json; charset=UTF-16"}, "charset is 'UTF-16'"),
        ({"Content-Type": "application/json; charset=no-such"}, "charset is 'no-such'"),
    ],
)
async def test_a_body_in_another_coding_is_a_415(
    client: httpx.AsyncClient, headers: dict[str, str], said: str
) -> None:
    response = await client.post("/runs", content=b"\x1f\x8b", headers=headers)
    assert (response.status_code, response.json()["type"]) == (
        415,
        "urn:quiesce:unsupported-media-type",
    )
    assert said in response.json()["detail"]
    assert response.headers["Accept-Encoding"] == "identity"
    if "Content-Encoding" in headers:
        unread = await client.request("GET", "/runs", content=b"\x1f\x8b", headers=headers)
        assert unread.status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "Identity"},
        {"Content-Encoding": ""},
        {"Content-Type": 'application/json; charset="UTF-8"'},
        {"Content-Type": "application/json;charset=utf8"},
        {"Content-Type": "application/json; charset=us-ascii"},
        {"Content-Type": "text/plain; charset=iso-8859-1"},
        {"Content-Type": "application/x-www-form-urlencoded"},
    ],
)
async def test_a_body_that_is_json_is_taken_whatever_else_is_said(
    client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    body = b'\xef\xbb\xbf{"agent": "echo", "input": {"text": "x"}}'
    response = await client.post("/runs", content=body, headers=headers)
    assert response.status_code == 201, response.text


@pytest.mark.parametrize("path", ["/halt", "/runs", "/runs/stop", "/runs/x/stop", "/runs/x/pause"])
async def test_null_is_no_body_that_is_left_out(client: httpx.AsyncClient, path: str) -> None:
    response = await client.post(path, content=b"null")
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == ["body"]
    assert (await client.get("/halt")).json()["halt"] is None


async def test_a_method_that_is_not_allowed_says_which_are(client: httpx.AsyncClient) -> None:
    response = await client.put("/runs", json={})
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert response.json()["detail"] == "this path takes only GET, HEAD, OPTIONS, POST"
    response = await client.get("/ws")
    assert (response.status_code, response.json()["type"]) == (400, "urn:quiesce:bad-request")
    assert response.json()["detail"] == "this path is only for WebSockets"


async def test_a_path_that_is_not_there_says_where_all_are(client: httpx.AsyncClient) -> None:
    response = await client.get("/run")
    assert (response.status_code, response.json()["type"]) == (404, "urn:quiesce:not-found")
    assert "GET /openapi.json" in response.json()["detail"]


@pytest.mark.parametrize("path", ["/runs//stop", "/runs//events"])
async def test_a_path_with_an_empty_part_is_no_other_path(
    client: httpx.AsyncClient, path: str
) -> None:
    """What a script asks for whose variable is empty: not to be led to the call about many runs."""
    response = await client.post(path, json={"ids": ["run_x"]})
    assert (response.status_code, response.json()["type"]) == (404, "urn:quiesce:not-found")


async def test_a_deep_body_is_refused_whatever_the_limit_of_recursion(
    client: httpx.AsyncClient,
) -> None:
    # As a library sets it on being imported: the stack would overflow, and end the process.
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        response = await client.post("/runs", content=b'{"input":' + b"[" * 1_000_000)
        shallow = await client.post("/runs", json={"agent": "echo", "input": {"text": "[{" * 999}})
    finally:
        sys.setrecursionlimit(before)
    assert response.json()["type"] == "urn:quiesce:malformed-json"
    assert shallow.status_code == 201


async def test_a_body_beyond_the_limit_is_a_413(url: str, client: httpx.AsyncClient) -> None:
    with trio.fail_after(5):
        async with connect(("127.0.0.1", int(url.rpartition(":")[2]))) as wire:
            answer = await wire.ask(
                b"POST /runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8388609\r\n\r\n"
            )
    assert answer is not None
    assert answer.status == 413
    assert b"the body is larger than 8 MiB" in answer.body
    assert (await client.get("/healthz")).status_code == 200


async def test_an_answer_without_content_names_no_type_of_it(client: httpx.AsyncClient) -> None:
    for method, path, status in (("DELETE", "/halt", 204), ("OPTIONS", "/runs", 200)):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.content) == (status, b"")
        assert "Content-Type" not in answer.headers
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; frame-")


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Host": "evil.example"}, "ask for it by `localhost` or a loopback address"),
        ({"Origin": "https://evil.example"}, "open its pages by that name"),
    ],
)
async def test_who_is_refused_as_foreign_is_told_what_to_do(
    client: httpx.AsyncClient, headers: dict[str, str], said: str
) -> None:
    assert said in (await client.get("/runs", headers=headers)).json()["detail"]


async def test_a_request_without_a_host_is_told_so(url: str) -> None:
    with trio.fail_after(5):
        async with connect(("127.0.0.1", int(url.rpartition(":")[2]))) as wire:
            answer = await wire.ask(b"GET /runs HTTP/1.0\r\n\r\n")
    assert answer is not None
    assert b"the request names no `Host`; ask for it by" in answer.body


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "["}, 403),
        ({"Origin": "http://["}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "localhost:80", "Origin": "http://localhost:80"}, 200),
    ],
)
async def test_foreign_origins_and_hosts_are_refused(
    client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    assert (await client.get("/runs", headers=headers)).status_code == status


async def test_an_etag_saves_the_body_until_the_run_changes(client: httpx.AsyncClient) -> None:
    run = await start(client, "sleeper")
    path = f"/runs/{run['id']}"
    with trio.fail_after(5):
        while (first := await client.get(path)).json()["status"] != "running":
            pass
    etag = first.headers["ETag"]

    same = await client.get(path, headers={"If-None-Match": f"W/{etag}"})
    await client.post(f"{path}/stop", json={"wait_s": 5})
    changed = await client.get(path, headers={"If-None-Match": etag})

    assert (same.status_code, same.content) == (304, b"")
    assert same.headers["ETag"] == etag
    assert changed.status_code == 200
    assert changed.headers["ETag"] != etag


async def test_runs_are_listed_newest_first_by_filter_and_cursor(
    client: httpx.AsyncClient,
) -> None:
    ids = [(await start(client, "echo", text=str(n)))["id"] for n in range(5)]
    stopped = await start(client, "sleeper")
    await client.post(f"/runs/{stopped['id']}/stop", json={"wait_s": 5})
    for each in ids:
        await client.get(f"/runs/{each}", params={"wait_s": 5})

    one = (await client.get("/runs", params={"agent": "echo", "limit": 2})).json()
    two = (
        await client.get("/runs", params={"agent": "echo", "limit": 2, "after": one["next"]})
    ).json()
    rest = (
        await client.get("/runs", params={"agent": "echo", "limit": 2, "after": two["next"]})
    ).json()

    assert [run["id"] for page in (one, two, rest) for run in page["runs"]] == ids[::-1]
    assert rest["next"] is None
    found = (await client.get("/runs", params={"status": "stopped,failed"})).json()["runs"]
    assert [run["id"] for run in found] == [stopped["id"]]


async def test_the_tree_is_nested_and_stops_as_a_whole(client: httpx.AsyncClient) -> None:
    run = await start(client, "family", children=3)
    path = f"/runs/{run['id']}"
    with trio.fail_after(5):
        while len((tree := (await client.get(f"{path}/tree")).json())["children"]) < 3:
            pass
    assert {child["agent"] for child in tree["children"]} == {"sleeper"}
    tasks = (await client.get(f"{path}/stack")).json()["tasks"]
    places = [f"{frame['file']} {frame['function']}" for task in tasks for frame in task["frames"]]
    assert sum(place.endswith("agents.py sleeper") for place in places) == 3

    answer = await client.post(f"{path}/stop", json={"wait_s": 5})

    assert answer.json()["receipt"]["runs_stopped"] == 4
    tree = (await client.get(f"{path}/tree")).json()
    assert {child["status"] for child in tree["children"]} == {"stopped"}
    assert {child["stop"]["source"] for child in tree["children"]} == {"parent"}


@pytest.mark.parametrize(
    ("call", "query", "said"),
    [
        (
            "POST /runs/{id}/stop",
            "mode=now",
            "the body takes: mode, grace_s, reason, wait_s, discard",
        ),
        ("POST /runs/{id}/stop", "wait_s=5", "is not known in the query"),
        ("POST /runs/{id}/pause", "reason=x", "the body takes: reason"),
        ("POST /runs/stop", "status=running", "the body takes: mode"),
        ("PATCH /runs/{id}", "deadline_s=5", "the body takes: deadline_s, tags"),
        ("POST /halt", "mode=now", "the body takes: mode"),
        ("DELETE /runs/{id}", "force=1", "this call takes none"),
    ],
)
async def test_what_is_asked_in_a_query_that_nobody_reads_is_refused(
    client: httpx.AsyncClient, served: Orchestrator, call: str, query: str, said: str
) -> None:
    run = await served.start("sleeper")
    method, _, path = call.format(id=run.id).partition(" ")
    body = {"tags": ["x"]} if method == "PATCH" else None
    answer = await client.request(method, f"{path}?{query}", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["field"] == query.partition("=")[0]
    assert said in error["message"]
    assert (run.status, run.record.tags) == ("running", ())


async def test_wait_s_waits_no_longer_than_it_says(client: httpx.AsyncClient) -> None:
    run = await start(client, "sleeper")
    with trio.fail_after(5):
        answer = await client.get(f"/runs/{run['id']}", params={"wait_s": 0.05})
    assert answer.json()["status"] == "running"


async def test_health_and_readiness(client: httpx.AsyncClient, served: Orchestrator) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json() == {
        "status": "ready",
        "reasons": [],
        "warnings": [],
    }

    served.refuse_starts("closing")

    assert (await client.get("/readyz")).status_code == 503
    refused = await client.post("/runs", json={"agent": "sleeper"})
    assert refused.status_code == 503
    assert refused.headers["Retry-After"]
    assert json.loads(refused.content)["type"] == "urn:quiesce:starts-refused"

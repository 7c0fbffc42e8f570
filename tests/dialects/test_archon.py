"""Archon: every row of what its stop does, against a real server and a real site."""

from __future__ import annotations

import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.api.processes import Site, quiesce
from tests.orchestrator.agents.documents import encrypted, pdf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.dialects.conftest import Server

pytestmark = pytest.mark.slow

BOUND_S = 30.0
STARTED = {"success", "progressId", "message"}
NO_TASK = {"error": "No active task for given progress_id"}
LINKS = "".join(f"<a href='/p{number}'>{number}</a>" for number in range(20))
PAGE = f"<title>Quiescence</title><p>Everything rests. {LINKS}".encode()


@pytest.fixture
def site() -> Iterator[Site]:
    """A site of many pages, each of which is answered when the test wants it."""
    head = b"Content-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(PAGE)
    opened = Site(head + PAGE)
    try:
        yield opened
    finally:
        opened.close()


def start(http: httpx.Client, site: Site, **more: Any) -> str:
    answer = http.post("/api/knowledge-items/crawl", json={"url": f"{site.url}/", **more})
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (set(said), said["success"], said["message"]) == (STARTED, True, "Crawling started")
    return str(said["progressId"])


def upload(http: httpx.Client, name: str, data: bytes, kind: str = "", **fields: Any) -> str:
    file = (name, data, kind or "application/octet-stream")
    answer = http.post("/api/documents/upload", files={"file": file}, data=fields)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (set(said), said["success"]) == (STARTED, True)
    return str(said["progressId"])


def progress(http: httpx.Client, progress_id: str) -> dict[str, Any]:
    found: dict[str, Any] = http.get(f"/api/crawl-progress/{progress_id}").json()
    return found


def stop(http: httpx.Client, progress_id: str) -> httpx.Response:
    return http.post(f"/api/knowledge-items/stop/{progress_id}")


def until(
    http: httpx.Client, progress_id: str, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Wait until the progress is like that."""
    ends = time.monotonic() + BOUND_S
    while not wanted(found := progress(http, progress_id)):
        assert time.monotonic() < ends, found
        time.sleep(0.05)  # another process: there is no event to wait for
    return found


def has(status: str) -> Callable[[dict[str, Any]], bool]:
    return lambda said: said["status"] == status


def half_done(http: httpx.Client, site: Site, **more: Any) -> str:
    """Start a crawl, and let it fetch some of its pages."""
    crawl = start(http, site, **more)
    site.answers.release(5)
    until(http, crawl, lambda said: said["progress"] > 0)
    site.wait_for("asked", 5 + 8)
    return crawl


def settled(http: httpx.Client, progress_id: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the progress and its tag once both calls say the same: all waits for the site."""
    ends = time.monotonic() + BOUND_S
    while time.monotonic() < ends:
        first = http.get(f"/api/progress/{progress_id}")
        tag = {"If-None-Match": first.headers["ETag"]}
        same = http.get(f"/api/crawl-progress/{progress_id}", headers=tag)
        if same.status_code == 304:
            assert same.content == b""
            return first.json(), tag
    raise AssertionError("it never comes to rest")


def search(http: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = http.get("/api/knowledge-items", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_A1_a_stop_is_answered_as_it_was(http: httpx.Client, site: Site) -> None:
    """That the store fails, and 500, is in the tests without a server."""
    crawl = start(http, site)
    site.wait_for("asked", 1)
    stopped = stop(http, crawl)
    assert (stopped.status_code, stopped.json()) == (
        200,
        {
            "success": True,
            "message": "Crawl task stopped successfully",
            "progressId": crawl,
        },
    )
    site.wait_for("open", 0)
    other = http.post("/runs", json={"agent": "catches_everything"}).json()["id"]
    for none in (crawl, "run_nothing", "%20", other):
        answer = stop(http, none)
        assert (answer.status_code, answer.json()) == (404, NO_TASK), none
    http.post(f"/runs/{other}/stop", json={"mode": "kill"})


def test_A1_what_has_ended_by_itself_cannot_be_stopped(http: httpx.Client, site: Site) -> None:
    crawl = start(http, site, max_pages=1)
    site.answers.release(2)
    until(http, crawl, has("completed"))
    answer = stop(http, crawl)
    assert (answer.status_code, answer.json()) == (404, NO_TASK)
    assert progress(http, crawl)["progress"] == 100


def test_A2_crawls_and_uploads_run_in_the_background(http: httpx.Client, site: Site) -> None:
    crawl = start(http, site, max_pages=3, max_depth=1, tags=["docs", "a"])
    assert progress(http, crawl)["status"] in ("starting", "crawling")
    sent = upload(http, "Résumé (final).pdf", pdf("zygomorphic flowers"), tags='["docs", "b"]')
    done = until(http, sent, has("completed"))
    assert (done["progress"], done["log"]) == (100, "1 chunks")
    assert progress(http, crawl)["status"] == "crawling"
    site.answers.release(5)
    until(http, crawl, has("completed"))
    tagged = http.get("/runs", params={"tag": "docs"}).json()["runs"]
    assert [(run["id"], run["agent"], run["tags"]) for run in tagged] == [
        (sent, "ingest", ["docs", "b"]),
        (crawl, "crawl", ["docs", "a"]),
    ]
    (found,) = search(http, search="zygomorphic")["items"]
    assert found == {
        "progressId": sent,
        "source": found["source"],
        "title": "Résumé (final).pdf",
        "page": 1,
        "start": 0,
        "end": 19,
        "text": "zygomorphic flowers",
    }
    assert crawl in {each["progressId"] for each in search(http, search="rests")["items"]}


def test_A3_progress_is_polled_and_a_stop_keeps_the_percentage(
    http: httpx.Client, site: Site
) -> None:
    crawl = half_done(http, site)
    before, tag = settled(http, crawl)
    assert set(before) == {"progressId", "status", "progress", "log", "logs"}
    assert (before["progressId"], before["status"]) == (crawl, "crawling")
    assert 0 < before["progress"] < 100

    stop(http, crawl)

    after = http.get(f"/api/crawl-progress/{crawl}", headers=tag)
    assert after.status_code == 200
    said = after.json()
    assert (said["status"], said["progress"]) == ("cancelled", before["progress"])
    assert said["log"] == said["logs"][-1] == "Crawl cancelled by user"
    assert said["logs"][:-1] == before["logs"]


def test_A6_each_attempt_to_stop_is_logged_with_its_id(
    http: httpx.Client, site: Site, server: Server
) -> None:
    crawl = start(http, site)
    site.wait_for("asked", 1)
    stop(http, crawl)
    stop(http, "run_never")
    for what in ("stop asked for", "stop settled"):
        line = json.loads(server.process.until(f'"{what}"'))
        while line["run_id"] != crawl:
            line = json.loads(server.process.until(f'"{what}"'))
    line = json.loads(server.process.until("run_never"))
    assert (line["event"], line["status"], line["method"]) == ("call", 404, "POST")
    assert line["route"] == "/api/knowledge-items/stop/{run_id}"


def test_B2_a_crawl_that_was_stopped_never_comes_back(site: Site, tmp_path: Path) -> None:
    """Not by a resume, not by another stop, and not with another server."""
    options = ["--port", "0", "--dialect", "archon"]
    with quiesce("serve", *options, cwd=tmp_path) as first:
        url = first.until("listening").split()[-1]
        with httpx.Client(base_url=url, timeout=30) as http:
            crawl = half_done(http, site)
            stop(http, crawl)
            stopped = progress(http, crawl)
            assert [http.post(f"/runs/{crawl}/resume").status_code for _ in range(5)] == [409] * 5
            asked = list(site.asked)
        first.popen.kill()
        first.popen.wait()
    with quiesce("serve", *options, cwd=tmp_path) as second:
        url = second.until("listening").split()[-1]
        with httpx.Client(base_url=url, timeout=30) as http:
            assert progress(http, crawl) == stopped
            assert stopped["status"] == "cancelled"
            assert http.post(f"/runs/{crawl}/resume").status_code == 409
            assert stop(http, crawl).status_code == 404
            # What was stored before the stop is found by the new process too.
            assert {each["progressId"] for each in search(http)["items"]} == {crawl}
    assert site.asked == asked
    site.wait_for("open", 0)


def test_B5_stops_at_once_leak_nothing(http: httpx.Client, site: Site, server: Server) -> None:
    def files() -> int:
        return len(os.listdir(f"/proc/{server.process.popen.pid}/fd"))

    def live() -> float:
        found = re.findall(r'^quiesce_runs{.*agent="crawl".*} (\S+)$', metrics(http), re.MULTILINE)
        return sum(map(float, found))

    stop(http, start(http, site))
    site.wait_for("open", 0)
    before = (files(), live())
    asked = len(site.asked)
    crawls = [start(http, site) for _ in range(12)]
    site.wait_for("asked", asked + 12)
    assert live() == before[1] + 12
    with ThreadPoolExecutor(12) as pool:
        codes = [each.status_code for each in pool.map(lambda each: stop(http, each), crawls)]
    assert codes == [200] * 12
    assert [progress(http, each)["status"] for each in crawls] == ["cancelled"] * 12
    site.wait_for("open", 0)
    # Of this client's own connections some may be kept alive.
    assert live() == before[1]
    assert files() <= before[0] + 12


def metrics(http: httpx.Client) -> str:
    return http.get("/metrics").text


def test_B7_stops_are_measured(http: httpx.Client, site: Site) -> None:
    def counted(name: str) -> float:
        found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics(http), re.MULTILINE)
        assert found, name
        return sum(map(float, found))

    names = ("quiesce_stops_total", "quiesce_stop_duration_seconds_count")
    before = [counted(name) for name in names]
    crawl = start(http, site)
    site.wait_for("asked", 1)
    stop(http, crawl)
    assert [counted(name) for name in names] == [each + 1 for each in before]


def test_B8_crawls_are_paused_and_go_on(http: httpx.Client, site: Site) -> None:
    crawl = half_done(http, site)
    assert http.post(f"/runs/{crawl}/pause").status_code == 202
    site.answers.release(40)
    while http.get(f"/runs/{crawl}").json()["status"] != "paused":
        time.sleep(0.05)
    assert progress(http, crawl)["status"] == "in_progress"
    assert http.post(f"/runs/{crawl}/resume").status_code == 202
    until(http, crawl, has("completed"))


def test_B8_many_are_stopped_by_one_call_and_partial_results_stay(
    http: httpx.Client, site: Site
) -> None:
    crawl = half_done(http, site, tags=["bulk-a3"])
    kept = http.get(f"/runs/{crawl}").json()["partial"]["done"]
    others = [start(http, site, tags=["bulk-a3"]) for _ in range(2)]
    asked = {"filter": {"tag": "bulk-a3"}, "mode": "now", "wait_s": 10}
    results = http.post("/runs/stop", json=asked).json()["results"]
    assert {each["run_id"] for each in results} == {crawl, *others}
    for each in (crawl, *others):
        assert progress(http, each)["log"] == "Crawl cancelled by user"
    assert http.get(f"/runs/{crawl}").json()["partial"]["done"] >= kept > 0
    assert crawl in {each["progressId"] for each in search(http, per_page=100)["items"]}


def test_B8_a_time_limit_ends_a_crawl(http: httpx.Client, site: Site) -> None:
    crawl = start(http, site)
    site.wait_for("asked", 1)
    assert http.patch(f"/runs/{crawl}", json={"deadline_s": 0.01}).status_code == 200
    until(http, crawl, lambda said: said["log"] == "Stopping crawl operation...")
    # What is in flight need not have its grace.
    http.post(f"/runs/{crawl}/stop", json={"mode": "now"})
    until(http, crawl, has("error"))
    assert http.get(f"/runs/{crawl}").json()["status"] == "timed_out"
    site.wait_for("open", 0)


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "url", "Field required"),
        ({"url": "nowhere"}, "url", "must be"),
        ({"url": "http://127.0.0.1:1/", "max_pages": 0}, "max_pages", "Input should be greater"),
        ({"url": "http://127.0.0.1:1/", "max_depth": "x"}, "max_depth", "Input should be a valid"),
        ({"url": "http://127.0.0.1:1/", "tags": "a"}, "tags", "must be a list"),
        ({"url": "http://127.0.0.1:1/", "depth": 1}, "depth", "is not known; known are:"),
    ],
)
def test_A2_a_crawl_that_does_not_fit_is_refused(
    http: httpx.Client, body: dict[str, Any], field: str, message: str
) -> None:
    answer = http.post("/api/knowledge-items/crawl", json=body)
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert (error["field"], error["message"][: len(message)]) == (field, message)


@pytest.mark.parametrize(
    ("files", "fields", "field", "message"),
    [
        ([], {}, "file", "must be given, once, as multipart/form-data"),
        ([b"a", b"b"], {}, "file", "must be given, once, as multipart/form-data"),
        ([b"a"], {"tags": "[1"}, "tags", "is no JSON array of strings"),
        ([b"a"], {"tags": "[1]"}, "tags.0", "Input should be a valid string"),
        ([b"a"], {"tag": "a"}, "tag", "is not known; known are:"),
    ],
)
def test_A2_an_upload_that_does_not_fit_is_refused(
    http: httpx.Client, files: list[bytes], fields: dict[str, str], field: str, message: str
) -> None:
    sent = [("file", ("a.txt", data, "text/plain")) for data in files]
    answer = http.post("/api/documents/upload", files=sent, data=fields)
    assert answer.status_code == 422, answer.text
    (error,) = answer.json()["errors"]
    assert (error["field"], error["message"][: len(message)]) == (field, message)


def test_A2_an_upload_that_is_too_large_is_refused(http: httpx.Client) -> None:
    answer = http.post("/api/documents/upload", files={"file": ("a.txt", b"x" * (8 * 2**20 + 1))})
    assert (answer.status_code, answer.json()["status"]) == (413, 413)
    assert "the body is larger than 8 MiB" in answer.json()["detail"]


def test_A2_an_upload_that_is_no_form_is_told_so(http: httpx.Client) -> None:
    answer = http.post("/api/documents/upload", json={"file": "words"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "file: must be given, once, as multipart/form-data"
    answer = http.post("/api/documents/upload", data={"tags": "a"})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("the body is not JSON, nor multipart/form-data: ")


def test_A2_a_document_that_cannot_be_read_says_why(http: httpx.Client) -> None:
    for name, data, why in (
        ("../../etc/passwd", b"", "is empty"),
        ("x" * 400 + ".pdf", encrypted(pdf("a"), "b"), "is encrypted; save it without a password"),
        (".", b"\0\0", "is neither PDF, HTML, Markdown nor text"),
    ):
        said = until(http, upload(http, name, data), has("error"))
        assert said["log"].endswith(why), said


def test_A2_what_archons_clients_say_beside_is_taken(http: httpx.Client, site: Site) -> None:
    more = {"knowledge_type": "technical", "update_frequency": 7, "extract_code_examples": True}
    stop(http, start(http, site, **more))
    fields = {"knowledge_type": "technical", "extract_code_examples": "true", "tags": "a, b"}
    sent = upload(http, "a.txt", b"words", **fields)
    assert http.get(f"/runs/{sent}").json()["tags"] == ["a", "b"]


@pytest.mark.parametrize("query", [{"page": 0}, {"per_page": 101}, {"search": "x" * 1_001}])
def test_A2_a_search_that_does_not_fit_is_refused(
    http: httpx.Client, query: dict[str, Any]
) -> None:
    answer = http.get("/api/knowledge-items", params=query)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == next(iter(query))


def test_A2_what_is_found_comes_in_pages(http: httpx.Client) -> None:
    texts = [f"heliotrope number {number}".encode() for number in range(3)]
    for number, text in enumerate(texts):
        until(http, upload(http, f"{number}.txt", text), has("completed"))
    pages = [search(http, search="heliotrope", page=page, per_page=2) for page in (1, 2, 3)]
    assert [(len(each["items"]), each["more"]) for each in pages] == [
        (2, True),
        (1, False),
        (0, False),
    ]
    found = {each["text"].encode() for each in pages[0]["items"] + pages[1]["items"]}
    assert found == set(texts)

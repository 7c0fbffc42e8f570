"""Archon's events, heard by the stock clients of Socket.IO, with a site at the other end."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.api.processes import Site, quiesce
from tests.dialects.clients import KINDS, Kind, connected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

LINKS = b"".join(b"<a href=/%d>x</a>" % number for number in range(9))
HTML = b"Content-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(LINKS) + LINKS
NODE = Kind("node", "")


@pytest.fixture
def new_site() -> Iterator[Callable[[], Site]]:
    """Makes sites of pages, each of which is answered when it is told to."""
    with ExitStack() as stack:

        def make() -> Site:
            site = Site(HTML)
            stack.callback(site.close)
            return site

        yield make


def crawl(http: httpx.Client, site: Site) -> str:
    """Start a crawl, and let it have its first page: eight more are under way then."""
    given = {"agent": "crawl", "input": {"url": f"{site.url}/", "concurrency": 8}}
    answer = http.post("/runs", json=given)
    assert answer.status_code == 201, answer.text
    for _ in range(3):  # robots.txt, the page, and the sitemap
        site.answers.release()
    site.wait_for("asked", 11)
    return str(answer.json()["id"])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_B1_a_stop_is_seen_at_both_ends_of_the_wire(
    kind: Kind, http: httpx.Client, new_site: Callable[[], Site]
) -> None:
    pages = new_site()
    run = crawl(http, pages)
    url = str(http.base_url).rstrip("/")
    with connected(kind, url) as one, connected(NODE, url) as two:
        for client in (one, two):
            assert client.ask("crawl_subscribe", run) == {"success": True, "progressId": run}
            assert client.wait("crawl_progress")[0]["status"] == "crawling"

        answer = one.ask("crawl_stop", run)

        assert answer["message"] == "Crawl task stopped successfully"
        pages.wait_for("open", 0)
        assert pages.left == 8
        assert len(pages.asked) == 11
        for client in (one, two):
            (stopped,) = client.wait("crawl:stopped")
            assert set(stopped) == {"progressId", "status", "message", "timestamp"}
            assert (stopped["status"], stopped["progressId"]) == ("cancelled", run)
            # Whatever else there was to say would have come before this answer.
            client.ask("crawl_unsubscribe", run)
            assert client.news()[-3:] == ["crawl:stopping", "crawl_progress", "crawl:stopped"]
            assert client.named("crawl:stopping") == [
                {"progressId": run, "message": "Stopping crawl operation..."}
            ]
            before, last = client.named("crawl_progress")[-2:]
            assert (last["status"], last["progress"]) == ("cancelled", before["progress"])
            assert client.named("disconnect") == client.named("error") == []
    assert http.get(f"/runs/{run}/stop").json()["outcome"] == "stopped"


def test_B1_a_stop_over_http_is_heard_by_every_client(
    http: httpx.Client, new_site: Callable[[], Site]
) -> None:
    run = crawl(http, new_site())
    url = str(http.base_url).rstrip("/")
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(kind, url)) for kind in (NODE, KINDS[1])]
        for client in clients:
            client.ask("crawl_subscribe", run)
        http.post(f"/runs/{run}/stop", json={"mode": "now"})
        for client in clients:
            client.wait("crawl:stopped")
            assert len(client.named("crawl:stopping")) == 1


def test_B3_while_a_stop_lets_requests_finish_no_progress_comes_but_the_last(
    http: httpx.Client, new_site: Callable[[], Site]
) -> None:
    site = new_site()
    run = crawl(http, site)
    with connected(NODE, str(http.base_url).rstrip("/")) as client:
        client.ask("crawl_subscribe", run)
        client.wait("crawl_progress")
        http.post(f"/runs/{run}/stop", json={"mode": "graceful"})
        client.wait("crawl:stopping")
        site.answers.release(8)
        client.wait("crawl:stopped")
        at = client.news().index("crawl:stopping")
        assert client.news()[at:] == ["crawl:stopping", "crawl_progress", "crawl:stopped"]
        assert client.named("crawl_progress")[-1]["status"] == "cancelled"
    assert http.get(f"/runs/{run}/stop").json()["operations"]["finished"] == 8
    assert len(site.asked) == 11


def test_B5_twelve_stops_at_once_are_each_heard_once(
    http: httpx.Client, new_site: Callable[[], Site]
) -> None:
    sites = [new_site() for _ in range(12)]
    runs = [crawl(http, site) for site in sites]
    with connected(NODE, str(http.base_url).rstrip("/")) as client:
        for run in runs:
            client.emit("crawl_subscribe", run)
        client.wait("answer", len(runs))
        for run in runs:
            client.emit("crawl_stop", run)
        stopped = client.wait("crawl:stopped", len(runs))
        client.wait("answer", 2 * len(runs))
        assert sorted(each["progressId"] for each in stopped) == sorted(runs)
        assert len(client.named("crawl:stopping")) == len(runs)
        for site in sites:
            site.wait_for("open", 0)
            assert len(site.asked) == 11


@pytest.mark.parametrize("kind", [NODE, Kind("node", "polling")], ids=str)
def test_B1_a_client_whose_connection_broke_is_in_its_rooms_by_itself(
    kind: Kind, http: httpx.Client, new_site: Callable[[], Site]
) -> None:
    """It has subscribed once, and hears of a stop after that all the same."""
    run = crawl(http, new_site())
    with connected(kind, str(http.base_url).rstrip("/")) as client:
        client.ask("crawl_subscribe", run)
        told = len(client.wait("crawl_progress"))
        client.emit("break", run)
        assert client.wait("connect", 2) == ["new", "recovered"]
        assert client.wait("crawl_progress", told + 1)[-1]["status"] == "crawling"
        http.post(f"/runs/{run}/stop", json={"mode": "now"})
        client.wait("crawl:stopped")
        assert len(client.named("crawl:stopping")) == 1


@pytest.mark.parametrize("kind", [NODE, Kind("node", "polling"), Kind("python", "")], ids=str)
def test_B2_after_the_server_was_killed_a_client_is_back_in_its_rooms(
    kind: Kind, tmp_path: Path, new_site: Callable[[], Site]
) -> None:
    """It hears at once of a stop before that, and of a run that went down with the server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    serve = ["serve", "--port", port, "--dialect", "archon"]
    with ExitStack() as stack:
        first = stack.enter_context(quiesce(*serve, cwd=tmp_path))
        url = first.until("listening").split()[-1]
        http = stack.enter_context(httpx.Client(base_url=url, timeout=30))
        sites = [new_site(), new_site()]
        stopped, killed = [crawl(http, site) for site in sites]
        client = stack.enter_context(connected(kind, url))
        for run in (stopped, killed):
            client.ask("crawl_subscribe", run)
        client.ask("crawl_stop", stopped)
        client.wait("crawl:stopped")

        first.signal(signal.SIGKILL)
        client.wait("disconnect")
        second = stack.enter_context(quiesce(*serve, cwd=tmp_path))
        second.until("listening")
        client.wait("connect", 2)
        told = len(client.named("crawl_progress"))
        for run in (stopped, killed):
            client.ask("crawl_subscribe", run)

        news: list[dict[str, Any]] = client.wait("crawl_progress", told + 2)[told:]
        assert {each["progressId"]: each["status"] for each in news} == {
            stopped: "cancelled",
            killed: "error",
        }
        assert client.wait("crawl:stopped", 2)[1]["progressId"] == stopped
        assert len(client.named("crawl:stopping")) == 1
        assert [len(site.asked) for site in sites] == [11, 11]

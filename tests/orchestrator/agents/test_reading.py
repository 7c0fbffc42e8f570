"""Reading in threads: never on the loop, never longer than somebody waits, never without end."""

from __future__ import annotations

import threading
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from protego import Protego

from orchestrator import Orchestrator, RunStatus, StopMode
from orchestrator.agents._crawl import reading
from orchestrator.agents._crawl.fetch import Reply
from orchestrator.agents._crawl.page import read_page
from orchestrator.agents._crawl.reading import Reader
from orchestrator.agents._crawl.robots import Robots
from orchestrator.agents._crawl.scope import Scope
from orchestrator.agents._crawl.sitemap import read_sitemap
from orchestrator.agents.crawl import crawl
from tests.orchestrator.agents.crawling import crawled

if TYPE_CHECKING:
    from tests.orchestrator.agents.site import Site

ROOT = "http://example.org"
LINKS = 5_000
PAGE = "".join(f"<a href=/{n}>x</a>" for n in range(LINKS)).encode()
SITEMAP = b"<urlset>" + b"<url><loc>/x</loc></url>" * LINKS + b"</urlset>"
RULES = b"User-agent: *\n" + b"Disallow: /x\n" * LINKS


def reply(body: bytes) -> Reply:
    return Reply(
        url=f"{ROOT}/", status=200, headers=httpx.Headers({"content-type": "text/html"}), body=body
    )


class Judge(Robots):
    """Takes a while for each address, and can be asked what it is doing."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{ROOT}/robots.txt")
        self._seconds = seconds
        self.asked = 0
        self.busy = threading.Event()

    def allows(self, url: str) -> bool:
        self.asked += 1
        self.busy.set()
        threading.Event().wait(self._seconds)
        return True

    @property
    def scope(self) -> Scope:
        return Scope.of("example.org", self, (), ())

    async def asked_for(self, number: int) -> None:
        """Wait until so many addresses were looked at."""
        while self.asked < number:
            self.busy.clear()
            await trio.to_thread.run_sync(self.busy.wait, 5)

    async def works_on(self) -> bool:
        """Whether another address is looked at within a moment."""
        self.busy.clear()
        return await trio.to_thread.run_sync(self.busy.wait, 0.2)


@pytest.mark.parametrize("what", ["page", "sitemap"])
async def test_a_thread_that_nobody_waits_for_has_ended(what: str) -> None:
    judge, reader = Judge(0.01), Reader()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            if what == "page":
                nursery.start_soon(reader.page, reply(PAGE), judge.scope)
            else:
                nursery.start_soon(reader.sitemap, reply(SITEMAP), judge.scope)
            assert await trio.to_thread.run_sync(judge.busy.wait, 4)
            nursery.cancel_scope.cancel()
        assert not await judge.works_on()
    assert judge.asked < LINKS / 5


async def test_a_thread_whose_time_is_up_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "READ_S", 0.3)
    judge, reader = Judge(0.01), Reader()
    with trio.fail_after(5):
        assert await reader.page(reply(PAGE), judge.scope) is None
        assert not await judge.works_on()
    assert judge.asked < LINKS / 5


async def test_a_stopped_crawl_computes_no_more(
    orchestrator: Orchestrator, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge(0.01)
    site.page("/", *(f"/{n}" for n in range(LINKS)))
    monkeypatch.setattr(Robots, "allows", lambda _, url: judge.allows(url))
    with trio.fail_after(10):
        run = await orchestrator.start(crawl, {"url": site.url("/")})
        await judge.asked_for(10)
        receipt = await run.stop(mode=StopMode.NOW)
        assert not await judge.works_on()
    assert run.status == RunStatus.STOPPED
    assert receipt.seconds is not None
    assert receipt.seconds < 1
    assert judge.asked < LINKS / 5


async def test_a_graceful_stop_waits_for_the_page_that_is_being_read(
    orchestrator: Orchestrator, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge(0.01)
    site.page("/", *(f"/{n}" for n in range(50)))
    monkeypatch.setattr(Robots, "allows", lambda _, url: judge.allows(url))
    with trio.fail_after(10):
        run = await orchestrator.start(crawl, {"url": site.url("/")})
        await judge.asked_for(10)
        receipt = await run.stop()
    assert receipt.operations.finished == 1
    assert site.targets() == ["/"]
    kept: dict[str, list[dict[str, str]]] = await orchestrator.partial(run.id)
    assert [page["url"] for page in kept["pages"]] == [site.url("/")]


async def test_there_is_an_end_to_comparing_addresses_with_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reading, "thread_time", partial(next, count(0, reading.JUDGE_S / 4)))
    scope, reader = Judge(0).scope, Reader()
    with trio.fail_after(5):
        read = await reader.page(reply(PAGE), scope)
        sitemap = await reader.sitemap(reply(SITEMAP), scope)
    assert read is not None
    html, links = read
    assert (html.truncated, links) == (True, [f"{ROOT}/{n}" for n in range(4)])
    assert len(sitemap.pages) == 4
    assert sitemap.problem == "comparing it with robots.txt took more than 2 seconds"


async def test_robots_are_read_and_asked_beside_the_loop(
    orchestrator: Orchestrator, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    worked: set[int] = set()
    parse, allows = Protego.parse, Robots.allows

    def noted_parse(text: str) -> Protego:
        worked.add(threading.get_ident())
        return parse(text)

    def noted_allows(robots: Robots, url: str) -> bool:
        worked.add(threading.get_ident())
        return allows(robots, url)

    monkeypatch.setattr(Protego, "parse", noted_parse)
    monkeypatch.setattr(Robots, "allows", noted_allows)
    site.page("/", "/old")
    site.redirect("/old", "/new")
    site.page("/new")
    await crawled(orchestrator, site.url("/"))
    assert worked
    assert threading.get_ident() not in worked


class Enough(Exception):
    pass


@pytest.mark.parametrize(
    "read",
    [
        partial(Robots, ROOT, RULES),
        partial(Robots, ROOT, b"Sitemap: /x\n" * LINKS),
        partial(read_sitemap, ROOT, SITEMAP[:8] + b" " * 2**22 + SITEMAP[8:]),
        partial(read_page, ROOT, PAGE, "", ""),
        partial(read_page, ROOT, b"<b></b>" * LINKS * 3, "", ""),
    ],
    ids=["rules", "sitemaps of robots", "sitemap", "links", "elements"],
)
def test_work_looks_often_whether_it_is_to_end(read: partial[object]) -> None:
    looks = count()
    read(lambda: next(looks))
    often = next(looks)
    assert often >= 30

    def end_before_the_last() -> None:
        if next(looks) == 2 * often - 1:
            raise Enough

    with pytest.raises(Enough):
        read(end_before_the_last)


def test_rules_for_many_other_crawlers_take_no_quadratic_time() -> None:
    agents = b"".join(b"User-agent: bot%d\n" % n for n in range(20_000))
    rules = b"".join(b"Disallow: /%d\n" % n for n in range(10_000))
    # In seconds: a tenth is right, and the quadratic one would take minutes and all memory.
    robots = Robots(ROOT, agents + rules + b"User-Agent * \nDisallow: /private\n")
    assert robots.allows(f"{ROOT}/1")
    assert not robots.allows(f"{ROOT}/private")


@pytest.mark.parametrize(
    "agent",
    [
        "*",
        " QUIESCE # me",
        "Quiesce*",
        "*quiesce",
        "bot\nUser-agent: quiesce",
        "quiesce\nUser-agent",
    ],
)
def test_rules_are_heeded_however_this_crawler_is_named(agent: str) -> None:
    robots = Robots(ROOT, f"User-agent: {agent}\nDisallow: /private".encode())
    assert not robots.allows(f"{ROOT}/private")


@pytest.mark.parametrize("agent", ["bot", "Quiesce/1.0", "myquiesce", "**", "", "bot\nSitemap: /x"])
def test_rules_for_others_are_left_alone(agent: str) -> None:
    robots = Robots(ROOT, f"User-agent: {agent}\nDisallow: /private".encode())
    assert robots.allows(f"{ROOT}/private")

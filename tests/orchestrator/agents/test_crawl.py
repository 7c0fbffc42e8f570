"""The crawler against a real site: what it asks for, in which order, and what it keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import InvalidInput, Orchestrator
from orchestrator.agents._crawl import fetch as fetching
from orchestrator.agents.crawl import crawl
from tests.orchestrator.agents.crawling import crawled, failure, finished
from tests.orchestrator.agents.site import Answer

if TYPE_CHECKING:
    from tests.orchestrator.agents.site import Site

pytestmark = pytest.mark.usefixtures("quick_retries")

HTML = {"Content-Type": "text/html"}


async def test_breadth_first_and_everything_once(orchestrator: Orchestrator, site: Site) -> None:
    site.page("/", "/a", "/b", "/#top", title="Home", text="Welcome")
    site.page("/a", "/", "/c", "/b", "//other.example/", "mailto:x@y")
    site.page("/b", "/d", "/a#x")
    site.page("/c", "/d", "/e")
    site.page("/d")
    site.page("/e", "/")

    pages = await crawled(orchestrator, site.url("/"), concurrency=1)

    assert site.targets() == ["/", "/a", "/b", "/c", "/d", "/e"]
    assert [page["depth"] for page in pages] == [0, 1, 1, 2, 2, 3]
    assert pages[0] == {
        "url": site.url("/"),
        "title": "Home",
        "status": 200,
        "depth": 0,
        "content_type": "text/html",
        "text": "Welcome\n/a /b /#top",
    }
    assert site.times("/robots.txt") == site.times("/sitemap.xml") == 1


async def test_one_connection_serves_one_worker(orchestrator: Orchestrator, site: Site) -> None:
    site.says("/robots.txt", Answer(b""))
    site.says("/sitemap.xml", Answer(b"<urlset/>"))
    site.page("/", *(f"/{n}" for n in range(10)))
    for n in range(10):
        site.page(f"/{n}")
    await crawled(orchestrator, site.url("/"), concurrency=1)
    with trio.fail_after(5):
        await site.until(lambda: site.open == 0)
    assert site.accepted == 1


async def test_concurrency_is_used_and_not_exceeded(orchestrator: Orchestrator, site: Site) -> None:
    go = trio.Event()
    site.page("/", *(f"/{n}" for n in range(10)))
    for n in range(10):
        site.page(f"/{n}", hold=go)
    with trio.fail_after(5):
        run = await orchestrator.start(crawl, {"url": site.url("/"), "concurrency": 4})
        await site.until(lambda: len(site.targets()) == 5)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert len(site.targets()) == 5
        go.set()
        await run.wait()
    assert len(site.targets()) == 11


@pytest.mark.parametrize("concurrency", [1, 8])
async def test_max_pages_is_exact_at_the_wire(
    orchestrator: Orchestrator, site: Site, concurrency: int
) -> None:
    site.page("/", *(f"/{n}" for n in range(50)))
    for n in range(50):
        site.page(f"/{n}", f"/{n}/more")
    record = await finished(orchestrator, site.url("/"), max_pages=7, concurrency=concurrency)
    assert len(site.targets()) == 7
    assert (record.result["done"], len(record.result["pages"])) == (7, 7)
    assert record.result["known"] >= 51
    assert record.progress.percent == 100


async def test_one_page_asks_for_no_sitemap(orchestrator: Orchestrator, site: Site) -> None:
    site.page("/", "/a")
    await crawled(orchestrator, site.url("/"), max_pages=1)
    assert [each.target for each in site.asked] == ["/robots.txt", "/"]


async def test_max_depth_is_exact(orchestrator: Orchestrator, site: Site) -> None:
    for n in range(5):
        site.page(f"/{n}", f"/{n + 1}")
    assert len(await crawled(orchestrator, site.url("/0"), max_depth=0)) == 1
    assert len(await crawled(orchestrator, site.url("/0"), max_depth=2)) == 3
    assert site.times("/sitemap.xml") == 1


async def test_overload_is_tried_again(orchestrator: Orchestrator, site: Site) -> None:
    home = Answer(b"<a href=/a>", headers=HTML)
    site.says("/", Answer(status=503), Answer(status=503), home)
    site.says("/a", Answer(hang_up=True), Answer(b"fine", headers=HTML))
    pages = await crawled(orchestrator, site.url("/"))
    assert site.targets() == ["/", "/", "/", "/a", "/a"]
    assert [page["status"] for page in pages] == [200, 200]


async def test_retry_after_is_kept_to_by_all(orchestrator: Orchestrator, site: Site) -> None:
    busy = Answer(status=429, headers={"Retry-After": "1"})
    site.page("/", "/a")
    site.says("/a", busy, Answer(b'<a href="/b">', headers=HTML))
    site.page("/b")
    await crawled(orchestrator, site.url("/"))
    first, second = [each.at for each in site.asked if each.target == "/a"]
    assert second - first >= 1


async def test_later_failures_are_pages_with_an_error(
    orchestrator: Orchestrator, site: Site
) -> None:
    site.page("/", "/gone", "/broken", "/down", "/bad-redirect", "/worse-redirect", "/ftp")
    site.says("/broken", Answer(status=500))
    site.says("/down", Answer(hang_up=True))
    site.redirect("/bad-redirect", "mailto:x@y")
    site.redirect("/worse-redirect", "http://[bad")
    site.redirect("/ftp", "ftp://127.0.0.1/x")
    pages = await crawled(orchestrator, site.url("/"), concurrency=1)
    assert [(page["status"], page.get("error", "")[:33]) for page in pages] == [
        (200, ""),
        (404, "answered 404 Not Found"),
        (500, "answered 500 Internal Server Erro"),
        (None, "could not be reached: the connect"),
        (None, "could not be reached: it redirect"),
        (302, "answered 302 Found"),
        (302, "answered 302 Found"),
    ]
    assert [site.times(target) for target in ("/gone", "/broken", "/down")] == [1, 3, 3]


async def test_other_types_are_recorded_and_not_read(
    orchestrator: Orchestrator, site: Site
) -> None:
    site.page("/", "/a.pdf", "/plain", "/untyped")
    site.says("/a.pdf", Answer(b"<a href=/x>", headers={"Content-Type": "Application/PDF; v=1"}))
    site.says("/plain", Answer(b"<a href=/x>", headers={"Content-Type": "text/plain"}))
    site.says("/untyped", Answer(b"<a href=/x>"))
    pages = await crawled(orchestrator, site.url("/"), concurrency=1)
    assert [(p["status"], p["content_type"], p["text"]) for p in pages[1:]] == [
        (200, "application/pdf", ""),
        (200, "text/plain", ""),
        (200, "", ""),
    ]


async def test_a_large_page_is_cut_off_and_says_so(orchestrator: Orchestrator, site: Site) -> None:
    start = b'<title>Large</title><a href="/a">early</a><p>'
    body = start + b" " * (4 * fetching.BODY_BYTES) + b'<a href="/b">late</a>'
    site.says("/", Answer(body, headers=HTML))
    site.page("/a")
    pages = await crawled(orchestrator, site.url("/"))
    assert (pages[0]["title"], pages[0]["truncated"]) == ("Large", True)
    assert site.targets() == ["/", "/a"]
    large = site.asked[1]
    assert large.cut
    assert large.sent < 2 * fetching.BODY_BYTES


async def test_hostile_links_do_no_harm(orchestrator: Orchestrator, site: Site) -> None:
    site.page(
        "/",
        *("javascript:alert(1)", "data:text/html,x", "mailto:x@y", "http://[bad", "http://a:b@c/"),
        *("/" + "x" * 10_000, "//", "///", "http:", "?", "#", "", " ", "/%", "/%zz", "/é", "\\\\x"),
        *("http://127.0.0.1:99999/", f"//127.0.0.1:{site.port}/ok", "/../../up", "/a\0b"),
    )
    pages = await crawled(orchestrator, site.url("/"), concurrency=1)
    assert [target for target in site.targets() if "?" not in target] == [
        *("/", "/%25", "/%25zz", "/%C3%A9", "/ok", "/up", "/a%EF%BF%BDb"),
    ]
    assert len(pages) == 7


async def test_progress_only_grows_and_ends_at_100(orchestrator: Orchestrator, site: Site) -> None:
    site.page("/")
    pages = "".join(f"<url><loc>/{n}</loc></url>" for n in range(20))
    site.says("/sitemap.xml", Answer(f"<urlset>{pages}</urlset>".encode()))
    for n in range(20):
        site.page(f"/{n}", *(f"/{n}/{m}" for m in range(5)))
    record = await finished(orchestrator, site.url("/"))
    told = [
        (event.data["percent"], event.data["message"])
        async for event in await orchestrator.events(record.id)
        if event.type == "run.progress"
    ]
    percents = [percent for percent, _ in told]
    assert percents == sorted(percents)
    assert told[0] == (0, "0 of 1 pages")
    assert told[1] == (0, "1 of 1 pages")
    assert told[2][1] == "1 of 21 pages"
    assert max(percents[:-1]) == 99
    assert told[-1] == (100, "100 pages")
    assert record.result["done"] == 100


async def test_each_try_is_an_operation(orchestrator: Orchestrator, site: Site) -> None:
    site.says("/", Answer(status=500), Answer(b"", headers=HTML))
    record = await finished(orchestrator, site.url("/"))
    labels = [
        event.data["label"].replace(site.root, "")
        async for event in await orchestrator.events(record.id)
        if event.type == "operation.started" and event.data["kind"] == "http"
    ]
    assert labels == ["GET /robots.txt", "GET /", "GET /", "GET /sitemap.xml"]


async def test_an_unreachable_start_fails_with_a_sentence(orchestrator: Orchestrator) -> None:
    assert await failure(orchestrator, "http://127.0.0.1:9/") == (
        "http://127.0.0.1:9/ could not be reached: connection refused; is the server running?"
    )


async def test_a_missing_start_fails(orchestrator: Orchestrator, site: Site) -> None:
    url = site.url("/nowhere")
    assert await failure(orchestrator, url) == f"{url} answered 404 Not Found"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": "example.org"}, "input.url"),
        ({"url": "http://ada:pw@example.org/"}, "input.url"),
        ({}, "input.url"),
        ({"url": "http://h/", "max_pages": 0}, "input.max_pages"),
        ({"url": "http://h/", "max_depth": -1}, "input.max_depth"),
        ({"url": "http://h/", "concurrency": 65}, "input.concurrency"),
        ({"url": "http://h/", "delay_s": float("nan")}, "input.delay_s"),
        ({"url": "http://h/", "include": ["docs/*"]}, "input.include.0"),
        ({"url": "http://h/", "include": "docs"}, "input.include"),
        ({"url": "http://h/", "depth": 1}, "input.depth"),
    ],
)
async def test_bad_input_is_refused(
    orchestrator: Orchestrator, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        await orchestrator.start(crawl, given)
    assert [name for name, _ in refused.value.problems] == [field]

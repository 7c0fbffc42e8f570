"""What a site asks of a crawler: robots.txt, sitemaps, directives, canonicals and redirects."""

from __future__ import annotations

import gzip
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import trio

from orchestrator.agents.crawl import MAX_HOPS
from tests.orchestrator.agents.crawling import crawled, failure
from tests.orchestrator.agents.site import Answer

if TYPE_CHECKING:
    from orchestrator import Orchestrator
    from tests.orchestrator.agents.site import Site

pytestmark = pytest.mark.usefixtures("quick_retries")


async def test_robots_are_obeyed_at_the_wire(orchestrator: Orchestrator, site: Site) -> None:
    rules = "User-agent: *\nDisallow: /\n\nUser-agent: quiesce\nDisallow: /private\nAllow: /"
    site.says("/robots.txt", Answer(rules.encode()))
    site.page("/", "/private/a", "/public", "/to-private")
    site.page("/public")
    site.redirect("/to-private", "/private/b")

    pages = await crawled(orchestrator, site.url("/"), concurrency=1)

    assert site.targets() == ["/", "/public", "/to-private"]
    assert pages[2]["error"] == "redirects, but robots.txt disallows that"
    assert pages[2]["redirected_to"] == site.url("/private/b")


async def test_a_disallowed_start_fails(orchestrator: Orchestrator, site: Site) -> None:
    site.says("/robots.txt", Answer(b"User-agent: *\nDisallow: /x"))
    assert await failure(orchestrator, site.url("/x")) == (
        f"{site.url('/x')} may not be crawled: the robots.txt of 127.0.0.1:{site.port}"
        " disallows it for the user agent Quiesce"
    )
    assert site.targets() == []


async def test_robots_that_cannot_be_had_allow_nothing(
    orchestrator: Orchestrator, site: Site
) -> None:
    site.says("/robots.txt", Answer(status=503))
    message = await failure(orchestrator, site.url("/"))
    assert "/robots.txt answered 503 Service Unavailable, and while a site cannot say" in message
    assert [each.target for each in site.asked] == ["/robots.txt"] * 3


async def test_half_of_the_robots_is_not_obeyed_as_the_whole(
    orchestrator: Orchestrator, site: Site
) -> None:
    rules = gzip.compress(b"User-agent: *\nDisallow: /private")
    gzipped = {"Content-Encoding": "gzip"}
    site.says("/robots.txt", Answer(rules[:-9], headers=gzipped), Answer(rules, headers=gzipped))
    site.page("/", "/private", "/public")
    site.page("/public")
    await crawled(orchestrator, site.url("/"))
    assert site.targets() == ["/", "/public"]

    site.says("/robots.txt", Answer(rules[:-9], headers=gzipped))
    message = await failure(orchestrator, site.url("/"))
    assert message.endswith("answer was whole (its gzip encoding has no end)")
    assert site.targets() == ["/", "/public"]


async def test_robots_are_followed_through_redirects(
    orchestrator: Orchestrator, site: Site
) -> None:
    site.redirect("/robots.txt", "/real-robots.txt")
    site.says("/real-robots.txt", Answer(b"User-agent: *\nDisallow: /x"))
    site.page("/", "/x", "/y")
    await crawled(orchestrator, site.url("/"), concurrency=1)
    assert site.targets() == ["/real-robots.txt", "/", "/y"]


async def test_delays_are_kept_between_all_requests(orchestrator: Orchestrator, site: Site) -> None:
    site.says("/robots.txt", Answer(b"User-agent: *\nCrawl-delay: 0.05"))
    site.page("/", "/a", "/b")
    own = trio.current_time()
    await crawled(orchestrator, site.url("/"), delay_s=0.2)
    sites = trio.current_time()
    await crawled(orchestrator, site.url("/"), delay_s=0.01)
    assert len(site.asked) == 10
    # A request may be seen late on a busy machine, and then close to the next, but never early.
    assert all(each.at - own >= 0.2 * n for n, each in enumerate(site.asked[:5]))
    # That of the site is known once its robots.txt was read.
    later = site.asked[6:]
    assert all(each.at - sites >= 0.05 * n for n, each in enumerate(later))
    assert min(after.at - before.at for before, after in pairwise(later)) < 0.15


async def test_sitemaps_seed_the_frontier(orchestrator: Orchestrator, site: Site) -> None:
    def urls(*targets: str) -> bytes:
        locations = "".join(f"<url><loc>{site.url(target)}</loc></url>" for target in targets)
        return f"<urlset>{locations}</urlset>".encode()

    index = f"<sitemapindex><sitemap><loc>{site.url('/b.xml.gz')}</loc></sitemap></sitemapindex>"
    site.says("/robots.txt", Answer(b"Sitemap: /index.xml\nSitemap: http://other.example/s.xml"))
    site.says("/index.xml", Answer(index.encode()))
    site.says("/b.xml.gz", Answer(gzip.compress(urls("/mapped", "/linked"))))
    site.redirect("/sitemap.xml", "/usual.xml")
    site.says("/usual.xml", Answer(urls("/usual")[:-9]))
    site.page("/", "/linked")
    site.page("/linked", "/deep")
    for target in ("/mapped", "/usual", "/deep"):
        site.page(target)

    pages = await crawled(orchestrator, site.url("/"), concurrency=1)

    assert {page["url"].removeprefix(site.root): page["depth"] for page in pages} == {
        "/": 0,
        "/linked": 1,
        "/usual": 1,
        "/mapped": 1,
        "/deep": 2,
    }


async def test_include_and_exclude(orchestrator: Orchestrator, site: Site) -> None:
    site.page("/", "/docs/a", "/docs/b?print=1", "/blog/a")
    site.page("/docs/a")
    await crawled(orchestrator, site.url("/"), include=["/docs/*"], exclude=["*print=1"])
    assert site.targets() == ["/", "/docs/a"]


async def test_nofollow_noindex_and_base(orchestrator: Orchestrator, site: Site) -> None:
    site.page("/", "a", head='<base href="/sub/">')
    site.page("/sub/a", "c", "b", head='<meta name="robots" content="noindex">', title="Secret")
    site.page("/sub/b", "d", head='<meta name="robots" content="nofollow">')
    site.page("/sub/c")

    pages = await crawled(orchestrator, site.url("/"), concurrency=1)

    assert site.targets() == ["/", "/sub/a", "/sub/c", "/sub/b"]
    assert pages[1]["noindex"] is True
    assert (pages[1]["title"], pages[1]["text"]) == (None, "")


async def test_canonical_pages_are_not_fetched_twice(
    orchestrator: Orchestrator, site: Site
) -> None:
    canonical = '<link rel="canonical" href="/a">'
    site.page("/", "/a?x=1", "/a?x=2", "/a", "/z")
    site.page("/a?x=1", head=canonical, text="the text")
    site.page("/a?x=2", head=canonical, text="the text")
    site.page("/z", head='<link rel="canonical" href="http://other.example/z">', text="kept")

    pages = await crawled(orchestrator, site.url("/"), concurrency=1)

    assert site.targets() == ["/", "/a?x=1", "/a?x=2", "/z"]
    assert pages[1]["canonical"] == pages[2]["canonical"] == site.url("/a")
    assert pages[1]["text"].startswith("the text")
    assert (pages[2]["text"], pages[2]["duplicate"]) == ("", True)
    assert pages[3]["text"] == "kept"


async def test_redirects_within_the_site_are_followed_once(
    orchestrator: Orchestrator, site: Site
) -> None:
    site.page("/", "/old", "/older", "/new")
    site.redirect("/old", "/moved", 301)
    site.redirect("/moved", "new#part", 308)
    site.redirect("/older", "/late")
    site.page("/new", title="New")
    site.page("/late", title="Late")

    pages = await crawled(orchestrator, site.url("/"), concurrency=1)

    assert site.targets() == ["/", "/old", "/moved", "/older", "/late", "/new"]
    assert [(p["url"].removeprefix(site.root), p["status"]) for p in pages] == [
        ("/", 200),
        ("/moved", 308),
        ("/late", 200),
        ("/new", 200),
    ]
    assert pages[1]["redirected_to"] == site.url("/new")
    assert pages[1]["redirected_from"] == [site.url("/old")]
    assert "error" not in pages[1]
    assert pages[2]["redirected_from"] == [site.url("/older")]


async def test_redirects_off_the_site_are_not_followed(
    orchestrator: Orchestrator, site: Site, other: Site
) -> None:
    other.page("/elsewhere")
    site.page("/", "/out")
    site.redirect("/out", other.url("/elsewhere"))
    pages = await crawled(orchestrator, site.url("/"))
    assert pages[1]["error"] == "redirects, but that is on another site"
    assert (pages[1]["status"], pages[1]["redirected_to"]) == (302, other.url("/elsewhere"))
    assert other.accepted == 0


async def test_the_start_may_redirect_to_the_site(
    orchestrator: Orchestrator, site: Site, other: Site
) -> None:
    site.redirect("/", other.url("/home"))
    other.says("/robots.txt", Answer(b"User-agent: *\nDisallow: /x"))
    other.page("/home", "/x", "/y", site.url("/back"))
    other.page("/y")
    pages = await crawled(orchestrator, site.url("/"), concurrency=1)
    assert [each.target for each in site.asked] == ["/robots.txt", "/"]
    assert other.targets() == ["/home", "/y"]
    assert pages[0]["redirected_from"] == [site.url("/")]


async def test_redirects_without_end_are_ended(orchestrator: Orchestrator, site: Site) -> None:
    site.page("/", "/a", "/self", "/0")
    site.redirect("/a", "/b")
    site.redirect("/b", "/a")
    site.redirect("/self", "/self")
    for n in range(MAX_HOPS + 5):
        site.redirect(f"/{n}", f"/{n + 1}")

    pages = await crawled(orchestrator, site.url("/"), concurrency=1)

    loop = "its redirects lead back to itself"
    assert [page.get("error") for page in pages] == [
        None,
        loop,
        loop,
        "it redirects more than 10 times",
    ]
    assert site.targets()[-1] == f"/{MAX_HOPS}"
    assert await failure(orchestrator, site.url("/a")) == (
        f"{site.url('/a')} cannot be fetched: {loop}"
    )

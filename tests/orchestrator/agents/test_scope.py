"""Which addresses may be fetched: the site, robots.txt, and the user's globs."""

from __future__ import annotations

import pytest

from orchestrator.agents._crawl.robots import Robots
from orchestrator.agents._crawl.scope import NOWHERE, Scope, glob

ROBOTS = b"""\xef\xbb\xbf
User-agent: *
Disallow: /all
User-agent: quiesce
Disallow: /private
Allow: /private/open
Disallow: /*.cgi$
Crawl-delay: 2.5
Sitemap: https://example.org/map.xml
Sitemap: /other.xml
Sitemap: http://[bad
"""


def scope(*, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Scope:
    robots = Robots("http://example.org/robots.txt", ROBOTS)
    return Scope.of("example.org", robots, include, exclude)


def test_robots() -> None:
    robots = Robots("http://example.org/robots.txt", ROBOTS)
    allowed = [
        path
        for path in ("/", "/all", "/private", "/private/x", "/private/open/x", "/x.cgi", "/x.cgi?")
        if robots.allows(f"http://example.org{path}")
    ]
    assert allowed == ["/", "/all", "/private/open/x", "/x.cgi?"]
    assert robots.delay_s == 2.5
    assert robots.sitemaps == (
        "https://example.org/map.xml",
        "http://example.org/other.xml",
        "http://example.org/sitemap.xml",
    )


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xfe\x00garbage", b"<html>no</html>", b"Disallow: /", b"Crawl-delay: nan"]
)
def test_robots_that_say_nothing_allow_everything(body: bytes) -> None:
    robots = Robots("http://example.org/robots.txt", body)
    assert robots.allows("http://example.org/x")
    assert robots.delay_s == 0


def test_scope_is_one_site() -> None:
    assert scope().allows("http://example.org/x")
    assert scope().allows("https://example.org/x")
    assert scope().why_not("http://www.example.org/x") == "that is on another site"
    assert scope().why_not("http://example.org:8080/x") == "that is on another site"
    assert scope().why_not("http://example.org/private") == "robots.txt disallows that"
    assert not NOWHERE.allows("http://example.org/")


def test_globs_are_for_path_and_query() -> None:
    docs = scope(include=("/docs/*", "*.html"), exclude=("*print=1*", "/docs/[ab]?/*"))
    allowed = [
        path
        for path in (
            "/",
            "/docs/",
            "/docs/deep/er",
            "/docs/x?print=1",
            "/docs/a1/x",
            "/docs/c1/x",
            "/Docs/x",
            "/index.html",
            "/index.html?x",
        )
        if docs.allows(f"http://example.org{path}")
    ]
    assert allowed == ["/docs/", "/docs/deep/er", "/docs/c1/x", "/index.html"]


def test_globs_are_written_as_people_write() -> None:
    assert scope(include=("/café/*",)).allows("http://example.org/caf%C3%A9/x")
    assert scope(include=("/a b",)).allows("http://example.org/a%20b")


def test_a_glob_that_matches_nothing_is_refused() -> None:
    assert glob("/docs/*") == "/docs/*"
    with pytest.raises(ValueError, match=r"must begin with / or \*, for instance \*/docs/\*"):
        glob("docs/*")

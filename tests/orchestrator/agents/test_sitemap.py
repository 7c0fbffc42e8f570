"""Sitemaps: what they name, and that hostile ones do no harm."""

from __future__ import annotations

import gzip

import pytest

from orchestrator.agents._crawl.sitemap import MAX_LOCATIONS, SITEMAP_BYTES, read_sitemap

URL = "http://example.org/maps/a.xml"
NS = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"'
PAGES = f"""<?xml version="1.0" encoding="UTF-8"?>
<urlset {NS} xmlns:image="http://www.google.com/schemas/sitemap-image/1.1">
  <url><loc> http://example.org/a?x=1&amp;y=2 </loc><lastmod>2026-01-01</lastmod>
    <image:image><image:loc>http://example.org/i.png</image:loc></image:image></url>
  <url><loc><![CDATA[http://example.org/b]]></loc></url>
  <url><loc>javascript:no</loc></url>
  <url><loc>/relative</loc></url>
</urlset>""".encode()
BOMB = b"""<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<urlset><url><loc>http://example.org/&b;</loc></url></urlset>"""


@pytest.mark.parametrize(
    "body",
    [PAGES, gzip.compress(PAGES), gzip.compress(PAGES[:99]) + gzip.compress(PAGES[99:])],
    ids=["plain", "gzip", "gzip of two members"],
)
def test_pages(body: bytes) -> None:
    found = read_sitemap(URL, body)
    assert found.pages == [
        "http://example.org/a?x=1&y=2",
        "http://example.org/b",
        "http://example.org/relative",
    ]
    assert (found.sitemaps, found.problem) == ([], "")


def test_an_index() -> None:
    body = f"<sitemapindex {NS}><sitemap><loc>b.xml.gz</loc></sitemap></sitemapindex>"
    found = read_sitemap(URL, body.encode())
    assert (found.pages, found.sitemaps) == ([], ["http://example.org/maps/b.xml.gz"])


def test_entities_are_refused() -> None:
    found = read_sitemap(URL, BOMB)
    assert found.pages == []
    assert found.problem == "it has a document type, which no sitemap needs"


def test_a_broken_one_is_read_up_to_there() -> None:
    found = read_sitemap(URL, PAGES[: PAGES.index(b"<![CDATA")])
    assert found.pages == ["http://example.org/a?x=1&y=2"]
    assert "no element found" in found.problem


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><p>not found",
        b"\x1f\x8bnot gzip",
        b"\xff\xfe<",
        b"<?xml version='1.0' encoding='no-such'?><urlset/>",
        b"<url>" * 100_000,
    ],
)
def test_what_is_no_sitemap_has_no_pages(body: bytes) -> None:
    found = read_sitemap(URL, body)
    assert found.pages == []
    assert found.problem


def test_what_is_decompressed_is_bounded() -> None:
    body = gzip.compress(b"<urlset>" + b" " * (5 * SITEMAP_BYTES))
    assert "no element found" in read_sitemap(URL, body).problem


@pytest.mark.slow
def test_the_number_of_locations_is_bounded() -> None:
    one = b"<url><loc>http://example.org/</loc></url>"
    found = read_sitemap(URL, b"<urlset>" + one * (MAX_LOCATIONS + 1) + b"</urlset>")
    assert len(found.pages) == MAX_LOCATIONS
    assert found.problem == "it has more than 50,000 locations"

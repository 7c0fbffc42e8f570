"""One request: its bounds, its errors in words, and when it is tried again."""

from __future__ import annotations

import gzip
import ssl
import zlib
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trustme

from orchestrator.agents._crawl import fetch as module
from orchestrator.agents._crawl.fetch import (
    BODY_BYTES,
    RETRY_AFTER_MAX_S,
    TRIES,
    Reply,
    fetch,
    retry_after,
    wait_before_retry,
)
from orchestrator.agents._crawl.intake import Intake
from tests.orchestrator.agents.site import Answer, Site, open_site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

URL = "http://example.org/x"


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=httpx.Timeout(None, connect=10)) as client:
        yield client


def reply(status: int | None = None, *, transient: bool = False, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(url=URL, status=status, transient=transient, headers=httpx.Headers(named))


@pytest.mark.parametrize("status", [200, 204, 301, 304, 400, 401, 403, 404, 410])
def test_most_answers_are_final(status: int) -> None:
    assert wait_before_retry(reply(status), 1) is None


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599])
def test_overload_is_tried_again_with_growing_waits(status: int) -> None:
    waits = [wait_before_retry(reply(status), attempt) for attempt in (1, 2, 3)]
    assert waits[0] is not None
    assert waits[1] is not None
    assert 0.25 <= waits[0] <= 0.75
    assert 0.5 <= waits[1] <= 1.5
    assert waits[2] is None
    assert TRIES == 3


def test_waits_are_spread_but_the_same_each_time() -> None:
    waits = {
        wait_before_retry(Reply(url=f"{URL}{n}", transient=True), 1) for n in (1, 2, 3, 1, 2, 3)
    }
    assert len(waits) == 3


def test_only_transient_failures_are_tried_again() -> None:
    assert wait_before_retry(reply(transient=True), 1) is not None
    assert wait_before_retry(reply(transient=False), 1) is None


DATE = "Sat, 21 Nov 2026 06:00:00 GMT"


@pytest.mark.parametrize(
    ("value", "date", "seconds"),
    [
        ("7", "", 7),
        (" 0 ", "", 0),
        ("86400", "", RETRY_AFTER_MAX_S),
        ("9" * 400, "", RETRY_AFTER_MAX_S),
        ("Sat, 21 Nov 2026 06:00:30 GMT", DATE, 30),
        ("Sat, 21 Nov 2026 05:00:00 GMT", DATE, 0),
        ("Sun, 22 Nov 2026 06:00:00 GMT", DATE, RETRY_AFTER_MAX_S),
        ("Sat, 21 Nov 2026 06:00:30 GMT", "", None),
        ("-5", "", None),
        ("soon", DATE, None),
        ("²", "", None),
        ("", "", None),
    ],
)
def test_retry_after(value: str, date: str, seconds: float | None) -> None:
    headers = httpx.Headers([(b"Retry-After", value.encode()), (b"Date", date.encode())])
    assert retry_after(headers) == seconds


def test_a_redirect_is_resolved_and_may_be_unusable() -> None:
    assert reply(302, location="../y#z").redirect == "http://example.org/y"
    assert reply(302, location="mailto:x@y").redirect is None
    assert reply(302).redirect is None
    assert reply(304, location="/y").redirect is None
    assert reply(200, location="/y").redirect is None


def test_problems_are_ends_of_sentences() -> None:
    assert reply(204).problem == ""
    assert reply(404).problem == "answered 404 Not Found"
    assert reply(599).problem == "answered 599"
    assert Reply(url=URL, failure="why").problem == "could not be reached: why"


async def test_a_page(site: Site, http: httpx.AsyncClient) -> None:
    site.page("/", "/a")
    with trio.fail_after(5):
        got = await fetch(http, site.url("/"), html_only=True)
    assert (got.status, got.media_type, got.is_html) == (200, "text/html", True)
    assert b"/a" in got.body
    assert not got.truncated
    asked = site.asked[0]
    assert (asked.headers["user-agent"], asked.headers["accept-encoding"]) == ("Quiesce", "gzip")


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_body_is_cut_off_at_its_bound(
    site: Site, http: httpx.AsyncClient, compressed: bool
) -> None:
    body = bytes(4 * BODY_BYTES)
    encoding = {"Content-Encoding": "gzip"} if compressed else {}
    sent = gzip.compress(body, 1) if compressed else body
    site.says("/", Answer(sent, headers={"Content-Type": "text/html", **encoding}))
    with trio.fail_after(10):
        got = await fetch(http, site.url("/"))
        await site.until(lambda: site.open == 0)
    assert got.truncated
    assert len(got.body) == BODY_BYTES
    if not compressed:
        assert site.asked[0].cut
        assert site.asked[0].sent < 2 * BODY_BYTES


async def test_a_body_at_its_bound_is_whole(site: Site, http: httpx.AsyncClient) -> None:
    site.says("/", Answer(b"x" * 1000))
    with trio.fail_after(5):
        whole = await fetch(http, site.url("/"), max_bytes=1000)
        cut = await fetch(http, site.url("/"), max_bytes=999)
    assert (len(whole.body), whole.truncated) == (1000, False)
    assert (len(cut.body), cut.truncated) == (999, True)


async def test_gzip_is_undone(site: Site, http: httpx.AsyncClient) -> None:
    site.says("/", Answer(gzip.compress(b"words"), headers={"Content-Encoding": "GZIP"}))
    with trio.fail_after(5):
        assert (await fetch(http, site.url("/"))).body == b"words"


@pytest.mark.parametrize(
    ("body", "encoding", "why"),
    [
        (b"not gzip", "gzip", "the answer's gzip encoding is broken"),
        (zlib.compress(b"x"), "br", "the answer is encoded as br, which was not asked for"),
    ],
)
async def test_bad_encodings_are_failures(
    site: Site, http: httpx.AsyncClient, body: bytes, encoding: str, why: str
) -> None:
    site.says("/", Answer(body, headers={"Content-Encoding": encoding}))
    with trio.fail_after(5):
        got = await fetch(http, site.url("/"))
    assert (got.status, got.failure, got.transient) == (None, why, False)


@pytest.mark.parametrize("left_out", [1, 8, 12, -1])
async def test_compression_that_is_cut_off_is_a_broken_connection(
    site: Site, http: httpx.AsyncClient, left_out: int
) -> None:
    sent = gzip.compress(b"User-agent: *\nDisallow: /private")
    cut = sent[:1] if left_out == -1 else sent[:-left_out]
    site.says("/", Answer(cut, headers={"Content-Encoding": "gzip"}))
    with trio.fail_after(5):
        got = await fetch(http, site.url("/"))
    assert (got.status, got.body, got.transient) == (None, b"", True)
    assert got.failure == (
        "the connection broke before the answer was whole (its gzip encoding has no end)"
    )


MEMBERS = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(b"two")


@pytest.mark.parametrize("piece", [1, 2, 3, len(MEMBERS) + 20])
@pytest.mark.parametrize("after", [b"", b"\0" * 9, b"rubbish \x1f\x8b", b"\0\0rubbish"])
def test_all_members_of_a_compressed_body_are_read(piece: int, after: bytes) -> None:
    sent = MEMBERS + after
    intake = Intake(100, gzip=True)
    assert all(intake.take(sent[at : at + piece]) for at in range(0, len(sent), piece))
    assert intake.body == b"one two"
    assert not intake.cut_off


def test_a_later_member_may_be_cut_off_or_broken() -> None:
    cut, broken = Intake(100, gzip=True), Intake(100, gzip=True)
    assert cut.take(MEMBERS[:-1])
    assert cut.cut_off
    assert not broken.take(MEMBERS + b"\x1f\x8bno")
    assert broken.broken


def test_all_members_together_have_one_bound() -> None:
    intake = Intake(5, gzip=True)
    assert not intake.take(MEMBERS)
    assert (bytes(intake.body), intake.full, intake.cut_off) == (b"one tw", True, False)


async def test_an_empty_body_needs_no_compression(site: Site, http: httpx.AsyncClient) -> None:
    site.says("/", Answer(headers={"Content-Encoding": "gzip"}))
    with trio.fail_after(5):
        got = await fetch(http, site.url("/"))
    assert (got.status, got.body) == (200, b"")


async def test_what_is_no_html_is_left_unread(site: Site, http: httpx.AsyncClient) -> None:
    site.says("/", Answer(bytes(4 * BODY_BYTES), headers={"Content-Type": "video/mp4"}))
    with trio.fail_after(5):
        got = await fetch(http, site.url("/"), html_only=True)
        await site.until(lambda: site.open == 0)
    assert (got.status, got.media_type, got.body) == (200, "video/mp4", b"")
    assert site.asked[0].cut


async def test_a_host_that_never_ends_its_answer_is_given_up(
    site: Site, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_S", 0.2)
    site.says("/", Answer(b"short", headers={"Content-Length": "100"}))
    with trio.fail_after(5):
        got = await fetch(http, site.url("/"))
        await site.until(lambda: site.open == 0)
    assert got.failure == "there was no whole answer within 0.2 seconds"
    assert not got.transient


async def test_connection_refused(http: httpx.AsyncClient) -> None:
    with trio.fail_after(5):
        got = await fetch(http, "http://127.0.0.1:9/")
    assert got.problem == "could not be reached: connection refused; is the server running?"
    assert got.transient


async def test_an_unknown_name(http: httpx.AsyncClient) -> None:
    with trio.fail_after(20):
        got = await fetch(http, "http://no-such-host.invalid/")
    assert got.failure == "its name does not resolve; is it spelt right?"


async def test_a_server_that_hangs_up(site: Site, http: httpx.AsyncClient) -> None:
    site.says("/", Answer(hang_up=True))
    with trio.fail_after(5):
        got = await fetch(http, site.url("/"))
    assert got.failure.startswith("the connection broke before the answer was whole")
    assert got.transient


async def test_plain_http_where_https_is_expected(site: Site, http: httpx.AsyncClient) -> None:
    with trio.fail_after(5):
        got = await fetch(http, site.url("/").replace("http:", "https:"))
    assert got.failure == "the TLS handshake failed; does the server speak https at that port?"


async def test_an_untrusted_certificate(http: httpx.AsyncClient) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with trio.fail_after(5):
        async with open_site(context) as site:
            got = await fetch(http, site.url("/"))
            await site.until(lambda: site.accepted > 0 == site.open)
    assert got.failure.startswith("its TLS certificate is not trusted (")
    assert not got.transient

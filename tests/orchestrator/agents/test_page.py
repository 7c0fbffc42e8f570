"""What is read out of HTML, however broken or hostile."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agents._crawl.page import (
    MAX_LINKS,
    TEXT_CHARS,
    TITLE_CHARS,
    Html,
    read_page,
)
from orchestrator.agents._crawl.text import decode

URL = "http://example.org/dir/page.html"


def read(html: str, robots_tag: str = "") -> Html:
    return read_page(URL, html.encode(), "text/html; charset=utf-8", robots_tag)


def test_title() -> None:
    assert read("<title>\n A &amp; <b>B  </title><p>x").title == "A & <b>B"
    assert read("<body><svg><title>icon</title></svg>").title == ""
    assert read("<p>none").title == ""
    assert read(f"<title>{'x' * 1000}</title>").title == "x" * TITLE_CHARS


def test_visible_text_has_a_line_for_each_block() -> None:
    html = """<head><title>T</title></head><body>Hel<b>lo</b>
      <i>there</i><p>one<br>two</p>three<ul><li>a<li>b</ul>
      <script>bad()</script><style>p{}</style><template>t</template><svg><text>s</text></svg>
      <div hidden>h</div><iframe>f</iframe><!-- c --><pre>x
      y</pre>end"""
    assert read(html).text == "Hello there\none\ntwo\nthree\na\nb\nx y\nend"


def test_text_is_bounded() -> None:
    page = read("<p>" + "word " * TEXT_CHARS)
    assert len(page.text) == TEXT_CHARS
    assert page.truncated
    assert not read("<p>word").truncated


def test_links_in_their_order_and_once() -> None:
    page = read(
        """<a href="b">1</a><a href='/a#x'>2</a><map><area href=c></map><a href="/a#y">3</a>
        <a>none</a><a href>self</a><a href="mailto:x@y">m</a><a href="javascript:x()">j</a>
        <a href="//other.example/x">o</a><a rel="external NoFollow" href="no">n</a>
        <template><a href="hidden">t</a></template><link href="style.css" rel=stylesheet>"""
    )
    assert page.links == (
        "http://example.org/dir/b",
        "http://example.org/a",
        "http://example.org/dir/c",
        URL,
        "http://other.example/x",
    )


def test_the_base_is_respected() -> None:
    assert read('<base href="/new/"><a href=x>').links == ("http://example.org/new/x",)
    assert read('<base href="//cdn.example/"><a href=x>').links == ("http://cdn.example/x",)
    assert read('<base href="javascript:"><a href=x>').links == ("http://example.org/dir/x",)
    assert read('<base target=x><base href="/b/"><a href=x>').links == ("http://example.org/b/x",)


@pytest.mark.parametrize(
    ("head", "robots_tag", "noindex", "nofollow"),
    [
        ("", "", False, False),
        ('<meta name="ROBOTS" content="NoIndex, Follow">', "", True, False),
        ('<meta name=robots content="nofollow">', "", False, True),
        ('<meta name=robots content="none">', "", True, True),
        ('<meta name=quiesce content="noindex">', "", True, False),
        ('<meta name=otherbot content="none">', "", False, False),
        ('<meta name=robots><meta content="none">', "", False, False),
        ("", "noindex, NOFOLLOW", True, True),
        ("", "quiesce: noindex", True, False),
        ("", "otherbot: noindex", False, False),
    ],
)
def test_robots_directives(head: str, robots_tag: str, noindex: bool, nofollow: bool) -> None:
    page = read(f"<head><title>T</title>{head}</head><a href=x>words</a>", robots_tag)
    assert page.noindex is noindex
    assert (page.title, page.text) == (("", "") if noindex else ("T", "words"))
    assert page.links == (() if nofollow else ("http://example.org/dir/x",))


def test_canonical() -> None:
    assert read('<link rel="canonical" href="../x#y">').canonical == "http://example.org/x"
    assert read('<link rel="CANONICAL alternate" href="/x">').canonical == "http://example.org/x"
    assert read('<body><link rel="canonical" href="/x">').canonical is None
    assert read('<link rel="canonical">').canonical is None
    assert read('<link rel="canonical" href="javascript:x">').canonical is None


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("é".encode(), "text/html", "é"),
        ("é".encode("latin-1"), "text/html; charset=ISO-8859-1", "é"),
        (b"\x93quoted\x94", "text/html; charset=latin1", "“quoted”"),
        ("дом".encode("koi8-r"), 'text/html; Charset="KOI8-R"', "дом"),
        (b'<meta charset="koi8-r">' + "дом".encode("koi8-r"), "text/html", "дом"),
        (
            b'<meta http-equiv=content-type content="text/html;charset=shift_jis">'
            + "家".encode("shift_jis"),
            "",
            "家",
        ),
        (b'<meta charset="utf-16">' + "é".encode(), "", "é"),
        (codecs.BOM_UTF8 + "é".encode(), "text/html; charset=latin-1", "é"),
        (codecs.BOM_UTF16_LE + "é".encode("utf-16-le"), "", "é"),
        (codecs.BOM_UTF16_BE + "é".encode("utf-16-be"), "", "é"),
        ("é".encode(), "text/html; charset=no-such", "é"),
        ("é".encode(), "text/html; charset=rot13", "é"),
        ("é".encode(), "text/html; charset=idna", "é"),
        ("é".encode(), "text/html; charset=unicode_escape", "é"),
        ("é".encode(), "text/html; charset=\0", "é"),
        (b"\xff\xfa", "text/html; charset=utf-8", "\ufffd\ufffd"),
    ],
)
def test_decode(body: bytes, content_type: str, text: str) -> None:
    assert decode(body, content_type).endswith(text)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_any_bytes_are_read(body: bytes, content_type: str) -> None:
    read_page(URL, body, content_type)


@given(st.text(alphabet="<>/!-='\" abdivp&#;x\0", max_size=200))
def test_any_tag_soup_is_read(html: str) -> None:
    assert not read(html).truncated


def test_too_deep_a_page_is_read_up_to_there() -> None:
    page = read('<a href="x">first</a>' + "<div>" * 1_000_000 + '<a href="y">last</a>')
    assert page.links == ("http://example.org/dir/x",)
    assert page.text == "first"
    assert page.truncated


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["<!--", "<script>", "<a ", "<", "<b></b>", "<a href=x>"])
def test_hostile_pages_take_no_quadratic_time(piece: str) -> None:
    # Less than a second is right; what is quadratic would take minutes.
    page = read(piece * (2 * 1024 * 1024 // len(piece)))
    assert len(page.links) <= MAX_LINKS


def test_the_number_of_links_is_bounded() -> None:
    page = read("".join(f"<a href='/{n}'>" for n in range(2 * MAX_LINKS)))
    assert len(page.links) == MAX_LINKS

"""One spelling for each address, and nothing that cannot be fetched."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.agents._crawl.urls import (
    MAX_URL_CHARS,
    path_and_query,
    resolve,
    site_of,
    start_url,
)

BASE = "http://example.org/docs/guide/index.html?page=2"


@pytest.mark.parametrize(
    ("reference", "address"),
    [
        ("other.html", "http://example.org/docs/guide/other.html"),
        ("../up.html", "http://example.org/docs/up.html"),
        ("/top", "http://example.org/top"),
        ("//cdn.example.org/x", "http://cdn.example.org/x"),
        ("?page=3", "http://example.org/docs/guide/index.html?page=3"),
        ("", BASE),
        ("#part", BASE),
        ("  spaced.html\n", "http://example.org/docs/guide/spaced.html"),
        ("new\nline.html", "http://example.org/docs/guide/newline.html"),
        ("a\\b.html", "http://example.org/docs/guide/a/b.html"),
        ("x?back\\slash", "http://example.org/docs/guide/x?back%5Cslash"),
        ("HTTP://EXAMPLE.ORG/Case", "http://example.org/Case"),
        ("http://example.org", "http://example.org/"),
        ("http://example.org?q", "http://example.org/?q"),
        ("http://example.org:80/", "http://example.org/"),
        ("https://example.org:443/", "https://example.org/"),
        ("https://example.org:80/", "https://example.org:80/"),
        ("http://example.org:/", "http://example.org/"),
        ("http://example.org/a/./b/../c", "http://example.org/a/c"),
        ("http://example.org/a/..", "http://example.org/"),
        ("http://example.org/../../a/.", "http://example.org/a/"),
        ("http://example.org/%2e%2E/a", "http://example.org/a"),
        ("http://example.org//a//b", "http://example.org//a//b"),
        ("/%7euser/%c3%a9", "http://example.org/~user/%C3%A9"),
        ("/é", "http://example.org/%C3%A9"),
        ("/a b", "http://example.org/a%20b"),
        ("/100%", "http://example.org/100%25"),
        ("/%zz%4", "http://example.org/%25zz%254"),
        ("/%2Fslash", "http://example.org/%2Fslash"),
        ("/x?q=%c3%a9&r=a b", "http://example.org/x?q=%C3%A9&r=a%20b"),
        ("/x?u=http://y/?z", "http://example.org/x?u=http://y/?z"),
        ("/lone\ud800surrogate", "http://example.org/lone%3Fsurrogate"),
        ("http://münchen.example/ü", "http://xn--mnchen-3ya.example/%C3%BC"),
        ("http://[::1]:8080/", "http://[::1]:8080/"),
        ("http://[0:0::1]/", "http://[::1]/"),
        ("http://under_score.example/", "http://under_score.example/"),
    ],
)
def test_resolve(reference: str, address: str) -> None:
    assert resolve(BASE, reference) == address


@pytest.mark.parametrize(
    "reference",
    [
        "javascript:alert(1)",
        "JavaScript:void(0)",
        "mailto:ada@example.org",
        "data:text/html,<a href=/x>",
        "tel:+123",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://user@example.org/",
        "http://user:secret@example.org/",
        "http://example.org:99999/",
        "http://example.org:0/",
        "http://example.org:port/",
        "http://[bad",
        "http://[::g]/",
        "http://exa mple.org/",
        "http://a..b/",
        "http://" + "a" * 64 + ".org/",
        "http://" + "a." * 127 + "org/",
        "http://\u2100.example/",
        "http://%65xample.org/",
        "http://999.1.1.1/",
        "http://1234567/",
        "/" + "x" * MAX_URL_CHARS,
        "/" + "é" * (MAX_URL_CHARS // 3),
    ],
)
def test_what_cannot_be_fetched_is_no_address(reference: str) -> None:
    assert resolve(BASE, reference) is None


@given(st.text(max_size=60))
def test_resolving_never_fails_and_twice_is_once(reference: str) -> None:
    address = resolve(BASE, reference)
    if address is not None:
        assert address.isascii()
        assert "#" not in address
        assert resolve("", address) == address


@pytest.mark.slow
@given(st.from_regex(r"https?://[a-z0-9.\[\]:@_%-]{1,20}/", fullmatch=True))
def test_every_address_is_one_to_httpx_too(reference: str) -> None:
    address = resolve("", reference)
    if address is not None:
        assert str(httpx.URL(address)) == address


@given(st.text(alphabet="./%2eEaé?#\\:@[]", max_size=30))
def test_hostile_paths_stay_on_the_site(path: str) -> None:
    address = resolve("http://example.org/a/b", "/x" + path)
    assert address is None or site_of(address) == "example.org"


def test_the_site_is_host_and_port_whatever_the_scheme() -> None:
    assert site_of("http://example.org/") == site_of("https://example.org/x") == "example.org"
    assert site_of("http://example.org:8080/") == "example.org:8080"
    assert site_of("http://www.example.org/") != "example.org"


def test_path_and_query() -> None:
    assert path_and_query("http://example.org/a/b?c=d") == "/a/b?c=d"
    assert path_and_query("http://example.org/") == "/"


def test_an_address_without_a_host_is_relative_or_none() -> None:
    assert resolve(BASE, "http:///path") == "http://example.org/path"
    assert resolve("", "http:///path") is None
    assert resolve("", "/path") is None


def test_a_start_is_resolved() -> None:
    assert start_url(" HTTPS://Example.ORG:443#top ") == "https://example.org/"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("example.org/docs", "begins with http:// or https://"),
        ("", "begins with http:// or https://"),
        ("mailto:ada@example.org", "begins with http:// or https://"),
        ("localhost:8000/x", "begins with http:// or https://"),
        ("http://[bad", "begins with http:// or https://"),
        ("ftp://example.org/", "only http:// and https://"),
        ("http://", "names no host"),
        ("http://a..b/", "names no host"),
        ("http://ada:secret@example.org/", "leave it out"),
        ("http://example.org/" + "x" * MAX_URL_CHARS, "longer than 2,000"),
    ],
)
def test_a_bad_start_is_refused_with_a_remedy(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy) as refused:
        start_url(text)
    assert "secret" not in str(refused.value)

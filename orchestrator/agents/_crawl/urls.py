"""Addresses, in one spelling only, so that equal ones are equal strings."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import httpx

from orchestrator.options import HOST_NAME

if TYPE_CHECKING:
    from urllib.parse import SplitResult

# Longer ones are traps or data; servers begin to refuse them at about this length.
MAX_URL_CHARS = 2_000

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SPACE_AND_CONTROL = "".join(map(chr, range(0x21)))
_BROKEN_TRIPLET = re.compile(r"%(?![0-9A-Fa-f]{2})")
_TRIPLET = re.compile(r"%[0-9A-Fa-f]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
# What httpx takes for an IPv4 address, and refuses if it is none.
_LIKE_IPV4 = re.compile(r"[0-9]+.[0-9]+.[0-9]+.[0-9]+")
_PATH_SAFE = "/:@!$&'()*+,;=%"
_QUERY_SAFE = _PATH_SAFE + "?[]"


def resolve(base: str, reference: str) -> str | None:
    """Return the address that a reference on a page means, or None if it cannot be fetched.

    Scheme and host are in lower case and ASCII, the default port and the fragment are dropped,
    dot segments are removed, and percent-encoding is in its normal form.

    Args:
        base: the address that a relative reference is relative to; empty for none.
    """
    reference = reference.strip(_SPACE_AND_CONTROL).partition("#")[0]
    if len(reference) > MAX_URL_CHARS:
        return None
    path, mark, query = reference.partition("?")
    try:
        # Browsers take a backslash in a path for a slash, and people write such links.
        parts = urlsplit(urljoin(base, path.replace("\\", "/") + mark + query))
        if parts.scheme not in _DEFAULT_PORTS:
            return None
        netloc = _netloc(parts)
    except (ValueError, httpx.InvalidURL):
        return None
    url = urlunsplit((parts.scheme, netloc, _path(parts.path), _query(parts.query), ""))
    return url if len(url) <= MAX_URL_CHARS else None


def site_of(url: str) -> str:
    """Return host and port of a resolved address; the default ports of both schemes are one."""
    return urlsplit(url).netloc


def path_and_query(url: str) -> str:
    """Return what globs are matched against: ``/path?query`` of a resolved address."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def start_url(text: str) -> str:
    """Validate the address that a crawl begins with, and return it resolved.

    Raises:
        ValueError: it cannot be crawled; says what would be right.
    """
    text = text.strip(_SPACE_AND_CONTROL)
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    if not parts.scheme or (parts.scheme not in _DEFAULT_PORTS and "://" not in text):
        raise ValueError("must be a whole address that begins with http:// or https://")
    if parts.scheme not in _DEFAULT_PORTS:
        raise ValueError(f"begins with {parts.scheme}://; only http:// and https:// can be crawled")
    if "@" in parts.netloc:
        raise ValueError("carries a user name or password; leave it out, since nobody logs in")
    if len(text) > MAX_URL_CHARS:
        raise ValueError(f"is longer than {MAX_URL_CHARS:,} characters")
    url = resolve("", text)
    if url is None:
        raise ValueError("names no host that could exist; write it like https://example.org/path")
    return url


def normal_percent(text: str, safe: str) -> str:
    """Return the text with percent-encoding where it is needed and nowhere else.

    Args:
        safe: characters that stay as they are, besides letters, digits and ``._~-``.
    """
    text = quote(_BROKEN_TRIPLET.sub("%25", text), safe=safe, errors="replace")
    return _TRIPLET.sub(lambda found: _normal_triplet(found[0]), text) if "%" in text else text


def _normal_triplet(triplet: str) -> str:
    character = chr(int(triplet[1:], 16))
    return character if _UNRESERVED.match(character) else triplet.upper()


def _netloc(parts: SplitResult) -> str:
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials")
    host = _host(parts.hostname or "")
    port = parts.port
    if port == 0:
        raise ValueError("port 0")
    return host if port in (None, _DEFAULT_PORTS[parts.scheme]) else f"{host}:{port}"


def _host(host: str) -> str:
    if ":" in host:
        return f"[{ipaddress.IPv6Address(host).compressed}]"
    if not host.isascii():
        host = httpx.URL(scheme="http", host=host).raw_host.decode("ascii")
    if not HOST_NAME.fullmatch(host):
        raise ValueError("not a host name")
    return str(ipaddress.IPv4Address(host)) if _LIKE_IPV4.fullmatch(host) else host


def _path(path: str) -> str:
    segments = normal_percent(path, _PATH_SAFE).split("/")[1:]
    if not segments:
        return "/"
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            kept[-1:] = []
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _query(query: str) -> str:
    return normal_percent(query, _QUERY_SAFE)

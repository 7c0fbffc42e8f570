"""Sitemaps and sitemap indexes, plain or compressed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.parsers import expat

from orchestrator.agents._crawl.heed import heedless
from orchestrator.agents._crawl.intake import GZIP_MAGIC, Intake
from orchestrator.agents._crawl.urls import resolve

if TYPE_CHECKING:
    from orchestrator.agents._crawl.heed import Heed

# The bounds of the sitemap protocol, more or less.
SITEMAP_BYTES = 10 * 1024 * 1024
MAX_LOCATIONS = 50_000

_FEED_BYTES = 64 * 1024


@dataclass(slots=True)
class Sitemap:
    """What was read of a sitemap.

    Attributes:
        pages: addresses of pages, resolved.
        sitemaps: addresses of further sitemaps, resolved; only an index has them.
        problem: why reading ended before the end, or empty.
    """

    pages: list[str] = field(default_factory=list)
    sitemaps: list[str] = field(default_factory=list)
    problem: str = ""


class _Refused(Exception):
    """The sitemap is not read, or not any further."""


def read_sitemap(url: str, body: bytes, heed: Heed = heedless) -> Sitemap:
    """Read a sitemap as far as it is one. Document types are refused, since entities are bombs.

    Takes up to seconds for the largest: call it in a thread.

    Args:
        url: where it is, resolved.
    """
    found = Sitemap()
    try:
        _Reader(url, found, heed).read(_plain(body))
    except (expat.ExpatError, _Refused, ValueError, LookupError) as error:
        found.problem = str(error)
    return found


def _plain(body: bytes) -> bytes:
    intake = Intake(SITEMAP_BYTES, gzip=body.startswith(GZIP_MAGIC))
    intake.take(body)
    if intake.broken:
        raise _Refused("its gzip encoding is broken")
    return bytes(intake.body[:SITEMAP_BYTES])


class _Reader:
    def __init__(self, url: str, found: Sitemap, heed: Heed) -> None:
        self._url = url
        self._heed = heed
        self._lists = {"url": found.pages, "sitemap": found.sitemaps}
        self._path: list[str] = []
        self._text: list[str] = []

    def read(self, xml: bytes) -> None:
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.CharacterDataHandler = self._text.append
        parser.EndElementHandler = self._end
        for at in range(0, len(xml), _FEED_BYTES):
            self._heed()
            parser.Parse(xml[at : at + _FEED_BYTES])
        parser.Parse(b"", True)

    def _doctype(self, *_: object) -> None:
        raise _Refused("it has a document type, which no sitemap needs")

    def _start(self, name: str, _: object) -> None:
        self._path.append(name.rpartition(" ")[2])
        self._text.clear()

    def _end(self, _: str) -> None:
        # Not the `loc` of an image or a video, which has another parent.
        parent, name = ["", *self._path][-2:]
        if name == "loc" and parent in self._lists:
            self._found(self._lists[parent], "".join(self._text).strip())
        self._path.pop()

    def _found(self, locations: list[str], location: str) -> None:
        if len(locations) == MAX_LOCATIONS:
            raise _Refused(f"it has more than {MAX_LOCATIONS:,} locations")
        address = resolve(self._url, location)
        if address is not None:
            locations.append(address)

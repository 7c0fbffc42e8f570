"""From a file to its chunks, whatever kind of file it is."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, assert_never

from orchestrator.agents._crawl.page import TITLE_CHARS, read_page
from orchestrator.agents._crawl.text import squeeze
from orchestrator.agents._ingest.kinds import Kind, Unreadable, kind_of
from orchestrator.agents._ingest.markdown import sections_of
from orchestrator.knowledge.chunks import chunks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_PAGES = 20_000
# Pieces that are kept at once.
BATCH = 200
_NO_TEXT = "has no text"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk of a document.

    Attributes:
        title: of its section; empty if that has none.
        start, end: where it stands in the text of the document, in characters.
        page: 1 for the first; None if the document has no pages.
    """

    title: str
    text: str
    start: int
    end: int
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Some chunks of a document, and how far it is read with them, from 0 to 1."""

    chunks: tuple[Chunk, ...]
    share: float


@dataclass(frozen=True, slots=True)
class Document:
    """An open document: what it says that it is called, and its chunks, which are read as they
    are asked for.

    Attributes:
        title: empty if it does not say.
    """

    kind: Kind
    title: str
    batches: Iterator[Batch]


def open_document(name: str, data: bytes) -> Document:
    """Open a document. May take long: never call it in the event loop.

    Raises:
        Unreadable: it is broken, or is none; also from its ``batches``.
    """
    match kind := kind_of(name, data):
        case Kind.PDF:
            return _pdf(data)
        case Kind.HTML:
            page = read_page("http://localhost/", data)
            return Document(kind, page.title, _batches(_plain(page.text)))
        case Kind.MARKDOWN:
            text = decoded(data)
            found = [title for title, _, _ in sections_of(text) if title]
            return Document(kind, _title(next(iter(found), "")), _batches(_marked_down(text)))
        case Kind.TEXT:
            return Document(kind, "", _batches(_plain(decoded(data))))
    assert_never(kind)


def decoded(data: bytes) -> str:
    """Return the text of a file.

    Raises:
        Unreadable: it is not in Unicode.
    """
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if wide else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        why = f"is not {encoding.removesuffix('-sig').upper()} text (byte {error.start})"
        raise Unreadable(f"{why}; save it as UTF-8") from None
    if "\0" in text:
        raise Unreadable("is neither PDF, HTML, Markdown nor text")
    return text.replace("\r\n", "\n")


def _plain(text: str) -> Iterator[Chunk]:
    for start, end in chunks_of(text):
        yield Chunk("", text[start:end], start, end)


def _marked_down(text: str) -> Iterator[Chunk]:
    for title, first, last in sections_of(text):
        title, section = _title(title), text[first:last]
        for start, end in chunks_of(section):
            yield Chunk(title, section[start:end], first + start, first + end)


def _title(text: str) -> str:
    """Return a title on one line, as long as it may be: each chunk has it once more."""
    return squeeze(text)[:TITLE_CHARS]


def _batches(chunks: Iterator[Chunk]) -> Iterator[Batch]:
    batch = tuple(islice(chunks, BATCH))
    if not batch:
        raise Unreadable(_NO_TEXT)
    while batch:
        following = tuple(islice(chunks, BATCH))
        # How much follows is not known.
        yield Batch(batch, 0.5 if following else 1)
        batch = following


def _pdf(data: bytes) -> Document:
    # Here, since it takes a while to import.
    from orchestrator.agents._ingest.pdf import Pdf

    pdf = Pdf(data)
    if pdf.page_count > MAX_PAGES:
        raise Unreadable(f"has {pdf.page_count} pages; at most {MAX_PAGES} are read")
    return Document(Kind.PDF, _title(pdf.title), _pages(pdf.page_count, pdf.text))


def _pages(count: int, text_of: Callable[[int], str]) -> Iterator[Batch]:
    at = 0
    found = False
    for page in range(count):
        text = text_of(page)
        chunks = tuple(
            Chunk("", text[start:end], at + start, at + end, page + 1)
            for start, end in chunks_of(text)
        )
        # A line break parts the pages.
        at += len(text) + 1
        found = found or bool(chunks)
        yield Batch(chunks, (page + 1) / count)
    if not found:
        raise Unreadable(f"{_NO_TEXT}; what was scanned has to be recognised first")

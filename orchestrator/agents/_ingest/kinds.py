"""What a file is, by its name and its first bytes."""

from __future__ import annotations

import codecs
from enum import Enum
from pathlib import PurePath


class Kind(Enum):
    """What can be read."""

    HTML = "HTML"
    MARKDOWN = "Markdown"
    PDF = "PDF"
    TEXT = "text"


class Unreadable(Exception):
    """A file cannot be read; the message says why, as the end of a sentence."""


_SUFFIXES = {
    ".htm": Kind.HTML,
    ".html": Kind.HTML,
    ".xhtml": Kind.HTML,
    ".md": Kind.MARKDOWN,
    ".markdown": Kind.MARKDOWN,
    ".pdf": Kind.PDF,
}
_HTML = (b"<!doctype html", b"<html")
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_HEAD_BYTES = 1_024


def kind_of(name: str, data: bytes) -> Kind:
    """Return what a file is. What it holds wins over its name.

    Raises:
        Unreadable: it is empty, or is none of what can be read.
    """
    head = data[:_HEAD_BYTES].lstrip()
    if not head:
        raise Unreadable("is empty")
    if b"%PDF-" in head:
        return Kind.PDF
    if b"\0" in head and not data.startswith(_WIDE):
        raise Unreadable("is neither PDF, HTML, Markdown nor text")
    if head.lower().startswith(_HTML):
        return Kind.HTML
    return _SUFFIXES.get(PurePath(name).suffix.lower(), Kind.TEXT)

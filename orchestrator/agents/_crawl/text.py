"""From the bytes of a page to characters, as browsers do it, less the guessing."""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_IN_HEADER = re.compile(r"""charset\s*=\s*["']?([^\s"';]+)""", re.IGNORECASE)
_IN_META = re.compile(rb"""<meta\s[^>]{0,500}?charset\s*=\s*["']?([^\s"'/>;]+)""", re.IGNORECASE)
_META_WITHIN_BYTES = 4_096
# Python knows encodings that no page is in, and that are slow, or no encodings of text at all.
_NOT_FOR_PAGES = {"idna", "punycode", "raw-unicode-escape", "unicode-escape", "undefined", "utf-7"}
# The web's name for the first is the second, which has printable characters for more of it.
_SUPERSETS = {"ascii": "cp1252", "iso8859-1": "cp1252"}


def decode(body: bytes, content_type: str) -> str:
    """Return the characters of a page; whatever cannot be decoded becomes U+FFFD.

    Args:
        content_type: the header's value, which wins over the page's own word.
    """
    for bom, encoding in _BOMS:
        if body.startswith(bom):
            return body[len(bom) :].decode(encoding, "replace")
    for label in _labels(body, content_type):
        try:
            name = codecs.lookup(label).name
            if name not in _NOT_FOR_PAGES:
                return body.decode(_SUPERSETS.get(name, name), "replace")
        except (LookupError, ValueError):
            continue
    return body.decode("utf-8", "replace")


def _labels(body: bytes, content_type: str) -> Iterator[str]:
    if found := _IN_HEADER.search(content_type):
        yield found[1]
    if meta := _IN_META.search(body[:_META_WITHIN_BYTES]):
        label = meta[1].decode("ascii", "replace").lower()
        # The word was readable as ASCII, so UTF-16 it cannot be.
        yield "utf-8" if label.startswith("utf-16") else label


def squeeze(text: str) -> str:
    """Return the text with every run of white space as one space."""
    return " ".join(text.split())

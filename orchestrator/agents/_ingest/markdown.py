"""The sections of a Markdown file."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from collections.abc import Iterator


def headings(text: str) -> list[tuple[int, str]]:
    """Return the line at which each heading stands, and what it says."""
    # Headings within lists and quotations part nothing.
    tokens = MarkdownIt("commonmark").parse(text)
    return [
        (opening.map[0], inline.content)
        for opening, inline in pairwise(tokens)
        if opening.type == "heading_open" and opening.level == 0 and opening.map
    ]


def sections_of(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield the sections of a text, each from a heading to the next one.

    Each is its heading, and where it begins and ends in the text, in characters. What stands
    before the first heading has an empty one.
    """
    lines = _starts_of_lines(text)
    parts = [(0, ""), *((lines[line], title) for line, title in headings(text))]
    ends = [start for start, _ in parts[1:]] + [len(text)]
    for (start, title), end in zip(parts, ends, strict=True):
        if start < end:
            yield title, start, end


def _starts_of_lines(text: str) -> list[int]:
    # As the parser counts them, which knows one line break.
    starts = [0]
    while (at := text.find("\n", starts[-1])) >= 0:
        starts.append(at + 1)
    return starts

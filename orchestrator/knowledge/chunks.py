"""A text in chunks that can be found, and read by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CHUNK_CHARS = 1_200
# Where a chunk may end, the best place first.
_ENDS = ("\n\n", "\n", ". ", " ")


def chunks_of(text: str) -> Iterator[tuple[int, int]]:
    """Yield where the chunks of a text begin and end, in characters.

    None has white space around it, and none is empty. A chunk ends with a paragraph if one ends
    in its second half; else with a line, a sentence, or a word.
    """
    start = 0
    while start < len(text):
        end = _end(text, start)
        chunk = text[start:end]
        if bare := chunk.strip():
            first = start + len(chunk) - len(chunk.lstrip())
            yield first, first + len(bare)
        start = end


def _end(text: str, start: int) -> int:
    limit = start + CHUNK_CHARS
    if limit >= len(text):
        return len(text)
    for end in _ENDS:
        at = text.rfind(end, start + CHUNK_CHARS // 2, limit)
        if at >= 0:
            return at + len(end)
    return limit

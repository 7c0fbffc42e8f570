"""JSON text of answers: what every parser takes, and of a long list made in turns with the rest.

While JSON text is made nothing else has its turn, a stop as little as anything; and a list may be
very large, as the results of its runs are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import trio
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python
from quart.json.provider import DefaultJSONProvider

# So many bytes are made before others have their turn: some milliseconds.
_TURN = 100_000


class Plain(DefaultJSONProvider):
    """What Quart makes JSON text with."""

    def dumps(self, obj: Any, **_: Any) -> str:
        """Return JSON text."""
        return plain(obj).decode()


def plain(value: Any) -> bytes:
    """Return JSON text in UTF-8 that every parser takes: a number for which JSON has no word is
    null, as in browsers."""
    try:
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError:
        # A lone surrogate has no UTF-8 form, but an escape.
        text = json.dumps(value, default=to_jsonable_python)
        return json.dumps(json.loads(text, parse_constant=lambda _: None)).encode()


async def encoded(value: Any) -> bytes:
    """Return the same text. A checkpoint if it is large.

    Args:
        value: JSON, in which an iterator stands for the list of what it yields. Each of its items
            is made when its turn comes; others may have theirs before it.
    """
    made, since = [], 0
    for piece in _pieces(value):
        made.append(piece)
        since += len(piece)
        if since > _TURN:
            await trio.lowlevel.checkpoint()
            since = 0
    return b"".join(made)


def _pieces(value: Any) -> Iterator[bytes]:
    if isinstance(value, Iterator):
        yield b"["
        for number, each in enumerate(value):
            yield b","[:number]
            yield from _pieces(each)
        yield b"]"
    elif isinstance(value, dict) and any(isinstance(each, Iterator) for each in value.values()):
        yield b"{"
        for number, (name, each) in enumerate(value.items()):
            yield b","[:number] + plain(name) + b":"
            yield from _pieces(each)
        yield b"}"
    else:
        yield plain(value)

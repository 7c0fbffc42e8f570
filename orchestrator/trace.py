"""Where whoever starts a run stands in a trace, as W3C Trace Context writes it down.

The core makes no traces. It keeps with a run where its starter stands, and passes on where the run
itself stands, as an observer says; where nobody observes, that is the same place.
See https://www.w3.org/TR/trace-context/.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADER = "traceparent"

_VERSION_00 = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_LATER = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")

# As in tracing libraries, so that whatever stands between a request and a start need not know.
_caller: ContextVar[str] = ContextVar("quiesce_caller", default="")


def read_traceparent(text: str) -> str:
    """Return a place in a trace as version 00 writes it.

    Raises:
        InvalidInput: it is none; it has no trace, or no parent in it.
    """
    parts = _VERSION_00.fullmatch(text)
    if parts is None and not text.startswith("00"):
        parts = _LATER.fullmatch(text)
    if parts is None or not int(parts[1], 16) or not int(parts[2], 16):
        raise InvalidInput([(HEADER, f"{text!r} is not like 00-<32 hex>-<16 hex>-<2 hex>")])
    return f"00-{parts[1]}-{parts[2]}-{parts[3]}"


def caller() -> str:
    """Return where the code at hand stands in a trace; empty if nobody has said."""
    return _caller.get()


@contextmanager
def called_from(traceparent: str) -> Iterator[None]:
    """Start the runs of the body from that place in a trace; empty for none.

    Raises:
        InvalidInput: it is no place in a trace.
    """
    token = _caller.set(read_traceparent(traceparent) if traceparent else "")
    try:
        yield
    finally:
        _caller.reset(token)


def come_from(traceparent: str) -> None:
    """As ``called_from``, for what is left of the task at hand. What is no place is none."""
    try:
        _caller.set(read_traceparent(traceparent))
    except InvalidInput:
        _caller.set("")

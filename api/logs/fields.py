"""What every line of the log has, and what none of them has: processors for structlog."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestrator import current_context

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    Line = MutableMapping[str, Any]

# Characters of one value, and of a traceback: the innermost frames are its end.
MOST = 2_000
MOST_OF_TRACEBACK = 10_000
HIDDEN = "***"

# Names of fields whose value is nobody's business, wherever they come from.
_SECRET_NAME = re.compile(
    r"authorization|cookie|password|passwd|secret|token|api[-_]?key|credential|signature", re.I
)
# What gives access, where it stands in the middle of a text.
_SECRETS = (
    (re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{12,}", re.I), rf"\1 {HIDDEN}"),
    (re.compile(r"\b(qt_|whsec_|sk-)[\w+/=-]{8,}"), rf"\1{HIDDEN}"),
    (re.compile(r"(\w://)[^\s/@'\"]+@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(\w://[^\s?#'\"]*\?)[^\s#'\"]+"), rf"\1{HIDDEN}"),
    (re.compile(r"((?:password|secret|token|api_?key)['\"]?\s*[=:]\s*['\"]?)[^\s'\",;&]+", re.I),
     rf"\1{HIDDEN}"),
)  # fmt: skip
# Without one of these there is none of those; looking for them is much faster.
_HINT = re.compile(r"bearer|basic|qt_|whsec_|sk-|://|password|secret|token|api_?key", re.I)
# Control characters would let whoever names things write lines of their own, or on the terminal.
_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in b"\t\n"
}


def add_run(_: object, __: str, line: Line) -> Line:
    """Say which run the line is about, if it comes from an agent's code."""
    with suppress(LookupError):
        line.setdefault("run_id", current_context().run_id)
    return line


def clean(_: object, __: str, line: Line) -> Line:
    """Hide secrets, cut what is long, and write control characters out."""
    for name, value in line.items():
        if _is_secret(name):
            line[name] = HIDDEN
        elif name == "exception":
            line[name] = clean_text(str(value)[-MOST_OF_TRACEBACK:])
        elif not isinstance(value, int | float | None):
            text = value if isinstance(value, str) else repr(value)
            line[name] = clean_text(text[:MOST]).replace("\n", "\\n")
    return line


def clean_text(text: str) -> str:
    """Return the text without secrets and control characters; newlines stay."""
    if _HINT.search(text):
        for pattern, hidden in _SECRETS:
            text = pattern.sub(hidden, text)
    return text if text.isprintable() else text.translate(_CONTROLS)


@lru_cache(maxsize=1_000)
def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None

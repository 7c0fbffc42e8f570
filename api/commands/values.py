"""Values that people type: JSON if it is JSON, else text."""

from __future__ import annotations

import json
from typing import Any


def json_or_text(text: str) -> Any:
    """Return the JSON value, or the text itself if it is none."""
    try:
        # NaN and Infinity are not JSON, although Python's parser takes them.
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def read_answer(text: str, schema: Any = None) -> Any:
    """Return an answer to a question; one that wants a text takes ``42`` as a text too."""
    value = json_or_text(text)
    wants_text = isinstance(schema, dict) and schema.get("type") == "string"
    return text if wants_text and not isinstance(value, str) else value


def _refuse(constant: str) -> None:
    raise ValueError(constant)

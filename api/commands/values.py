"""Values that people type: JSON if it is JSON, else text."""

from __future__ import annotations

import json
import re
from typing import Any

import click

FOR_EVER = "for-ever"
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LONGEST_S = 100 * 365 * 86_400.0


class Duration(click.ParamType[float | None]):
    """A time such as ``90s``, ``30m``, ``12h`` or ``30d`` in seconds; ``for-ever`` is None."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the seconds."""
        if not isinstance(value, str) or value == FOR_EVER:
            return None if value == FOR_EVER else value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)
        seconds = None if match is None else float(match[1]) * _UNITS_S[match[2]]
        if seconds is None or seconds > _LONGEST_S:
            self.fail(f"{value!r} is not like 90s, 30m, 12h, 30d or {FOR_EVER}", param, ctx)
        return seconds


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

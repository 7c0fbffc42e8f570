"""The wall clock. It is read here and nowhere else; whoever needs it is given it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


def utc_now(seconds: float) -> str:
    """Return the RFC 3339 UTC time so many seconds from now, to the millisecond."""
    whole_s, thousandths = divmod(int((time.time() + seconds) * 1000), 1000)
    return f"{_second(whole_s)}.{thousandths:03}Z"


@lru_cache(maxsize=8)
def _second(since_1970: int) -> str:
    return datetime.fromtimestamp(since_1970, UTC).strftime("%Y-%m-%dT%H:%M:%S")

"""The wall clock. It is read here and nowhere else; whoever needs it is given it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


def utc_now(seconds: float) -> str:
    """Return the RFC 3339 UTC time so many seconds from now, to the millisecond."""
    return _rfc3339(int((time.time() + seconds) * 1000))


@lru_cache(maxsize=8)
def _rfc3339(milliseconds: int) -> str:
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

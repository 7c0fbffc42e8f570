"""How often: token buckets, in memory, and only so many of them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

import trio

# The least recently used goes when there are more; it is the likeliest to be full again.
MOST_BUCKETS = 10_000


class Buckets:
    """One bucket for each key; it holds what is allowed in a minute, and fills up evenly."""

    def __init__(self) -> None:
        # What is left in a bucket, and when that was; the least recently used first.
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait_s(self, key: str, per_minute: float) -> float:
        """Return for how many seconds nothing can be taken; 0 if something can. Takes nothing."""
        return max(0.0, (1 - self._level(key, per_minute)) * 60 / per_minute)

    def take(self, key: str, per_minute: float) -> float:
        """Take one if there is one; return how many seconds it takes until there is, 0 if so."""
        level, now = self._level(key, per_minute), trio.current_time()
        wait_s = self.wait_s(key, per_minute)
        self._buckets.pop(key, None)
        self._buckets[key] = (level - (wait_s == 0), now)
        if len(self._buckets) > MOST_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return wait_s

    def _level(self, key: str, per_minute: float) -> float:
        now = trio.current_time()
        level, at = self._buckets.get(key, (per_minute, now))
        return min(max(per_minute, 1), level + (now - at) * per_minute / 60)


def household_of(address: str) -> str:
    """Return what stands for an address where addresses are counted.

    Whoever has one IPv6 address has as many as they like, but in one network.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(ip_network((parsed, 64), strict=False))
    return address

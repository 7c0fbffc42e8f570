"""What is fetched next, and when: every decision in one synchronous place.

Nothing here awaits, so there is no moment between looking and deciding.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Bounds the memory that a site of endless addresses can take.
MAX_KNOWN = 200_000


@dataclass(frozen=True, slots=True)
class Item:
    """An address to fetch, and how many links it is away from the start."""

    url: str
    depth: int


class Frontier:
    """The addresses of one crawl, breadth first. Each is given out once at most.

    Whatever ``take`` gives out becomes one page, so that ``max_pages`` is exact.

    Attributes:
        known: addresses accepted so far, without those that turned out to be other pages.
        done: pages that are finished.
        in_flight: given out and not finished; never more than ``concurrency``.
    """

    def __init__(self, *, max_pages: int, max_depth: int, concurrency: int) -> None:
        self.max_pages = max_pages
        self.max_depth = max_depth
        self.concurrency = concurrency
        self.known = 0
        self.done = 0
        self.in_flight = 0
        self._queue: deque[Item] = deque()
        self._seen: set[str] = set()
        # Addresses whose content is in a page already, under this or another address.
        self._covered: set[str] = set()

    @property
    def total(self) -> int:
        """How many pages the crawl will have, as far as is known by now."""
        return min(self.known, self.max_pages)

    def offer(self, urls: Iterable[str], depth: int) -> None:
        """Accept those addresses that are new, in their order, unless they are too deep."""
        if depth > self.max_depth:
            return
        for url in urls:
            if self.known < MAX_KNOWN and self.claim(url):
                self.known += 1
                self._queue.append(Item(url, depth))

    def claim(self, url: str) -> bool:
        """Whether the address is new. From now on it is not: the caller sees to it."""
        new = url not in self._seen
        self._seen.add(url)
        return new

    def cover(self, url: str) -> bool:
        """Note that a page holds the content of this address, and so none need fetch it.

        Returns:
            False if another page had it already.
        """
        new = url not in self._covered
        self._covered.add(url)
        self._seen.add(url)
        return new

    def take(self) -> Item | None:
        """Give out the next address; None if there is none, or none more may be under way."""
        while self._queue and self._has_room():
            item = self._queue.popleft()
            if item.url not in self._covered:
                self.in_flight += 1
                return item
            self.known -= 1
        return None

    def finish(self) -> None:
        """One that was given out has become a page."""
        self.in_flight -= 1
        self.done += 1

    def _has_room(self) -> bool:
        return self.in_flight < self.concurrency and self.done + self.in_flight < self.max_pages


class Pacer:
    """Keeps the starts of requests apart, on a clock that the caller reads."""

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._next = -inf

    def reserve(self, now: float) -> float:
        """Reserve the next start and return how many seconds it is away."""
        start = max(now, self._next)
        self._next = start + self.interval_s
        return start - now

    def hold(self, until: float) -> None:
        """Let no request that is not yet reserved start before then."""
        self._next = max(self._next, until)

"""Which deliveries are due, and which of them may go now. Pure; holds no messages."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from math import inf

# Attempts under way at once: in all, and to one host, so that one that hangs leaves others room.
MOST = 16
MOST_OF_HOST = 4


class Schedule:
    """Deliveries that wait, by the time at which they are due and the host that they go to."""

    def __init__(self) -> None:
        self._later: list[tuple[float, str, str]] = []
        self._due: dict[str, deque[str]] = {}
        self._under_way: dict[str, str] = {}
        self._of_host: Counter[str] = Counter()
        self._known: set[str] = set()

    def __len__(self) -> int:
        """How many wait, are under way, or are not forgotten yet."""
        return len(self._known)

    def add(self, delivery_id: str, host: str, when: float) -> None:
        """Let it go at that time. One that is known stays as it is."""
        if delivery_id not in self._known:
            self._known.add(delivery_id)
            heapq.heappush(self._later, (when, delivery_id, host))

    def hasten(self, delivery_id: str, when: float) -> None:
        """Let one that waits for a later time go at that time; any other stays as it is."""
        self._later = [
            (min(due, when) if each == delivery_id else due, each, host)
            for due, each, host in self._later
        ]
        heapq.heapify(self._later)

    def take(self, now: float) -> list[str]:
        """Return what is to go now; each counts as under way until ``done``."""
        while self._later and self._later[0][0] <= now:
            _, delivery_id, host = heapq.heappop(self._later)
            self._due.setdefault(host, deque()).append(delivery_id)
        taken = []
        for host in list(self._due):
            while self._due[host] and self._has_room(host):
                taken.append(self._begin(self._due[host].popleft(), host))
            if not self._due[host]:
                del self._due[host]
        return taken

    def done(self, delivery_id: str) -> None:
        """Note that an attempt is over. Another may begin; this one stays known."""
        self._of_host[self._under_way.pop(delivery_id)] -= 1

    def forget(self, delivery_id: str) -> None:
        """Let one whose attempt is over be added again."""
        self._known.discard(delivery_id)

    @property
    def next_due(self) -> float:
        """When the next one becomes due that is not due yet; ``inf`` for never."""
        return self._later[0][0] if self._later else inf

    @property
    def idle(self) -> bool:
        """Whether nothing is due and nothing is under way."""
        return not self._due and not self._under_way

    def _has_room(self, host: str) -> bool:
        return len(self._under_way) < MOST and self._of_host[host] < MOST_OF_HOST

    def _begin(self, delivery_id: str, host: str) -> str:
        self._under_way[delivery_id] = host
        self._of_host[host] += 1
        return delivery_id

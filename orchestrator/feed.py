"""A tree's numbered log, and subscriptions to it.

A subscription is a cursor and a wake-up: it holds no events of its own, so a slow reader costs no
memory and misses nothing. Recent events are read from a short tail in memory, older ones from
the store. Events are shown once they are durable, never before.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

import trio

from orchestrator.events import ENDINGS, Event, RunQueued

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.events import Payload
    from orchestrator.model import RunId
    from orchestrator.store.protocol import Store

TAIL = 256
PAGE = 256


class Feed:
    """The feed of one live tree.

    Invariant: ``tail`` holds the last events up to ``shown`` without a gap.
    """

    __slots__ = ("_seq", "_wake", "ended", "root_id", "shown", "tail")

    def __init__(self, root_id: RunId, last_seq: int = 0) -> None:
        self.root_id = root_id
        self.shown = last_seq
        self.ended = False
        self.tail: deque[Event] = deque(maxlen=TAIL)
        self._seq = last_seq
        self._wake: trio.Event | None = None

    def number(self, run_id: RunId, payload: Payload, at: str) -> Event:
        """Give the payload the next number of the tree."""
        self._seq += 1
        return Event(self._seq, run_id, self.root_id, payload.type, at, payload.data())

    def show(self, event: Event) -> None:
        """Let subscribers see an event that is durable now. Called in order of ``seq``."""
        self.tail.append(event)
        self.shown = event.seq
        self.ended = event.run_id == self.root_id and event.type in ENDINGS
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    async def wait_beyond(self, seq: int) -> None:
        """Wait until an event after ``seq`` is shown, or the feed has ended."""
        while self.shown <= seq and not self.ended:
            if self._wake is None:
                self._wake = trio.Event()
            await self._wake.wait()

    def after(self, seq: int) -> list[Event] | None:
        """Return the shown events after ``seq``, or None if the tail does not reach back so far."""
        if seq >= self.shown:
            return []
        if not self.tail or self.tail[0].seq > seq + 1:
            return None
        return list(islice(self.tail, seq + 1 - self.tail[0].seq, None))


class Subscription:
    """Events of one run and its sub-agents, from a number on, until the run's final event.

    Made by ``Orchestrator.events``. For one reader at a time; ``async for`` works too.
    """

    def __init__(
        self,
        store: Store,
        run_id: RunId,
        root_id: RunId,
        *,
        feed: Feed | None,
        members: Iterable[RunId],
        after: int,
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._root_id = root_id
        self._feed = feed
        self._members = set(members)
        self._ended = False
        self._batch: list[Event] = []
        self.cursor = after

    @property
    def behind(self) -> bool:
        """Whether there are events that this reader has not seen yet."""
        return self._feed is not None and not self._ended and self._feed.shown > self.cursor

    @property
    def over(self) -> bool:
        """Whether all has been read: nothing will ever come again."""
        return self._ended

    async def next_batch(self) -> list[Event]:
        """Wait for events and return up to 256 of them; an empty list once the feed is over.

        May be cancelled at any time; nothing is lost by it.
        """
        while not self._ended:
            events = await self._read()
            if not events:
                if self._feed is None or self._feed.ended:
                    break
                await self._feed.wait_beyond(self.cursor)
                continue
            self.cursor = events[-1].seq
            mine = self._pick(events)
            if mine:
                return mine
        self._ended = True
        return []

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        if not self._batch:
            self._batch = (await self.next_batch())[::-1]
        if not self._batch:
            raise StopAsyncIteration
        return self._batch.pop()

    async def at_most(self, limit: int) -> list[Event]:
        """Return the next events, up to ``limit``; fewer only if the feed is over."""
        found: list[Event] = []
        while len(found) < limit:
            batch = await self.next_batch()
            if not batch:
                break
            found.extend(batch)
        return found[:limit]

    async def _read(self) -> list[Event]:
        if self._feed is not None:
            # Before the look, so that nothing can be shown between the look and the decision.
            await trio.lowlevel.checkpoint()
            recent = self._feed.after(self.cursor)
            if recent is not None:
                return recent[:PAGE]
        return await self._store.events(self._root_id, after=self.cursor, limit=PAGE)

    def _pick(self, events: list[Event]) -> list[Event]:
        """Leave out the runs beside ours, and everything after our final event."""
        mine = []
        for event in events:
            if event.type == RunQueued.type and event.data["parent_id"] in self._members:
                self._members.add(event.run_id)
            if event.run_id in self._members:
                mine.append(event)
            if event.run_id == self._run_id and event.type in ENDINGS:
                self._ended = True
                break
        return mine

"""The latest events of all trees, for those who watch everything.

The broadcast keeps a bounded number of them in memory, and a listener is a position in it and a
wake-up; so a slow listener costs no memory. Nor is it told a lie: once its place is not kept any
more, it hears that it has lost it, and where it stands now; then it must read what is there, and
goes on from that place. Whatever was shown up to a place is in the store.
"""

from __future__ import annotations

import re
import secrets
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from orchestrator.errors import InvalidInput, check_text
from orchestrator.observing import Observer
from orchestrator.store.codec import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.events import Event
    from orchestrator.model import RunRecord

KEPT = 4096
# Results are part of events, and may be large.
KEPT_BYTES = 8 * 2**20
PAGE = 256

_POSITION = re.compile(r"([0-9a-f]{8})-(\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True, eq=False)
class Notice:
    """An event as it was shown to all, with what it takes to choose among them.

    Attributes:
        position: where it stands; a listener that comes back from there misses nothing.
        agent, owner: those of the run that speaks.
    """

    position: str
    event: Event
    agent: str
    owner: str


class Broadcast(Observer):
    """The last events that were shown, and the wake-up of everybody who listens.

    Attributes:
        count: how many events have been shown since the orchestrator was opened.
    """

    def __init__(self) -> None:
        # Positions of another life of the orchestrator must not be mistaken for ours.
        self._life = secrets.token_hex(4)
        # What notices are made of once somebody listens; and the sizes.
        self._kept: deque[tuple[Event, str, str, int]] = deque()
        self._bytes = 0
        self._wake: trio.Event | None = None
        self.count = 0

    def shown(self, event: Event, record: RunRecord) -> None:
        """Let listeners hear of an event that is durable now. Not a checkpoint."""
        self.count += 1
        size = len(encode(event.data))
        self._kept.append((event, record.agent, record.owner, size))
        self._bytes += size
        while len(self._kept) > KEPT or (self._bytes > KEPT_BYTES and len(self._kept) > 1):
            self._bytes -= self._kept.popleft()[3]
        if self._wake is not None:
            self._wake.set()
            self._wake = None

    def position(self, number: int) -> str:
        """Return the position right after so many events of this life."""
        return f"{self._life}-{number}"

    def number(self, position: str) -> int | None:
        """Return what ``position`` was made of; None if it is of another life.

        Raises:
            InvalidInput: it is no position at all.
        """
        parts = _POSITION.fullmatch(check_text("after", position))
        if parts is None:
            raise InvalidInput(
                [("after", f"{position!r} is not a position; pass the id of the last event")]
            )
        return int(parts[2]) if parts[1] == self._life else None

    def after(self, number: int) -> list[Notice] | None:
        """Return up to 256 notices after that one; None if they are not kept any more."""
        behind = self.count - number
        if not 0 <= behind <= len(self._kept):
            return None
        return [self._notice(n) for n in range(behind, max(behind - PAGE, 0), -1)]

    def _notice(self, n: int) -> Notice:
        """Return the last notice, the one before it, and so on, for 1, 2, …"""
        event, agent, owner, _ = self._kept[-n]
        return Notice(self.position(self.count + 1 - n), event, agent, owner)

    async def wait_beyond(self, number: int) -> None:
        """Wait until more than that many events have been shown."""
        while self.count <= number:
            if self._wake is None:
                self._wake = trio.Event()
            await self._wake.wait()


class Listener:
    """Hears the events of every run from a position on, for ever.

    Made by ``Orchestrator.listen``. For one reader at a time.
    """

    def __init__(
        self, broadcast: Broadcast, after: str | None, where: Callable[[Notice], bool] | None
    ) -> None:
        self._broadcast = broadcast
        self._where = where
        self._number = None if after is None else broadcast.number(after)

    @property
    def position(self) -> str:
        """Where it stands: everything up to here was heard, or left out on purpose."""
        number = self._broadcast.count if self._number is None else self._number
        return self._broadcast.position(number)

    @property
    def behind(self) -> bool:
        """Whether there is something that it has not heard yet."""
        return self._number is None or self._number < self._broadcast.count

    async def next_batch(self) -> list[Notice] | None:
        """Wait for events, and return up to 256 of them.

        None means that it has lost its place, or never had one, and stands at ``position`` now:
        whatever comes after what is in the store will be heard. May be cancelled at any time;
        nothing is lost by it.
        """
        while True:
            # Before the look, so that nothing can be shown between the look and the decision.
            await trio.lowlevel.checkpoint()
            found = None if self._number is None else self._broadcast.after(self._number)
            if self._number is None or found is None:
                self._number = self._broadcast.count
                return None
            if not found:
                await self._broadcast.wait_beyond(self._number)
                continue
            self._number += len(found)
            heard = found if self._where is None else list(filter(self._where, found))
            if heard:
                return heard

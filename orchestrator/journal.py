"""The one way to the store: everything durable goes through here, in order, in batches.

``append`` is synchronous, so that a decision and its record are one step. What was appended is
shown to anybody only after its batch is durable. A batch that the store does not take is tried
again until it does: the order is kept, nothing is dropped, and nobody is told what is not stored.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from functools import partial
from math import inf
from typing import TYPE_CHECKING, TypeAlias

import trio

from orchestrator.cleanup import bounded
from orchestrator.errors import StoreUnavailable
from orchestrator.observing import Observers
from orchestrator.store.protocol import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.store.protocol import Store
    from orchestrator.store.writes import Write
    from orchestrator.timers import Timers

_log = logging.getLogger("quiesce.journal")

# How long an entry that nobody waits for may stay in memory, so that many share one commit.
GATHER_S = 0.01
# Entries in memory above which agents that tell of themselves have to wait for the store.
ROOM = 10_000
# Entries in one transaction: bounds how long an urgent one waits behind the batch before it.
BATCH = 1_000
# Entries that are shown before others have their turn: of a flood all would take a while.
SHOWN_AT_ONCE = 100
RETRY_S = 0.25
# A store that has not answered for so many seconds counts as one that refuses, until it answers.
STALL_S = 10.0


_Entry: TypeAlias = "tuple[Sequence[Write], Callable[[], None] | None]"


class Journal:
    """Ordered, batched and retried writes to one store."""

    def __init__(self, store: Store, timers: Timers, observers: Observers | None = None) -> None:
        self._store = store
        # Set lazily, and so moved once in ``STALL_S`` rather than at every batch.
        self._stall = timers.timer(self._look_whether_stalled)
        self._observers = observers or Observers()
        self._pending: list[_Entry] = []
        self._appended = 0
        self._asked = 0
        self._durable = 0
        self._some = trio.Event()
        self._hurry = trio.Event()
        self._turned = trio.Event()
        # What was appended up to here is durable, or will be once the disk has done its part.
        self._committing = 0
        self._underway = trio.Event()
        self._service = bounded(inf)
        self._closing = False
        self._closed = False
        self._refused: StoreUnavailable | None = None
        # Metrics are read in a thread, where there is no ``trio.current_time``.
        self._clock = trio.lowlevel.current_clock()
        # When the try that is under way began, on Trio's clock.
        self._began = inf

    @property
    def failing(self) -> StoreUnavailable | None:
        """Why the store does not take writes at present; None while it does. For any thread."""
        if self._closed:
            return StoreUnavailable("the orchestrator is closed, so nothing is stored any more")
        waited_s = self._clock.current_time() - self._began
        if self._refused is None and waited_s >= STALL_S:
            return StoreUnavailable(f"the store has not answered for {waited_s:.0f} s")
        return self._refused

    @property
    def backlog(self) -> int:
        """How many entries are not durable yet."""
        return self._appended - self._durable

    def append(
        self,
        writes: Sequence[Write],
        shown: Callable[[], None] | None = None,
        *,
        urgent: bool = False,
    ) -> int:
        """Take the writes into the next batch and return their ticket for ``durable``.

        Args:
            shown: called, synchronously and in order, once they are durable.
            urgent: do not gather; what was appended before goes along.
        """
        self._pending.append((writes, shown))
        self._appended += 1
        self._some.set()
        if urgent or len(self._pending) >= BATCH:
            self._hurry.set()
        return self._appended

    def attach(self, ticket: int, writes: Sequence[Write]) -> int:
        """Let writes become durable in one transaction with what has that ticket.

        To be called in the step in which that was appended; later they go on their own.

        Returns:
            the ticket to wait for.
        """
        place = len(self._pending) - 1 - (self._appended - ticket)
        if place < 0:
            return self.append(writes, urgent=True)
        before, shown = self._pending[place]
        self._pending[place] = ([*before, *writes], shown)
        return ticket

    async def durable(self, ticket: int) -> None:
        """Wait until everything up to that ticket is durable.

        Raises:
            StoreUnavailable: the store refuses writes at present, or does not answer. The entry is
                kept, and stored as soon as the store takes it.
        """
        self._hurry.set()
        while self._durable < ticket:
            if (failing := self.failing) is not None:
                raise StoreUnavailable(str(failing)) from failing
            await self._turned.wait()

    async def underway(self, ticket: int) -> None:
        """Wait until the disk is at work on what has that ticket, or that is already durable.

        From then on, until it is durable, nobody needs the interpreter for it: the time for what
        is to be ready afterwards. Returns too if the store does not take it at present.
        """
        self._hurry.set()
        while max(self._committing, self._durable) < ticket and self.failing is None:
            await self._underway.wait()

    async def stored(self, ticket: int) -> None:
        """Wait until everything up to that ticket is durable, also for a store that refuses.

        Raises:
            StoreUnavailable: the journal is closed.
        """
        self._hurry.set()
        while self._durable < ticket:
            if self._closed:
                raise StoreUnavailable(str(self.failing))
            await self._turned.wait()

    async def room(self) -> None:
        """Wait while so much is unwritten that more would only fill the memory. A checkpoint.

        Others get their turn at every 16th call only, as that is what costs time.
        """
        self._asked += 1
        if self._asked % 16:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            await trio.lowlevel.checkpoint()
        while len(self._pending) >= ROOM:
            await self._turned.wait()

    async def run(self) -> None:
        """Write batches until ``close``. Shielded: the last word of a run must get through."""
        with self._service:
            while not (self._closing and not self._pending):
                await _set(self._some, within_s=self._store.pulse_s)
                await _set(self._hurry, within_s=0 if self._closing else GATHER_S)
                batch = self._take()
                # An empty one is a pulse.
                if batch or not self._closing:
                    await self._store_batch(batch)
        self._stall.unset()
        self._closed = True
        self._turn()

    def close(self, within_s: float) -> None:
        """End ``run`` once all is durable, or after ``within_s`` seconds. May be called twice."""
        self._closing = True
        self._some.set()
        self._hurry.set()
        self._service.deadline = min(self._service.deadline, trio.current_time() + within_s)

    def _take(self) -> list[_Entry]:
        batch, self._pending = self._pending[:BATCH], self._pending[BATCH:]
        # What a full batch leaves has waited for long enough.
        if not self._pending:
            self._some, self._hurry = trio.Event(), trio.Event()
        if self._closing:
            self._some.set()
        return batch

    async def _store_batch(self, batch: list[_Entry]) -> None:
        writes = [write for writes, _ in batch for write in writes]
        told = Told(
            stored=partial(self._stored, batch, len(writes)),
            committing=partial(self._let_go, self._durable + len(batch)),
        )
        while True:
            self._began = trio.current_time()
            if self._stall.when == inf:
                self._stall.set(self._began + STALL_S)
            try:
                await self._store.write(writes, told)
            except StoreUnavailable as error:
                self._failed(error)
                await trio.sleep(RETRY_S)
            except Exception as error:
                # A bug, here or in the store: nobody may wait for what will never be written.
                self._failed(StoreUnavailable(f"the store failed: {error!r}"))
                raise
            else:
                break
            finally:
                self._began = inf
        for first in range(SHOWN_AT_ONCE, len(batch), SHOWN_AT_ONCE):
            # All of it is stored, so no cancellation may keep it from being shown.
            await trio.lowlevel.cancel_shielded_checkpoint()
            self._show(batch[first : first + SHOWN_AT_ONCE])

    def _stored(self, batch: list[_Entry], writes: int) -> None:
        # The store calls it a turn of the loop before its ``write`` returns, and a caller of the
        # interface waits for what is shown here.
        self._refused = None
        self._observers.committed(writes, trio.current_time() - self._began)
        self._show(batch[:SHOWN_AT_ONCE])

    def _show(self, entries: list[_Entry]) -> None:
        for _, shown in entries:
            if shown is not None:
                shown()
            # Not before: who waits for it goes on with what is shown.
            self._durable += 1
        self._turn()

    def _look_whether_stalled(self) -> None:
        """Wake those who wait if the try that is under way has taken too long."""
        due = self._began + STALL_S
        if due > trio.current_time():
            self._stall.set(due)
        else:
            self._turn()

    def _failed(self, error: StoreUnavailable) -> None:
        if self._refused is None:
            _log.error("the store does not take writes, trying again until it does: %s", error)
        self._refused = error
        self._turn()

    def _turn(self) -> None:
        self._turned.set()
        self._turned = trio.Event()
        self._let_go(self._durable)

    def _let_go(self, ticket: int) -> None:
        self._committing = ticket
        self._underway.set()
        self._underway = trio.Event()


async def _set(event: trio.Event, *, within_s: float) -> None:
    """Wait until the event is set, or so long. A checkpoint only if it is not set yet."""
    if event.is_set():
        return
    # A scope costs more than all the rest of a commit.
    with nullcontext() if within_s == inf else trio.move_on_after(within_s):
        await event.wait()

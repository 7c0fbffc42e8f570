"""What is kept, and for how long: trees whose time is over are forgotten, and what is stale is
settled and counted.

A run that is stale cannot be: an entry of the registry leaves it in the step in which the run's
end is durable, and recovery settles what a process left over. Should one be there nevertheless,
it must not stay for ever.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded
from orchestrator.errors import IllegalTransition, PartOfATree, StoreDamaged, StoreUnavailable
from orchestrator.feed import Feed
from orchestrator.recovery import settle_left
from orchestrator.starting import Starter
from orchestrator.store.writes import Forget

if TYPE_CHECKING:
    from orchestrator.model import RunId
    from orchestrator.services import Services

_log = logging.getLogger("quiesce.retention")

# Seconds between two looks.
EVERY_S = 60.0
# Trees that are looked up at once. Each is removed in a transaction of its own, and whoever has
# something to write comes in between.
_TREES = 100


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What was done since the orchestrator was opened.

    Attributes:
        forgotten: trees that were removed, since their time was over.
        entries_reaped: entries of the registry whose run had ended.
        records_reaped: records of runs that had not ended, and were nobody's.
    """

    forgotten: int = 0
    entries_reaped: int = 0
    records_reaped: int = 0


class Keeper:
    """The task that looks after what is kept.

    Attributes:
        upkeep: what it has done so far.
    """

    def __init__(self, services: Services, retention_s: float) -> None:
        self._services = services
        self._retention_s = retention_s
        self._service = bounded(inf)
        self.upkeep = Upkeep()

    async def run(self) -> None:
        """Look after things now and then, until ``close``."""
        with self._service:
            while True:
                try:
                    await self.look()
                except (StoreUnavailable, StoreDamaged) as error:
                    # Runs go on with what they have, whatever of the store cannot be read.
                    _log.warning("nothing is forgotten at present: %s", error)
                await trio.sleep(EVERY_S)

    def close(self) -> None:
        """End ``run``. May be called twice."""
        self._service.cancel()

    async def look(self) -> None:
        """Reap what is stale, and forget what has been kept long enough.

        Raises:
            StoreUnavailable, StoreDamaged: the store cannot be read, at present or at all.
        """
        self._reap_entries()
        await self._reap_records()
        await self._forget()

    def _reap_entries(self) -> None:
        for run in self._services.registry:
            if run.shown is not None and run.shown.status.is_terminal:
                _log.error("run %s had ended, and was still registered", run.id)
                run.leave()
                self._count(entries_reaped=1)

    async def _reap_records(self) -> None:
        """Settle runs of the store that nobody runs.

        A run is registered before it is stored, and stored as ended before it leaves: one that is
        not there and then still has not ended in the store is nobody's.
        """
        services, feeds = self._services, dict[str, Feed]()
        stored = await services.store.unfinished()
        # Children before parents, as their last events always are.
        for each in reversed([run for run in stored if run.id not in services.registry]):
            record = await services.store.get(each.id)
            if record is None or record.status.is_terminal:
                continue
            root = services.registry.get(record.root_id)
            if root is None and record.root_id not in feeds:
                last = await services.store.last_seq(record.root_id)
                feeds[record.root_id] = Feed(record.root_id, last)
            feed = feeds[record.root_id] if root is None else root.feed
            _log.error("run %s had not ended, and nobody ran it", record.id)
            settle_left(record, record.stop, feed, services)
            self._count(records_reaped=1)

    async def _forget(self) -> None:
        store, now = self._services.store, datetime.fromisoformat(self._services.now(0))
        for root_id in await store.forgotten(limit=_TREES):
            await self._remove(root_id)
        while True:
            over = await store.expired(
                now_s=now.timestamp(), retention_s=self._retention_s, limit=_TREES
            )
            for root_id in over:
                await self._remove(root_id)
            left = [root_id for root_id in over if await store.get(root_id) is not None]
            self._count(forgotten=len(over) - len(left))
            if len(over) < _TREES or left:
                return

    async def _remove(self, root_id: RunId) -> None:
        """Remove a tree, piece by piece if its feed is long."""
        journal, store = self._services.journal, self._services.store
        while True:
            await journal.stored(_forget(self._services, root_id))
            if root_id not in await store.forgotten(limit=_TREES):
                return

    def _count(self, **more: int) -> None:
        sums = {name: getattr(self.upkeep, name) + number for name, number in more.items()}
        self.upkeep = replace(self.upkeep, **sums)


class Keeping(Starter):
    """The part of an orchestrator that removes runs."""

    _keeper: Keeper | None = None

    @property
    def upkeep(self) -> Upkeep:
        """What was forgotten since its time was over, and what was stale and is settled."""
        return Upkeep() if self._keeper is None else self._keeper.upkeep

    async def forget(self, run_id: str) -> None:
        """Remove a run that has ended, with everything below it and all that they left behind.

        That is gone for good when this returns, and nobody knows the runs any more. Data goes if
        one of these runs wrote it last.

        Raises:
            UnknownRun: no run has that id (any more).
            PartOfATree: it is the run of a sub-agent; its root can be removed.
            IllegalTransition: it has not ended.
            StoreUnavailable: not yet; it will be as soon as the store takes it.
        """
        await self._services.journal.durable(await self.request_forget(run_id))

    async def request_forget(self, run_id: str) -> int:
        """Remove such a run in the step in which this returns, without waiting until it is durable.

        Errors as for ``forget``, and the journal's ticket to wait for.
        """
        journal, live = self._services.journal, self.live(run_id)
        if live is not None and live.record.status.is_terminal:
            # Its end is being stored.
            await journal.durable(live.ticket)
        top = await self.get(run_id)
        if top.parent_id is not None:
            raise PartOfATree(top.id, top.root_id)
        for record in await self.tree(run_id):
            if not record.status.is_terminal:
                raise IllegalTransition(record.status, "be deleted")
        return _forget(self._services, top.id)


def _forget(services: Services, root_id: RunId) -> int:
    """Remove a tree, or some of what is left of it; return the journal's ticket."""
    tell = partial(services.observers.forgotten, root_id)
    return services.journal.append([Forget(root_id)], tell, urgent=True)

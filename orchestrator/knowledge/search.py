"""Searching what the runs of an orchestrator have found to read.

The texts are artifacts of their runs, in whatever store there is, and nowhere else durable. The
index is made of them: the first search takes in what is there, each later one what has come since.
So it need not be backed up, cannot be behind, and loses nothing in a crash.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from orchestrator.errors import UnknownRun
from orchestrator.knowledge.index import Index
from orchestrator.observing import Observer
from orchestrator.store.protocol import RunFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.events import Event
    from orchestrator.knowledge.index import Passage
    from orchestrator.model import RunId, RunRecord
    from orchestrator.runtime import Orchestrator

T = TypeVar("T")

# The agents whose runs find something to read, and the artifact that it is in, as JSON lines.
SOURCES = {"crawl": "pages.jsonl", "ingest": "chunks.jsonl"}
_PAGE = 500


class Knowledge(Observer):
    """What the runs of an orchestrator have found to read.

    Nothing is read before the first search. What a run has stored is found from then on, also
    while it goes on and after it was stopped; what is removed with a run is found no more.

    Args:
        orchestrator: whose runs it is about; it outlives this.
    """

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator
        self._index: Index | None = None
        # Runs of which the index does not have everything; in order, so that later ones win.
        self._behind: dict[RunId, None] = {}
        self._forgotten: list[RunId] = []
        self._turn = trio.Lock()
        self._thread = trio.CapacityLimiter(1)
        orchestrator.observers.add(self)

    def shown(self, event: Event, record: RunRecord) -> None:
        """See ``Observer``: note what the index has to take in, or to drop."""
        if self._index is not None and record.agent in SOURCES:
            ended_discarded = record.stop is not None and record.status.is_terminal
            named = event.type == "run.artifact" and event.data["name"] == SOURCES[record.agent]
            if named or ended_discarded:
                self._behind[record.id] = None

    def forgotten(self, root_id: RunId) -> None:
        """See ``Observer``: note what the index has to drop."""
        if self._index is not None:
            self._forgotten.append(root_id)

    async def search(
        self, words: str = "", *, owner: str | None = None, skip: int = 0, limit: int = 20
    ) -> list[Passage]:
        """Return passages with all of these words, the best first.

        Words are found in their other forms too, whatever their accents; signs count for nothing.
        What several runs have found alike is there once. Searches take turns. A checkpoint.

        Args:
            words: if empty, the beginning of each document and page is returned, the latest first.
            owner: of the runs; None for everybody.
            skip, limit: so many are left out at the beginning, and so many returned at most.

        Raises:
            StoreUnavailable: the store cannot be read at present.
        """
        async with self._turn:
            index = await self._up_to_date()
            return await self._apart(
                partial(index.find, words, owner=owner, skip=skip, limit=limit)
            )

    def close(self) -> None:
        """Remove the index; a later search makes a new one. May be called twice."""
        if self._index is not None:
            self._index.close()
        self._index = None

    async def _up_to_date(self) -> Index:
        if self._index is None:
            # What comes from now on is noted.
            index = self._index = Index()
            self._behind = {}
            try:
                self._behind = {**await self._stored(), **self._behind}
            except BaseException:
                self.close()
                raise
        index = self._index
        while self._forgotten:
            await self._apart(partial(index.drop_tree, self._forgotten[0]))
            del self._forgotten[0]
        while self._behind:
            run_id = next(iter(self._behind))
            del self._behind[run_id]
            try:
                await self._take_in(index, run_id)
            except BaseException:
                self._behind[run_id] = None
                raise
        return index

    async def _stored(self) -> dict[RunId, None]:
        """Return the runs that may have something, the oldest first."""
        found: list[RunRecord] = []
        for agent in SOURCES:
            after, more = None, True
            while more:
                page = await self._orchestrator.runs(
                    RunFilter(agent=agent), after=after, limit=_PAGE
                )
                found += page.runs
                after, more = page.next, page.next is not None
        return {record.id: None for record in sorted(found, key=lambda each: each.created_at)}

    async def _take_in(self, index: Index, run_id: RunId) -> None:
        try:
            record = await self._orchestrator.get(run_id)
        except UnknownRun:
            return
        data = await self._orchestrator.artifact(run_id, SOURCES[record.agent])
        if data is None:
            await self._apart(partial(index.drop, run_id))
        else:
            await self._apart(partial(index.put, run_id, record.root_id, record.owner, data))

    async def _apart(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, limiter=self._thread)

"""Everything one may read about runs, whether they are live or have ended."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.broadcast import Broadcast, Listener
from orchestrator.errors import UnknownRun, check_count
from orchestrator.feed import Subscription
from orchestrator.model import RunId
from orchestrator.store.protocol import RunFilter

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.broadcast import Notice
    from orchestrator.model import Json, RunRecord
    from orchestrator.registry import Registry
    from orchestrator.store.protocol import ArtifactInfo, RunPage, Store


class RunReader:
    """Reads runs: of the live ones what is durable, of the others what is stored.

    Attributes:
        registry: the live runs.
        broadcast: the latest events of all runs.
    """

    def __init__(self, store: Store, registry: Registry) -> None:
        self.store = store
        self.registry = registry
        self.broadcast = Broadcast()

    async def get(self, run_id: str) -> RunRecord:
        """Return a run's record as it is durable.

        Raises:
            UnknownRun: no run has that id.
        """
        run = self.registry.get(run_id)
        record = run.shown if run is not None else None
        record = record or await self.store.get(run_id)
        if record is None:
            raise UnknownRun(run_id)
        return record

    async def runs(
        self,
        where: RunFilter | None = None,
        *,
        after: str | None = None,
        limit: int = 50,
        brief: bool = False,
    ) -> RunPage:
        """Return a page of runs, newest first. Arguments and errors as for ``Store.page``."""
        check_count("limit", limit, least=1)
        return await self.store.page(where or RunFilter(), after=after, limit=limit, brief=brief)

    async def tree(self, run_id: str) -> list[RunRecord]:
        """Return the run and its sub-agents, parents before children.

        Raises:
            UnknownRun: no run has that id.
        """
        top = await self.get(run_id)
        members = {top.id}
        found = []
        for record in await self.store.tree(top.root_id):
            if record.id in members or record.parent_id in members:
                members.add(record.id)
                found.append(record)
        return found

    async def events(self, run_id: str, *, after: int = 0, follow: bool = True) -> Subscription:
        """Return a subscription to a run and its sub-agents.

        Args:
            after: events up to this number are left out.
            follow: wait for what is still to come, rather than end with what there is.

        Raises:
            UnknownRun: no run has that id.
        """
        tree = await self.tree(run_id)
        # Looked up after the wait: whatever ended in the meantime is whole in the store.
        root = self.registry.get(tree[0].root_id)
        return Subscription(
            self.store,
            RunId(run_id),
            tree[0].root_id,
            feed=root.feed if root is not None and follow else None,
            members=[record.id for record in tree],
            after=after,
        )

    def listen(
        self, *, after: str | None = None, where: Callable[[Notice], bool] | None = None
    ) -> Listener:
        """Return a listener to the events of every run. Not a checkpoint.

        Args:
            after: the position of the last event that was heard; None to begin with now.
            where: whether to hear of an event; of all if None.

        Raises:
            InvalidInput: ``after`` is no position at all.
        """
        return Listener(self.broadcast, after, where)

    async def partial(self, run_id: str) -> Json:
        """Return a run's latest partial result; None if it has none."""
        live = self.registry.get(run_id)
        if live is not None and live.record.attempt == 1 and not live.has_partial:
            return None
        return await self.store.partial(run_id)

    async def document(self, collection: str, key: str) -> Json:
        """Return a document that was kept; None if there is none."""
        found = await self.store.document(collection, key)
        return None if found is None else json.loads(found)

    async def kept(
        self, collection: str, *, after: str = "", limit: int, newest: bool = False
    ) -> list[tuple[str, Json]]:
        """Return documents of a collection with their keys; see ``Store.documents``."""
        found = await self.store.documents(collection, after=after, limit=limit, newest=newest)
        return [(key, json.loads(value)) for key, value in found]

    async def kept_one(self, collection: str, key: str) -> Json:
        """Return a document of a collection; None if it is not there."""
        found = await self.store.document(collection, key)
        return None if found is None else json.loads(found)

    async def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """Return what files were kept with a run."""
        return await self.store.artifacts(run_id)

    async def artifact(self, run_id: str, name: str) -> bytes | None:
        """Return one of those files, or None."""
        return await self.store.artifact(run_id, name)

"""A store in plain dicts: as exact as the one on disk, and gone with its owner.

What a write brings is kept as it is, and handed out as it is: records are frozen, and the JSON
values in them (input, result, an event's data) are given away by whoever writes them and only
looked at by whoever reads them.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from dataclasses import dataclass, field, replace
from heapq import nlargest, nsmallest
from itertools import islice
from math import inf
from operator import attrgetter
from typing import TYPE_CHECKING, assert_never

import trio

from orchestrator.store.codec import lifetime
from orchestrator.store.protocol import NOBODY, ArtifactInfo, RunPage, StoredStep, Told
from orchestrator.store.query import read_cursor
from orchestrator.store.writes import (
    AppendEvent,
    Discard,
    DropData,
    DropDocument,
    Forget,
    SaveArtifact,
    SaveData,
    SaveDocument,
    SavePartial,
    SaveRun,
    SaveStep,
    SaveTags,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.events import Event
    from orchestrator.model import Json, RunId, RunRecord
    from orchestrator.store.protocol import RunFilter
    from orchestrator.store.writes import Write

_seq = attrgetter("seq")


@dataclass(slots=True)
class _Artifact:
    media_type: str
    chunks: list[bytes] = field(default_factory=list)


class MemoryStore:
    """The ``Store`` of tests and of embedded programs that need nothing on disk.

    Every method begins with a checkpoint and does the rest in one step, so that nothing, a batch
    of writes least of all, can be cancelled half-way or seen half done.
    """

    pulse_s = inf
    last_is_gone = True

    def __init__(self) -> None:
        self._runs: dict[str, RunRecord] = {}
        # The ids by age; a run's number, which is what cursors are made of, is its place + 1.
        # Those that were forgotten leave a hole.
        self._order: list[RunId | None] = []
        self._numbers: dict[str, int] = {}
        # Each feed is sorted by seq.
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        self._partials: dict[str, bytes] = {}
        self._artifacts: defaultdict[str, dict[str, _Artifact]] = defaultdict(dict)
        # By root, then by (path, name), in the order of storing.
        self._steps: defaultdict[str, dict[tuple[str, str], StoredStep]] = defaultdict(dict)
        # By (owner, namespace), then by key.
        self._data: defaultdict[tuple[str, str], dict[str, SaveData]] = defaultdict(dict)
        self._documents: defaultdict[str, dict[str, bytes]] = defaultdict(dict)

    async def write(self, batch: Sequence[Write], told: Told = NOBODY) -> None:
        """Take the whole batch; see ``Store.write``.

        Raises:
            ValueError: an event's (root_id, seq) or a step's (root_id, path, name) is not new;
                nothing of the batch was taken.
        """
        await trio.lowlevel.checkpoint()
        self._refuse_stored_events(batch)
        self._refuse_stored_steps(batch)
        for write in batch:
            self._apply(write)
        told.stored()

    async def get(self, run_id: str) -> RunRecord | None:
        """See ``Store.get``."""
        await trio.lowlevel.checkpoint()
        return self._runs.get(run_id)

    async def page(
        self, where: RunFilter, *, after: str | None, limit: int, brief: bool = False
    ) -> RunPage:
        """See ``Store.page``."""
        await trio.lowlevel.checkpoint()
        newest = len(self._order) if after is None else read_cursor(after) - 1
        numbers = range(min(newest, len(self._order)), 0, -1)
        runs = ((n, self._runs[id_]) for n in numbers if (id_ := self._order[n - 1]) is not None)
        found = list(islice((each for each in runs if where.fits(each[1])), limit + 1))
        more = str(found[limit - 1][0]) if len(found) > limit else None
        listed = (replace(run, input=None, result=None) if brief else run for _, run in found)
        return RunPage(tuple(islice(listed, limit)), more)

    async def unfinished(self) -> list[RunRecord]:
        """See ``Store.unfinished``."""
        await trio.lowlevel.checkpoint()
        return [run for run in self._runs.values() if not run.status.is_terminal]

    async def tree(self, root_id: str) -> list[RunRecord]:
        """See ``Store.tree``."""
        await trio.lowlevel.checkpoint()
        return [run for run in self._runs.values() if run.root_id == root_id]

    async def expired(self, *, now_s: float, retention_s: float, limit: int) -> list[RunId]:
        """See ``Store.expired``."""
        await trio.lowlevel.checkpoint()
        over = (run.id for run in self._runs.values() if _is_over(run, now_s, retention_s))
        return list(islice(over, limit))

    async def forgotten(self, *, limit: int) -> list[RunId]:
        """See ``Store.forgotten``; here nothing takes long."""
        await trio.lowlevel.checkpoint()
        return []

    async def events(self, root_id: str, *, after: int, limit: int) -> list[Event]:
        """See ``Store.events``."""
        await trio.lowlevel.checkpoint()
        feed = self._events.get(root_id, [])
        first = bisect_right(feed, after, key=_seq)
        return feed[first : first + limit]

    async def last_seq(self, root_id: str) -> int:
        """See ``Store.last_seq``."""
        await trio.lowlevel.checkpoint()
        feed = self._events.get(root_id)
        return feed[-1].seq if feed else 0

    async def partial(self, run_id: str) -> Json:
        """See ``Store.partial``."""
        await trio.lowlevel.checkpoint()
        value = self._partials.get(run_id)
        return None if value is None else json.loads(value)

    async def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """See ``Store.artifacts``."""
        await trio.lowlevel.checkpoint()
        return [
            ArtifactInfo(name, artifact.media_type, sum(map(len, artifact.chunks)))
            for name, artifact in sorted(self._artifacts.get(run_id, {}).items())
        ]

    async def artifact(self, run_id: str, name: str) -> bytes | None:
        """See ``Store.artifact``."""
        await trio.lowlevel.checkpoint()
        artifact = self._artifacts.get(run_id, {}).get(name)
        return None if artifact is None else b"".join(artifact.chunks)

    async def steps(self, root_id: str) -> list[StoredStep]:
        """See ``Store.steps``."""
        await trio.lowlevel.checkpoint()
        return list(self._steps.get(root_id, {}).values())

    async def data(self, owner: str, namespace: str, key: str) -> bytes | None:
        """See ``Store.data``."""
        await trio.lowlevel.checkpoint()
        entry = self._data.get((owner, namespace), {}).get(key)
        return None if entry is None else entry.value

    async def data_keys(
        self, owner: str, namespace: str, *, prefix: str, after: str, limit: int
    ) -> list[str]:
        """See ``Store.data_keys``."""
        await trio.lowlevel.checkpoint()
        keys = self._data.get((owner, namespace), {})
        return nsmallest(limit, (key for key in keys if key.startswith(prefix) and key > after))

    async def document(self, collection: str, key: str) -> bytes | None:
        """See ``Store.document``."""
        await trio.lowlevel.checkpoint()
        return self._documents.get(collection, {}).get(key)

    async def documents(
        self, collection: str, *, after: str = "", limit: int, newest: bool = False
    ) -> list[tuple[str, bytes]]:
        """See ``Store.documents``."""
        await trio.lowlevel.checkpoint()
        kept = self._documents.get(collection, {})
        if newest:
            keys = nlargest(limit, (key for key in kept if not after or key < after))
        else:
            keys = nsmallest(limit, (key for key in kept if key > after))
        return [(key, kept[key]) for key in keys]

    def _refuse_stored_events(self, batch: Sequence[Write]) -> None:
        new: set[tuple[str, int]] = set()
        for event in (write.event for write in batch if isinstance(write, AppendEvent)):
            key = (event.root_id, event.seq)
            feed = self._events.get(event.root_id, [])
            place = bisect_left(feed, event.seq, key=_seq)
            if key in new or (place < len(feed) and feed[place].seq == event.seq):
                raise ValueError(f"event {event.seq} of tree {event.root_id} is stored already")
            new.add(key)

    def _refuse_stored_steps(self, batch: Sequence[Write]) -> None:
        new: set[tuple[str, str, str]] = set()
        gone: set[str] = set()
        twice: dict[str, str] = {}
        for write in batch:
            if isinstance(write, Discard):
                gone.add(write.run_id)
                new = {step for step in new if step[0] != write.run_id}
                twice.pop(write.run_id, None)
            elif isinstance(write, SaveStep):
                root, step = write.root_id, (write.path, write.name)
                stored = () if root in gone else self._steps.get(root, ())
                if step in stored or (root, *step) in new:
                    twice[root] = write.name
                new.add((root, *step))
        if twice:
            raise ValueError(f"steps are stored already, by tree: {twice}")

    def _apply(self, write: Write) -> None:
        match write:
            case SaveRun(record):
                self._save(record)
            case SaveTags():
                pass  # runs are found by the tags in their records
            case AppendEvent(event):
                insort(self._events[event.root_id], event, key=_seq)
            case SavePartial(run_id, value):
                self._partials[run_id] = value
            case SaveArtifact(run_id, name, media_type, data, append):
                kept = self._artifacts[run_id]
                if not append or name not in kept:
                    kept[name] = _Artifact(media_type)
                kept[name].chunks.append(data)
            case SaveStep(root_id, path, name, value):
                self._steps[root_id][path, name] = StoredStep(path, name, value)
            case SaveData(_, owner, namespace, key, _):
                self._data[owner, namespace][key] = write
            case DropData(owner, namespace, key):
                self._data[owner, namespace].pop(key, None)
            case SaveDocument(collection, key, value):
                self._documents[collection][key] = value
            case DropDocument(collection, key):
                self._documents[collection].pop(key, None)
            case Discard(run_id):
                self._discard(run_id)
            case Forget(root_id):
                self._forget(root_id)
            case _:
                assert_never(write)

    def _discard(self, run_id: RunId) -> None:
        for of_runs in (self._partials, self._artifacts, self._steps):
            of_runs.pop(run_id, None)
        for entries in self._data.values():
            for key in [key for key, entry in entries.items() if entry.run_id == run_id]:
                del entries[key]

    def _forget(self, root_id: RunId) -> None:
        tree = [run for run in self._runs.values() if run.root_id == root_id]
        if not all(run.status.is_terminal for run in tree):
            return
        self._events.pop(root_id, None)
        for run in tree:
            self._discard(run.id)
            del self._runs[run.id]
            self._order[self._numbers.pop(run.id) - 1] = None

    def _save(self, record: RunRecord) -> None:
        stored = self._runs.get(record.id)
        if stored is None:
            self._order.append(record.id)
            self._numbers[record.id] = len(self._order)
        if stored is None or not stored.status.is_terminal:
            self._runs[record.id] = record


def _is_over(run: RunRecord, now_s: float, retention_s: float) -> bool:
    ended_s, expires_s = lifetime(run)
    if ended_s is not None:
        return ended_s <= now_s - retention_s
    return expires_s is not None and expires_s <= now_s

"""What the stores in SQL share: how a ``Store`` is read, in SQL that every database here takes.

``?`` stands for a value. What dialects say differently are attributes of ``Dialect``; what a batch
becomes stands in ``batch``, a page of runs in ``query``.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeVar

from orchestrator.errors import StoreDamaged
from orchestrator.model import RunId, RunStatus
from orchestrator.store.codec import read_event, read_run
from orchestrator.store.protocol import NOBODY, ArtifactInfo, RunPage, StoredStep, Told
from orchestrator.store.query import RUN_COLUMNS, page_query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.events import Event
    from orchestrator.model import Json, RunRecord
    from orchestrator.store.codec import Row
    from orchestrator.store.protocol import RunFilter
    from orchestrator.store.writes import Write

T = TypeVar("T")

Value = str | int | float | bytes | None

_LIVE = ", ".join(f"'{status}'" for status in RunStatus if not status.is_terminal)

_RUN = f"SELECT {RUN_COLUMNS} FROM runs WHERE id = ?"
_UNFINISHED = f"SELECT {RUN_COLUMNS} FROM runs WHERE status IN ({_LIVE}) ORDER BY number"
_TREE = f"SELECT {RUN_COLUMNS} FROM runs WHERE root_id = ? ORDER BY number"
_EXPIRED = """
SELECT id FROM runs WHERE ended_s <= ? UNION ALL SELECT id FROM runs WHERE expires_s <= ? LIMIT ?
"""
_FORGOTTEN = "SELECT root_id FROM forgotten LIMIT ?"
_EVENTS = """
SELECT root_id, seq, run_id, type, at, data FROM events
WHERE root_id = ? AND seq > ? ORDER BY seq LIMIT ?
"""
_LAST_SEQ = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE root_id = ?"
_PARTIAL = "SELECT value FROM partials WHERE run_id = ?"
_ARTIFACTS = "SELECT name, media_type, size FROM artifacts WHERE run_id = ? ORDER BY name"
# In one statement, so that an artifact that is just moved into a file is not missed.
_ARTIFACT = """
SELECT a.size, a.file, c.data FROM artifacts AS a
LEFT JOIN chunks AS c ON c.run_id = a.run_id AND c.name = a.name
WHERE a.run_id = ? AND a.name = ? ORDER BY c.chunk
"""
_REMEDY = "restore that from a backup, or delete the run"
_STEPS = "SELECT path, name, value FROM steps WHERE root_id = ? ORDER BY number"
_DATA = "SELECT value FROM data WHERE owner = ? AND namespace = ? AND key = ?"
_DATA_KEYS = """
SELECT key FROM data
WHERE owner = ? AND namespace = ? AND key >= ? AND {key_begins_with} AND key <> ?
ORDER BY key LIMIT ?
"""
_DOCUMENT = "SELECT value FROM documents WHERE collection = ? AND key = ?"
_DOCUMENTS = """
SELECT key, value FROM documents WHERE collection = ? AND key > ? ORDER BY key LIMIT ?
"""
_NEWEST_DOCUMENTS = """
SELECT key, value FROM documents
WHERE collection = ? AND (? = '' OR key < ?) ORDER BY key DESC LIMIT ?
"""


class SqlStore(ABC):
    """The reads of a ``Store`` in SQL.

    Attributes:
        key_begins_with: the condition that the column ``key`` begins with a value, for which
            there is an index.
        merges: whether it merges what is in order; see ``page_query``.
    """

    key_begins_with: str
    merges: bool

    @abstractmethod
    async def write(self, batch: Sequence[Write], told: Told = NOBODY) -> None:
        """See ``Store.write``."""

    @abstractmethod
    async def _read(self, decode: Callable[[Row], T], sql: str, *values: Value) -> list[T]:
        """Return the rows of a query, decoded in a thread."""

    async def get(self, run_id: str) -> RunRecord | None:
        """See ``Store.get``."""
        return next(iter(await self._read(read_run, _RUN, run_id)), None)

    async def page(
        self, where: RunFilter, *, after: str | None, limit: int, brief: bool = False
    ) -> RunPage:
        """See ``Store.page``."""
        sql, values = page_query(where, after, limit + 1, merges=self.merges, brief=brief)
        found = await self._read(_numbered_run, sql, *values)
        more = str(found[limit - 1][0]) if len(found) > limit else None
        return RunPage(tuple(run for _, run in found[:limit]), more)

    async def unfinished(self) -> list[RunRecord]:
        """See ``Store.unfinished``."""
        return await self._read(read_run, _UNFINISHED)

    async def tree(self, root_id: str) -> list[RunRecord]:
        """See ``Store.tree``."""
        return await self._read(read_run, _TREE, root_id)

    async def expired(self, *, now_s: float, retention_s: float, limit: int) -> list[RunId]:
        """See ``Store.expired``."""
        found = await self._read(tuple, _EXPIRED, now_s - retention_s, now_s, limit)
        return [RunId(run_id) for (run_id,) in found]

    async def forgotten(self, *, limit: int) -> list[RunId]:
        """See ``Store.forgotten``."""
        return [RunId(root_id) for (root_id,) in await self._read(tuple, _FORGOTTEN, limit)]

    async def events(self, root_id: str, *, after: int, limit: int) -> list[Event]:
        """See ``Store.events``."""
        return await self._read(read_event, _EVENTS, root_id, after, limit)

    async def last_seq(self, root_id: str) -> int:
        """See ``Store.last_seq``."""
        ((last,),) = await self._read(tuple, _LAST_SEQ, root_id)
        return int(last)

    async def partial(self, run_id: str) -> Json:
        """See ``Store.partial``."""
        return next(iter(await self._read(_json, _PARTIAL, run_id)), None)

    async def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """See ``Store.artifacts``."""
        return await self._read(_artifact_info, _ARTIFACTS, run_id)

    async def artifact(self, run_id: str, name: str) -> bytes | None:
        """See ``Store.artifact``."""
        gone: str | None = None
        while rows := await self._read(tuple, _ARTIFACT, run_id, name):
            size, file, _ = rows[0]
            if file is None:
                return b"".join(bytes(data) for _, _, data in rows if data is not None)
            if file == gone:
                raise StoreDamaged(f"artifact {name} of run {run_id} has lost its file; {_REMEDY}")
            data = await self._read_file(file, size)
            if data is not None and len(data) < size:
                why = f"is cut short: {len(data)} bytes of {size} are there"
                raise StoreDamaged(f"artifact {name} of run {run_id} {why}; {_REMEDY}")
            if data is not None:
                return data
            # It was replaced or discarded since: then its row is another now, or gone as well.
            gone = file
        return None

    async def _read_file(self, name: str, size: int) -> bytes | None:
        """Return so many bytes of a file, None if it is gone; for stores that have files."""
        raise NotImplementedError

    async def steps(self, root_id: str) -> list[StoredStep]:
        """See ``Store.steps``."""
        return await self._read(_step, _STEPS, root_id)

    async def data(self, owner: str, namespace: str, key: str) -> bytes | None:
        """See ``Store.data``."""
        return next(iter(await self._read(_only, _DATA, owner, namespace, key)), None)

    async def data_keys(
        self, owner: str, namespace: str, *, prefix: str, after: str, limit: int
    ) -> list[str]:
        """See ``Store.data_keys``."""
        sql = _DATA_KEYS.format(key_begins_with=self.key_begins_with)
        bounds = (max(prefix, after), prefix, after, limit)
        return [key for (key,) in await self._read(tuple, sql, owner, namespace, *bounds)]

    async def document(self, collection: str, key: str) -> bytes | None:
        """See ``Store.document``."""
        return next(iter(await self._read(_only, _DOCUMENT, collection, key)), None)

    async def documents(
        self, collection: str, *, after: str = "", limit: int, newest: bool = False
    ) -> list[tuple[str, bytes]]:
        """See ``Store.documents``."""
        if newest:
            return await self._read(_document, _NEWEST_DOCUMENTS, collection, after, after, limit)
        return await self._read(_document, _DOCUMENTS, collection, after, limit)


def _numbered_run(row: Row) -> tuple[int, RunRecord]:
    return row[0], read_run(row)


def _artifact_info(row: Row) -> ArtifactInfo:
    name, media_type, size = row
    return ArtifactInfo(name, media_type, int(size))


def _step(row: Row) -> StoredStep:
    path, name, value = row
    return StoredStep(path, name, bytes(value))


def _document(row: Row) -> tuple[str, bytes]:
    key, value = row
    return key, bytes(value)


def _json(row: Row) -> Json:
    return json.loads(row[0])


def _only(row: Row) -> bytes:
    return bytes(row[0])

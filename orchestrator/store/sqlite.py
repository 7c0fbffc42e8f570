"""A store in one SQLite file: one connection that writes, a few that read, all in threads."""

from __future__ import annotations

import json
from contextlib import ExitStack, asynccontextmanager, closing
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import apsw
import trio

from orchestrator.cleanup import bounded
from orchestrator.errors import InvalidInput, StoreDamaged, StoreUnavailable
from orchestrator.model import RunStatus
from orchestrator.store.batch import Rows
from orchestrator.store.codec import read_event, read_run
from orchestrator.store.connection import connect, explained, transaction
from orchestrator.store.lock import locked
from orchestrator.store.protocol import ArtifactInfo, RunPage, StoredStep
from orchestrator.store.query import RUN_COLUMNS, page_query
from orchestrator.store.schema import prepare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from orchestrator.events import Event
    from orchestrator.model import Json, RunRecord
    from orchestrator.store.codec import Row
    from orchestrator.store.protocol import RunFilter, Write

T = TypeVar("T")

_Value = str | int | bytes

READERS = 4
# Closing moves the log into the file, so it may take a while on a slow disk. Beyond this bound it
# goes on in its thread, and the file stays locked until it is done.
CLOSE_S = 10.0

_LIVE = ", ".join(f"'{status}'" for status in RunStatus if not status.is_terminal)

_RUN = f"SELECT {RUN_COLUMNS} FROM runs WHERE id = ?"
_UNFINISHED = f"SELECT {RUN_COLUMNS} FROM runs WHERE status IN ({_LIVE}) ORDER BY number"
_TREE = f"SELECT {RUN_COLUMNS} FROM runs WHERE root_id = ? ORDER BY number"
_EVENTS = """
SELECT root_id, seq, run_id, type, at, data FROM events
WHERE root_id = ? AND seq > ? ORDER BY seq LIMIT ?
"""
_LAST_SEQ = "SELECT COALESCE(MAX(seq), 0) FROM events WHERE root_id = ?"
_PARTIAL = "SELECT value FROM partials WHERE run_id = ?"
# With MIN(chunk) the media type is that of the first chunk: the one that it was made with.
_ARTIFACTS = """
SELECT name, media_type, SUM(LENGTH(data)), MIN(chunk) FROM artifacts
WHERE run_id = ? GROUP BY name ORDER BY name
"""
_ARTIFACT = "SELECT data FROM artifacts WHERE run_id = ? AND name = ? ORDER BY chunk"
_STEPS = "SELECT path, name, value FROM steps WHERE root_id = ? ORDER BY number"
_DATA = "SELECT value FROM data WHERE owner = ? AND namespace = ? AND key = ?"
# A bound of bytes that are no text, so that it can lie behind every key with the prefix.
_DATA_KEYS = """
SELECT key FROM data
WHERE owner = ? AND namespace = ? AND key >= ? AND key < CAST(? AS TEXT) AND key <> ?
ORDER BY key LIMIT ?
"""
_DOCUMENT = "SELECT value FROM documents WHERE collection = ? AND key = ?"
_DOCUMENTS = """
SELECT key, value FROM documents WHERE collection = ? AND key > ? ORDER BY key LIMIT ?
"""
_NEWEST_DOCUMENTS = """
SELECT key, value FROM documents
WHERE collection = ?1 AND (?2 = '' OR key < ?2) ORDER BY key DESC LIMIT ?3
"""


class SqliteStore:
    """The ``Store`` of one process, in one file; made by ``open_sqlite``."""

    def __init__(
        self, path: Path, writer: apsw.Connection, readers: Sequence[apsw.Connection]
    ) -> None:
        self._path = path
        self._writer = writer
        self._writing = trio.CapacityLimiter(1)
        # A thread that reads takes one out and puts it back; the limiter sees that one is there.
        self._idle = list(readers)
        self._reading = trio.CapacityLimiter(len(readers))

    async def write(self, batch: Sequence[Write]) -> None:
        """Make the whole batch durable in one transaction; see ``Store.write``.

        Raises:
            ValueError: an event's (root_id, seq) or a step's (root_id, path, name) is not new,
                or a value is not JSON; nothing of the batch was stored.
        """
        await trio.to_thread.run_sync(self._write, batch, limiter=self._writing)

    async def get(self, run_id: str) -> RunRecord | None:
        """See ``Store.get``."""
        return next(iter(await self._read(read_run, _RUN, run_id)), None)

    async def page(self, where: RunFilter, *, after: str | None, limit: int) -> RunPage:
        """See ``Store.page``."""
        sql, values = page_query(where, after, limit + 1)
        found = await self._read(_numbered_run, sql, *values)
        more = str(found[limit - 1][0]) if len(found) > limit else None
        return RunPage(tuple(run for _, run in found[:limit]), more)

    async def unfinished(self) -> list[RunRecord]:
        """See ``Store.unfinished``."""
        return await self._read(read_run, _UNFINISHED)

    async def tree(self, root_id: str) -> list[RunRecord]:
        """See ``Store.tree``."""
        return await self._read(read_run, _TREE, root_id)

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
        chunks = await self._read(_only, _ARTIFACT, run_id, name)
        return b"".join(chunks) if chunks else None

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
        beyond = prefix.encode() + b"\xff"
        bounds = (max(prefix, after), beyond, after, limit)
        return [key for (key,) in await self._read(tuple, _DATA_KEYS, owner, namespace, *bounds)]

    async def document(self, collection: str, key: str) -> bytes | None:
        """See ``Store.document``."""
        return next(iter(await self._read(_only, _DOCUMENT, collection, key)), None)

    async def documents(
        self, collection: str, *, after: str = "", limit: int, newest: bool = False
    ) -> list[tuple[str, bytes]]:
        """See ``Store.documents``."""
        sql = _NEWEST_DOCUMENTS if newest else _DOCUMENTS
        return await self._read(_document, sql, collection, after, limit)

    def _write(self, batch: Sequence[Write]) -> None:
        rows = Rows.of(batch)
        try:
            with explained(self._path), transaction(self._writer):
                rows.insert(self._writer)
        except apsw.ConstraintError as error:
            raise ValueError(
                f"{self._path}: a write contradicts what is stored: {error}"
            ) from error
        except StoreDamaged as error:
            # Runs that are under way can still be stopped, so this is no reason to fall over.
            raise StoreUnavailable(str(error)) from error

    async def _read(self, decode: Callable[[Row], T], sql: str, *values: _Value) -> list[T]:
        query = partial(self._query, decode, sql, values)
        return await trio.to_thread.run_sync(query, limiter=self._reading)

    def _query(self, decode: Callable[[Row], T], sql: str, values: Sequence[_Value]) -> list[T]:
        reader = self._idle.pop()
        try:
            with explained(self._path):
                rows = reader.execute(sql, values).fetchall()
        finally:
            self._idle.append(reader)
        return [decode(row) for row in rows]


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[SqliteStore]:
    """Open the file, which is made if absent; see ``open_store``."""
    store, closing_stack = await trio.to_thread.run_sync(_open, path)
    try:
        yield store
    finally:
        with bounded(CLOSE_S):
            await trio.to_thread.run_sync(closing_stack.close, abandon_on_cancel=True)


def _open(path: Path) -> tuple[SqliteStore, ExitStack]:
    # Two names of one file are one store, and have one lock.
    path = path.resolve()
    if not path.parent.is_dir():
        raise InvalidInput([("store", f"there is no folder {path.parent}; make it first")])
    if path.is_dir():
        raise InvalidInput([("store", f"{path} is a folder; name a file in it")])
    with ExitStack() as stack:
        stack.enter_context(locked(path))
        with explained(path):
            writer = stack.enter_context(closing(connect(path)))
            prepare(writer, path)
            readers = [stack.enter_context(closing(connect(path))) for _ in range(READERS)]
            for reader in readers:
                reader.pragma("query_only", True)
        # Closed in the opposite order: the writer, as the last one out, empties the log into the
        # file and removes it; then the lock goes.
        return SqliteStore(path, writer, readers), stack.pop_all()


def _numbered_run(row: Row) -> tuple[int, RunRecord]:
    return row[0], read_run(row)


def _artifact_info(row: Row) -> ArtifactInfo:
    name, media_type, size, _ = row
    return ArtifactInfo(name, media_type, size)


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

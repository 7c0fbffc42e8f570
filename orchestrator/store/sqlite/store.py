"""A store in one SQLite file: one connection that writes, a few that read, all in threads."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager, closing, suppress
from functools import partial
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, TypeVar

import apsw
import trio

from orchestrator.cleanup import bounded
from orchestrator.errors import InvalidInput, StoreDamaged, StoreUnavailable
from orchestrator.store.batch import Rows
from orchestrator.store.protocol import NOBODY, Told
from orchestrator.store.sql import SqlStore
from orchestrator.store.sqlite.connection import Transaction, connect, decoding, explained
from orchestrator.store.sqlite.files import Shelf
from orchestrator.store.sqlite.lock import locked
from orchestrator.store.sqlite.schema import prepare
from orchestrator.store.sqlite.thread import WorkThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Sequence
    from pathlib import Path

    from orchestrator.store.codec import Row
    from orchestrator.store.database import Files, Statement
    from orchestrator.store.sql import Value
    from orchestrator.store.writes import Write

T = TypeVar("T")

_NAMED = "SELECT file FROM artifacts WHERE file IS NOT NULL"

READERS = 4
# Pages in the log before they are moved into the file: each batch writes many of the pages of the
# one before it again, which are then moved once. A page has 4 KiB.
LOG_PAGES = 4_000
# Closing moves the log into the file, so it may take a while on a slow disk. Beyond this bound it
# goes on in its thread, and the file stays locked until it is done.
CLOSE_S = 10.0

# Rows of one statement. Whenever a statement runs, its thread gives the interpreter to the event
# loop, which may be slow to give it back.
_ROWS = 100


class SqliteDatabase:
    """A connection as a batch of writes needs it."""

    among = "IN (SELECT value FROM json_each(?))"

    def __init__(self, db: apsw.Connection, files: Shelf) -> None:
        self._db = db
        self.files: Files | None = files

    def execute(self, sql: str, *values: Value) -> Iterable[Row]:
        """See ``Database``."""
        return self._db.execute(sql, values)

    def execute_rows(self, statement: Statement, rows: Sequence[Row]) -> None:
        """See ``Database``."""
        for first in range(0, len(rows), _ROWS):
            some = rows[first : first + _ROWS]
            self._db.execute(statement.sql(len(some)), tuple(chain.from_iterable(some)))


class SqliteStore(SqlStore):
    """The ``Store`` of one process, in one file; made by ``open_sqlite``."""

    # The file is locked, so nobody takes it away from the process that has it.
    pulse_s = inf
    # A file is locked until the process that had it has ended, or has left it with all at rest.
    last_is_gone = True
    # Bytes that are no text lie behind every key with the prefix.
    key_begins_with = "key < (? || x'ff')"
    merges = True

    def __init__(
        self,
        path: Path,
        writer: apsw.Connection,
        readers: Sequence[apsw.Connection],
        shelf: Shelf,
        writing: WorkThread,
    ) -> None:
        self._path = path
        self._shelf = shelf
        self._writer = writer
        self._writing = writing
        # A thread that reads takes one out and puts it back; the limiter sees that one is there.
        self._idle = list(readers)
        self._reading = trio.CapacityLimiter(len(readers))

    async def write(self, batch: Sequence[Write], told: Told = NOBODY) -> None:
        """Make the whole batch durable in one transaction; see ``Store.write``."""
        soon = trio.lowlevel.current_trio_token().run_sync_soon
        committing = partial(soon, told.committing)
        await self._writing.run(partial(self._write, batch, committing), told.stored)

    def _write(self, batch: Sequence[Write], committing: Callable[[], None]) -> None:
        rows = Rows.of(batch)
        try:
            # Files that a batch drops are removed after its commit.
            with (
                explained(self._path),
                self._shelf,
                Transaction(self._writer),
            ):
                rows.insert(SqliteDatabase(self._writer, self._shelf))
                with suppress(trio.RunFinishedError):
                    committing()
        except apsw.ConstraintError as error:
            raise ValueError(
                f"{self._path}: a write contradicts what is stored: {error}"
            ) from error
        except OSError as error:
            raise StoreUnavailable(
                f"{self._shelf.folder}: a file cannot be written ({error.strerror})"
            ) from error
        except StoreDamaged as error:
            # Runs that are under way can still be stopped, so this is no reason to fall over.
            raise StoreUnavailable(str(error)) from error

    async def _read(self, decode: Callable[[Row], T], sql: str, *values: Value) -> list[T]:
        query = partial(self._query, decode, sql, values)
        return await trio.to_thread.run_sync(query, limiter=self._reading)

    def _query(self, decode: Callable[[Row], T], sql: str, values: Sequence[Value]) -> list[T]:
        reader = self._idle.pop()
        try:
            with explained(self._path), decoding(self._path):
                cursor = reader.cursor()
                try:
                    return [decode(row) for row in cursor.execute(sql, values)]
                finally:
                    # Until it is closed the reader keeps its view of the database, and what is
                    # read next would be as old; an error that is kept keeps the cursor.
                    cursor.close(True)
        finally:
            self._idle.append(reader)

    async def _read_file(self, name: str, size: int) -> bytes | None:
        return await trio.to_thread.run_sync(self._file, name, size, limiter=self._reading)

    def _file(self, name: str, size: int) -> bytes | None:
        try:
            return self._shelf.read(name, size)
        except FileNotFoundError:
            return None
        except OSError as error:
            where = self._shelf.folder / name
            raise StoreUnavailable(f"{where} cannot be read ({error.strerror})") from error


@asynccontextmanager
async def open_sqlite(path: Path) -> AsyncIterator[SqliteStore]:
    """Open the file, which is made if absent; see ``open_store``."""
    store, closing_stack = await trio.to_thread.run_sync(_open, path)
    try:
        yield store
    finally:
        with bounded(CLOSE_S):
            await trio.to_thread.run_sync(closing_stack.close, abandon_on_cancel=True)


def _check_alone(path: Path, shelf: Shelf) -> None:
    """Refuse to begin a new store in the place of one that is gone: what it has left, which its
    file is needed for, would be removed.

    Raises:
        StoreDamaged: files of a store are there without it.
    """
    if path.exists() and path.stat().st_size:
        return
    log = path.with_name(path.name + "-wal")
    left = [log] if log.exists() and log.stat().st_size else []
    left += [shelf.folder] if shelf.names() else []
    if left:
        raise StoreDamaged(
            f"{path} is {'empty' if path.exists() else 'not there'}, but what belongs to it is:"
            f" {' and '.join(map(str, left))}; put the store's file back, or move these away too"
        )


def _open(path: Path) -> tuple[SqliteStore, ExitStack]:
    # Two names of one file are one store, and have one lock.
    path = path.resolve()
    if not path.parent.is_dir():
        raise InvalidInput([("store", f"there is no folder {path.parent}; make it first")])
    if path.is_dir():
        raise InvalidInput([("store", f"{path} is a folder; name a file in it")])
    with ExitStack() as stack:
        stack.enter_context(locked(path))
        shelf = Shelf(path)
        _check_alone(path, shelf)
        with explained(path):
            writer = stack.enter_context(closing(connect(path)))
            prepare(writer, path)
            writer.wal_autocheckpoint(LOG_PAGES)
            shelf.remove_all_but([name for (name,) in writer.execute(_NAMED)])
            # It writes what it was given before what it writes with is closed.
            writing = WorkThread(f"quiesce writes {path.name}")
            stack.callback(writing.close)
            readers = [stack.enter_context(closing(connect(path))) for _ in range(READERS)]
            for reader in readers:
                reader.pragma("query_only", True)
        # Closed in the opposite order: the writer, as the last one out, empties the log into the
        # file and removes it; then the lock goes.
        return SqliteStore(path, writer, readers, shelf, writing), stack.pop_all()

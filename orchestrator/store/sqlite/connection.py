"""Connections and transactions, and what SQLite's errors mean to a person."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import apsw

from orchestrator.errors import StoreDamaged, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# How long to wait for another program, such as a shell on the file, before giving up.
_BUSY_MS = 1_000

_CAUSES: dict[type[apsw.Error], str] = {
    apsw.FullError: "the disk is full",
    apsw.IOError: "the disk reports an error",
    apsw.BusyError: "another program has locked the file",
    apsw.LockedError: "another program has locked the file",
    apsw.ProtocolError: "another program has locked the file",
    apsw.ReadOnlyError: "the file may not be written",
    apsw.CantOpenError: "the file, or its log beside it, cannot be opened",
    apsw.PermissionsError: "the file may not be used",
    apsw.NoMemError: "there is not enough memory",
    apsw.ConnectionClosedError: "the store is closed",
}


def connect(path: Path) -> apsw.Connection:
    """Open the file, which is made if absent; nothing is read from it or written to it yet."""
    db = apsw.Connection(str(path))
    db.set_busy_timeout(_BUSY_MS)
    # A commit that was acknowledged survives a power cut.
    db.pragma("synchronous", "FULL")
    return db


class Transaction:
    """Commit what the body writes, or none of it.

    After some errors SQLite has rolled back by itself. ``with db`` does not expect that, and
    hides the error behind one of its own.
    """

    __slots__ = ("_db",)

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Tell of what is stored and cannot be read as what it should be.

    Raises:
        StoreDamaged: instead of what decoding raises.
    """
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        what = f"it holds what cannot be read: {type(error).__name__}: {error}"
        raise damaged(path, what) from error


def damaged(path: Path, why: object) -> StoreDamaged:
    """Return the error that names the file, the cause and the remedy."""
    return StoreDamaged(
        f"{path} is damaged or no database ({why});"
        " restore it from a backup, or move it away to begin a new one"
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn SQLite's errors about the file into ours, which name it, the cause and the remedy.

    Raises:
        StoreDamaged: what the file holds is not, or no longer, a database.
        StoreUnavailable: for any other cause that lies outside this program.
    """
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise damaged(path, error) from error
    except tuple(_CAUSES) as error:
        raise StoreUnavailable(f"{path}: {_CAUSES[type(error)]} ({error})") from error

"""The tables of a store in SQLite, how older files come by them, and the check of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw

from orchestrator.errors import StoreDamaged, StoreUnavailable
from orchestrator.store.sqlite.connection import Transaction, damaged

if TYPE_CHECKING:
    from pathlib import Path

# "QSCE": tells our files from those of other programs.
APPLICATION_ID = 0x51534345

# What of a run never changes is written once. SQLite writes a whole row to change any of it, so
# the input, which may be large, is apart from the state, which changes often. An index on a
# column is an index on (column, number) as well, which is the order of the pages.
_RUNS_AND_EVENTS = """
CREATE TABLE runs(
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- grows with age and is never used again: cursors
    id TEXT NOT NULL UNIQUE,
    root_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,                   -- '' for a root
    agent TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_at TEXT NOT NULL,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    options TEXT NOT NULL,
    state TEXT NOT NULL,                       -- a JSON object: what else changes
    result TEXT NOT NULL
);
CREATE INDEX runs_root ON runs(root_id);
CREATE INDEX runs_parent ON runs(parent_id);
CREATE INDEX runs_agent ON runs(agent);
CREATE INDEX runs_owner ON runs(owner);
CREATE INDEX runs_status ON runs(status);
CREATE TABLE inputs(number INTEGER PRIMARY KEY, input TEXT NOT NULL);
CREATE TABLE run_tags(
    tag TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY(tag, number)
) WITHOUT ROWID;
CREATE TABLE events(
    root_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    type TEXT NOT NULL,
    at TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY(root_id, seq)
) WITHOUT ROWID;
CREATE TABLE partials(run_id TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE artifacts(
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    chunk INTEGER NOT NULL,                    -- 0, 1, 2, …: an append adds one
    media_type TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY(run_id, name, chunk)
);
"""

_STEPS_AND_DATA = """
CREATE TABLE steps(
    number INTEGER PRIMARY KEY,                -- grows within a tree: the order of storing
    root_id TEXT NOT NULL,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    UNIQUE(root_id, path, name)
);
CREATE INDEX steps_root ON steps(root_id);
CREATE TABLE data(
    owner TEXT NOT NULL,
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    run_id TEXT NOT NULL,                      -- the last writer
    value BLOB NOT NULL,
    PRIMARY KEY(owner, namespace, key)
);
CREATE INDEX data_run ON data(run_id);
"""

_DOCUMENTS = """
CREATE TABLE documents(
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY(collection, key)
) WITHOUT ROWID;
"""

# Only roots that have ended have one of the two times. Earlier versions knew no other time to be
# kept than that of the orchestrator.
_LIFETIMES = """
ALTER TABLE runs ADD COLUMN ended_s REAL;
ALTER TABLE runs ADD COLUMN expires_s REAL;
UPDATE runs SET ended_s = (julianday(json_extract(state, '$.ended_at')) - 2440587.5) * 86400
    WHERE parent_id = '' AND json_extract(state, '$.ended_at') IS NOT NULL;
CREATE INDEX runs_ended ON runs(ended_s) WHERE ended_s IS NOT NULL;
CREATE INDEX runs_expires ON runs(expires_s) WHERE expires_s IS NOT NULL;
CREATE INDEX run_tags_number ON run_tags(number);
-- Trees whose events are still to be removed.
CREATE TABLE forgotten(root_id TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID;
"""

# An artifact is one row, and either chunks or a file beside the database.
_FILES = """
ALTER TABLE artifacts RENAME TO old_artifacts;
CREATE TABLE artifacts(
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    file TEXT,                                 -- its name; NULL for one that is in chunks
    PRIMARY KEY(run_id, name)
) WITHOUT ROWID;
CREATE TABLE chunks(
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    chunk INTEGER NOT NULL,                    -- 0, 1, 2, …: an append adds one
    data BLOB NOT NULL,
    PRIMARY KEY(run_id, name, chunk)
);
INSERT INTO artifacts
    SELECT run_id, name, MAX(CASE WHEN chunk = 0 THEN media_type END), SUM(LENGTH(data)), NULL
    FROM old_artifacts GROUP BY run_id, name;
INSERT INTO chunks SELECT run_id, name, chunk, data FROM old_artifacts;
DROP TABLE old_artifacts;
"""

# A short input costs a start no row of its own.
_SHORT_INPUTS = """
ALTER TABLE runs ADD COLUMN input TEXT;        -- NULL for one that is long: a row of inputs
"""

# What brings a file from version 0 (empty) to 1, from 1 to 2, and so on. Those that were released
# are never changed.
MIGRATIONS = (_RUNS_AND_EVENTS, _STEPS_AND_DATA, _DOCUMENTS, _LIFETIMES, _FILES, _SHORT_INPUTS)
VERSION = len(MIGRATIONS)


def prepare(db: apsw.Connection, path: Path, *, new: bool = True) -> None:
    """Bring an empty file, or that of an earlier version, to the tables of this version.

    Args:
        new: whether an empty file is a new store, or one that has lost all.

    Raises:
        StoreDamaged: the file is something else, or newer; nothing in it was changed.
        StoreUnavailable: it is on a file system on which SQLite cannot share memory.
    """
    # Until the file is known to be ours, closing it must not move its log into it.
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    version = version_of(db, path, new=new)
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
    if (mode := db.pragma("journal_mode", "wal")) != "wal":
        raise StoreUnavailable(
            f"{path}: its file system does not allow a write-ahead log (the journal is {mode!r});"
            " put it on a local disk"
        )
    if version < VERSION:
        with Transaction(db):
            for migration in MIGRATIONS[version:]:
                db.execute(migration)
            db.pragma("application_id", APPLICATION_ID)
            db.pragma("user_version", VERSION)


def version_of(db: apsw.Connection, path: Path, *, new: bool = True) -> int:
    """Return the version of the tables in the file, 0 if it is empty and may be. Only reads."""
    tables = db.execute("SELECT COUNT(*) FROM sqlite_schema").get
    version, owner = db.pragma("user_version"), db.pragma("application_id")
    if tables == 0 and owner == 0:
        if not new:
            raise damaged(path, "it is empty")
        return 0
    if owner != APPLICATION_ID:
        raise StoreDamaged(f"{path} is a database of another program; choose another file")
    if not 1 <= version <= VERSION:
        raise StoreDamaged(
            f"{path} has tables of version {version}, but this version of Quiesce knows versions"
            f" up to {VERSION}; use the version that wrote it, or choose another file"
        )
    return int(version)

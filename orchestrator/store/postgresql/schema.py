"""The tables of a store in PostgreSQL, and how older ones become those of this version.

Text is compared byte by byte (``COLLATE "C"``), which is the order of its code points. An index on
a column has the number too, which is the order of the pages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import InvalidInput, StoreDamaged
from orchestrator.store.postgresql.connection import SCHEMA

if TYPE_CHECKING:
    import psycopg

    from orchestrator.store.postgresql.connection import Address

# The earliest in which an index finds texts by what they begin with.
OLDEST_SERVER = 15

_FIRST = """
CREATE TABLE tenure(
    one BOOLEAN PRIMARY KEY CHECK (one),
    version INTEGER NOT NULL,                  -- of these tables
    epoch BIGINT NOT NULL,                     -- grows when a process takes the database
    batch BIGINT NOT NULL                      -- the number of the last one that was stored
);
CREATE TABLE runs(
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id TEXT COLLATE "C" NOT NULL UNIQUE,
    root_id TEXT COLLATE "C" NOT NULL,
    parent_id TEXT COLLATE "C" NOT NULL,       -- '' for a root
    agent TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    created_at TEXT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    version BIGINT NOT NULL,
    options TEXT NOT NULL,
    state TEXT NOT NULL,                       -- a JSON object: what else changes
    result TEXT NOT NULL,
    ended_s DOUBLE PRECISION,                  -- of roots only, and one of the two at most
    expires_s DOUBLE PRECISION
) WITH (fillfactor = 70);
CREATE INDEX runs_root ON runs(root_id, number);
CREATE INDEX runs_parent ON runs(parent_id, number);
CREATE INDEX runs_agent ON runs(agent, number);
CREATE INDEX runs_owner ON runs(owner, number);
CREATE INDEX runs_status ON runs(status, number);
CREATE INDEX runs_ended ON runs(ended_s) WHERE ended_s IS NOT NULL;
CREATE INDEX runs_expires ON runs(expires_s) WHERE expires_s IS NOT NULL;
CREATE TABLE inputs(number BIGINT PRIMARY KEY, input TEXT NOT NULL);
CREATE TABLE run_tags(
    tag TEXT COLLATE "C" NOT NULL, number BIGINT NOT NULL, PRIMARY KEY(tag, number)
);
CREATE INDEX run_tags_number ON run_tags(number);
CREATE TABLE events(
    root_id TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,
    type TEXT COLLATE "C" NOT NULL,
    at TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY(root_id, seq)
);
-- Trees whose events are still to be removed.
CREATE TABLE forgotten(root_id TEXT COLLATE "C" PRIMARY KEY);
CREATE TABLE partials(run_id TEXT COLLATE "C" PRIMARY KEY, value BYTEA NOT NULL);
CREATE TABLE artifacts(
    run_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    file TEXT,                                 -- never here
    PRIMARY KEY(run_id, name)
);
CREATE TABLE chunks(
    run_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    chunk BIGINT NOT NULL,                     -- 0, 1, 2, …: an append adds one
    data BYTEA NOT NULL,
    PRIMARY KEY(run_id, name, chunk)
);
ALTER TABLE chunks ALTER data SET STORAGE EXTERNAL;  -- most files are compressed already
CREATE TABLE steps(
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    root_id TEXT COLLATE "C" NOT NULL,
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    value BYTEA NOT NULL
);
CREATE INDEX steps_root ON steps(root_id, number);
-- A path is as long as a tree is deep, and an index takes no row beyond 2700 bytes.
CREATE UNIQUE INDEX steps_once ON steps(root_id, md5(path), md5(name));
CREATE TABLE data(
    owner TEXT COLLATE "C" NOT NULL,
    namespace TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    run_id TEXT COLLATE "C" NOT NULL,          -- the last writer
    value BYTEA NOT NULL,
    PRIMARY KEY(owner, namespace, key)
);
CREATE INDEX data_run ON data(run_id);
CREATE TABLE documents(
    collection TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    value BYTEA NOT NULL,
    PRIMARY KEY(collection, key)
);
INSERT INTO tenure VALUES (TRUE, 0, 0, 0);
"""

# A short input costs a start no row of its own.
_SHORT_INPUTS = """
ALTER TABLE runs ADD COLUMN input TEXT;        -- NULL for one that is long: a row of inputs
"""

# Which process has taken it last; see ``holder``.
_HOLDER = """
ALTER TABLE tenure ADD COLUMN holder TEXT NOT NULL DEFAULT '';
UPDATE tenure SET holder = 'null' WHERE epoch = 0;
"""

# What brings a database from version 0 (no tables) to 1, from 1 to 2, and so on. Those that were
# released are never changed.
MIGRATIONS = (_FIRST, _SHORT_INPUTS, _HOLDER)
VERSION = len(MIGRATIONS)


def check_server(db: psycopg.Connection, address: Address) -> None:
    """Refuse a server or a database with which nothing of ours would work.

    Raises:
        InvalidInput: says what would.
    """
    version = db.info.server_version // 10_000
    if version < OLDEST_SERVER:
        why = f"{address.place} is of PostgreSQL {version}; use {OLDEST_SERVER} or later"
        raise InvalidInput([("store", why)])
    encoding = db.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        why = (
            f"{address.place} is encoded in {encoding};"
            " make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )
        raise InvalidInput([("store", why)])


def prepare(db: psycopg.Connection, address: Address) -> None:
    """Bring an empty database, or that of an earlier version, to the tables of this version.

    In a transaction of the caller's, who holds the lock.

    Raises:
        StoreDamaged: our schema is not ours, or newer; nothing was changed.
    """
    version = _version(db, address)
    for migration in MIGRATIONS[version:]:
        db.execute(migration.encode())
    if version < VERSION:
        db.execute("UPDATE tenure SET version = %s", [VERSION])


def _version(db: psycopg.Connection, address: Address) -> int:
    """Return the version of our tables, 0 if there are none; the schema is made if absent."""
    tables = {name for (name,) in db.execute(_TABLES, [SCHEMA])}
    if not tables:
        if db.execute("SELECT to_regnamespace(%s)", [SCHEMA]).fetchone() == (None,):
            db.execute(f"CREATE SCHEMA {SCHEMA}".encode())
        return 0
    if "tenure" not in tables:
        raise StoreDamaged(
            f"{address.place} has a schema {SCHEMA!r} of another program; choose another database"
        )
    # By its whole name, which tells a role that may not see it from a table that is not there.
    ((version,),) = db.execute(f"SELECT version FROM {SCHEMA}.tenure".encode())
    if not 1 <= version <= VERSION:
        raise StoreDamaged(
            f"{address.place} has tables of version {version}, but this version of Quiesce knows"
            f" versions up to {VERSION}; use the version that wrote it, or choose another database"
        )
    return int(version)


_TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = %s"

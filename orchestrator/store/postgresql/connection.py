"""Connections to PostgreSQL, and what its errors mean to a person."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors
from psycopg.adapt import Dumper, Loader
from psycopg.conninfo import conninfo_to_dict

from orchestrator.errors import InvalidInput, StoreDamaged, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.abc import Buffer

# Our tables are in a schema of their own, so that the database may hold others.
SCHEMA = "quiesce"

_DEFAULTS: dict[str, Any] = {
    # A standby will not do, also for reads: it may lag behind what was acknowledged.
    "target_session_attrs": "read-write",
    # A host that has vanished is given up after about this long, instead of many minutes.
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
# Everything that we ask for is to be read along an index, also while the statistics are old. The
# server, too, gives up a client that has vanished, and with it what that has locked. The limits of
# time that the role or the database has for others do not hold: a longer batch or migration would
# be tried for ever, and an idle session would lose the lock. Not every server knows all of them.
_SETTINGS = f"""
SELECT set_config(name, value, false) FROM (VALUES
    ('search_path', '{SCHEMA}'),
    ('enable_seqscan', 'off'), ('enable_bitmapscan', 'off'), ('jit', 'off'),
    ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'),
    ('statement_timeout', '0'), ('transaction_timeout', '0'), ('lock_timeout', '0'),
    ('idle_session_timeout', '0'), ('idle_in_transaction_session_timeout', '0')
) AS settings(name, value) JOIN (SELECT name FROM pg_settings) AS known USING (name)
"""
_READS_ONLY = "SET default_transaction_read_only = on"
# A commit that was acknowledged survives a power cut, whatever the server does for others.
_DURABLE = """
SELECT set_config('synchronous_commit', 'on', false)
WHERE current_setting('synchronous_commit') = 'off'
"""

_UNAVAILABLE = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.InsufficientPrivilege,
)
_DAMAGED = (
    errors.DataCorrupted,
    errors.IndexCorrupted,
    errors.UndefinedTable,
    errors.UndefinedColumn,
)
_CAUSES: dict[type[psycopg.Error], str] = {
    errors.DiskFull: "its disk is full",
    errors.ReadOnlySqlTransaction: "it may not be written, as if it were a standby",
    errors.InsufficientPrivilege: "the role may not do that",
    errors.TooManyConnections: "it has too many connections",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is.

    Attributes:
        url: as it was given, perhaps with a password.
        place: in words, without one.
    """

    url: str
    place: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Take a URL. Anything that it leaves out comes from libpq's environment variables.

        Raises:
            InvalidInput: it is not one of PostgreSQL's. The text does not repeat it, since it may
                hold a password.
        """
        try:
            given = conninfo_to_dict(url)
        except psycopg.Error:
            why = "the URL cannot be read; write postgresql://user:password@host:port/database"
            raise InvalidInput([("store", why)]) from None
        host = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST")
        database = given.get("dbname") or os.environ.get("PGDATABASE") or "of the role's name"
        return cls(url, f"the PostgreSQL database {database} on {host or 'this machine'}")

    def settings(self) -> dict[str, Any]:
        """Return what ``psycopg.connect`` is given beside the URL, which goes before."""
        given = conninfo_to_dict(self.url)
        chosen = {name: value for name, value in _DEFAULTS.items() if name not in given}
        ours = {"client_encoding": "UTF8", "application_name": our_name(), "autocommit": True}
        return chosen | ours


def connect(address: Address) -> psycopg.Connection:
    """Open a connection to write on."""
    db = psycopg.connect(address.url, **address.settings())
    try:
        configure(db)
        db.execute(_DURABLE)
    except BaseException:
        db.close()
        raise
    return db


def configure(db: psycopg.Connection) -> None:
    """Prepare a new connection for our SQL."""
    db.adapters.register_dumper(str, _TextDumper)
    db.adapters.register_loader("text", _TextLoader)
    db.execute(_SETTINGS)


def configure_reader(db: psycopg.Connection) -> None:
    """Prepare a new connection for our SQL, with which nothing can be written."""
    configure(db)
    db.execute(_READS_ONLY)


def our_name() -> str:
    """Return the name under which the server knows this process."""
    return f"quiesce {os.getpid()} on {socket.gethostname()}"[:63]


def sever(db: psycopg.Connection) -> None:
    """Break a connection that a thread waits on; may be called from any thread, at any time.

    The thread sees that the server has hung up. Closing the connection here would take its file
    descriptor away from under the thread.
    """
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(db.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


@lru_cache(maxsize=256)
def spoken(sql: str) -> bytes:
    """Return SQL of ours as psycopg takes it."""
    return sql.replace("?", "%s").encode()


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turn PostgreSQL's errors about the database into ours, which name it and the cause.

    Raises:
        StoreDamaged: the server found damage, or our tables are not what they were.
        StoreUnavailable: for any other cause that lies outside this program.
    """
    try:
        yield
    except _DAMAGED as error:
        raise StoreDamaged(
            f"{address.place} is damaged ({_in_a_line(error)}); restore it from a backup"
        ) from error
    except _UNAVAILABLE as error:
        cause = _CAUSES.get(type(error))
        why = _in_a_line(error) if cause is None else f"{cause} ({_in_a_line(error)})"
        raise StoreUnavailable(f"{address.place}: {why}") from error


def _in_a_line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())


class _TextDumper(Dumper):
    """PostgreSQL takes any text but U+0000. So that is written as two characters, and the first of
    them, which is hardly ever used, as two others; the order of texts stays what it was."""

    oid = 0

    def dump(self, obj: str) -> Buffer:
        text = obj.encode()
        if b"\x00" in text or b"\x01" in text:
            text = text.replace(b"\x01", b"\x01\x02").replace(b"\x00", b"\x01\x01")
        return text


class _TextLoader(Loader):
    """Undoes what ``_TextDumper`` does."""

    def load(self, data: Buffer) -> str:
        text = bytes(data)
        if b"\x01" in text:
            text = text.replace(b"\x01\x01", b"\x00").replace(b"\x01\x02", b"\x01")
        return text.decode()

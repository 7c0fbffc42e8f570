"""That one process at a time has a database, and that no batch of its writes is lost or doubled.

The process holds an advisory lock, which the server lets go of when the session ends, however it
ends; and every batch is written in that session. So a process whose session is gone cannot write,
and what it still had under way has been stored or undone when its lock is free.

Two numbers in the database tell what happened meanwhile. The ``epoch`` grows when a process takes
the database: one that finds another than its own has lost it for good. The ``batch`` grows with
every batch, in the transaction of that batch: after a commit whose answer was lost it says whether
there was one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import errors

from orchestrator.errors import StoreInUse, StoreUnavailable
from orchestrator.store.postgresql.connection import connect, our_name, spoken
from orchestrator.store.postgresql.holder import NOBODY, is_gone, this_process
from orchestrator.store.postgresql.schema import check_server, prepare

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.store.batch import Rows
    from orchestrator.store.codec import Row
    from orchestrator.store.database import Files, Statement
    from orchestrator.store.postgresql.connection import Address
    from orchestrator.store.sql import Value
    from orchestrator.store.writes import Write

# "QSCE". Advisory locks are numbers, each database has its own.
LOCK = 0x51534345
# A process that was killed is gone before its session is.
PATIENCE_MS = 2_000

_TRY = "SELECT pg_try_advisory_lock(%s)"
_HOLDER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = 0 AND objid = %s AND granted
    AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_STANDS = "SELECT epoch, batch FROM tenure"
_LAST = "SELECT holder FROM tenure"
_BEGIN = "UPDATE tenure SET epoch = epoch + 1, holder = %s RETURNING epoch, batch"
_LEAVE = "UPDATE tenure SET holder = %s WHERE epoch = %s"
_TURN = "UPDATE tenure SET batch = batch + 1 WHERE epoch = %s AND batch = %s"


class PostgresDatabase:
    """A connection as a batch of writes needs it."""

    files: Files | None = None
    among = "= ANY(ARRAY(SELECT json_array_elements_text(?::json)))"

    def __init__(self, db: psycopg.Connection) -> None:
        self._db = db

    def execute(self, sql: str, *values: Value) -> Iterable[Row]:
        """See ``Database``."""
        cursor = self._db.execute(spoken(sql), values)
        return cursor.fetchall() if cursor.description is not None else ()

    def execute_rows(self, statement: Statement, rows: Sequence[Row]) -> None:
        """See ``Database``."""
        if not rows:
            return
        table = statement.inserts_into
        with self._db.cursor() as cursor:
            if table is None:
                cursor.executemany(spoken(statement.sql(1)), rows)
                return
            # Four times as fast.
            with cursor.copy(f"COPY {table} FROM STDIN".encode()) as copy:
                for row in rows:
                    copy.write_row(row)


class Tenure:
    """The time in which this process has the database. For one thread at a time.

    Attributes:
        session: holds the lock; None once it is lost, until the next write.
        last_is_gone: the process that had the database before is proved to have ended.
    """

    def __init__(
        self,
        address: Address,
        session: psycopg.Connection,
        epoch: int,
        batch: int,
        *,
        last_is_gone: bool,
    ) -> None:
        self._address = address
        self.session: psycopg.Connection | None = session
        self.last_is_gone = last_is_gone
        self._epoch = epoch
        # What was stored last: its number, and the batch itself if it was stored here.
        self._number = batch
        self._stored: Sequence[Write] | None = None
        # What may be stored beyond that: the session was lost before the answer came.
        self._in_doubt: Sequence[Write] | None = None

    @classmethod
    def begin(cls, address: Address) -> Tenure:
        """Take the database, and bring its tables to this version.

        Raises:
            StoreInUse: another process has it, or this one already.
            InvalidInput, StoreDamaged: it is not one for us.
            psycopg.Error: it cannot be reached, or not be used.
        """
        session = connect(address)
        try:
            check_server(session, address)
            _lock(session, address)
            with session.transaction():
                prepare(session, address)
                ((last,),) = session.execute(_LAST)
                ((epoch, batch),) = session.execute(_BEGIN, [this_process()])
        except BaseException:
            session.close()
            raise
        return cls(address, session, epoch, batch, last_is_gone=is_gone(last))

    def leave(self) -> None:
        """Let go of the database for good: nothing is at work any more of what was started here.

        May be called twice. Whoever takes it next need not doubt that, if it can be said.
        """
        if self.session is not None:
            with suppress(psycopg.Error):
                self.session.execute(_LEAVE, [NOBODY, self._epoch])
        self.end()

    def end(self) -> None:
        """Let go of the database. May be called twice."""
        if self.session is not None:
            self.session.close()
            self.session = None

    def write(self, batch: Sequence[Write], rows: Rows) -> None:
        """Store a batch once, however often that very object is given.

        Raises:
            StoreInUse: another process has taken the database. Nothing can be written any more.
            StoreUnavailable: the lost session still has the lock, or the database has lost what
                was stored.
            psycopg.Error: it was not stored, or that is not known.
        """
        session = self.session or self._resume()
        if batch is self._stored:
            return
        try:
            with session.transaction():
                self._take_turn(session)
                rows.insert(PostgresDatabase(session))
        except psycopg.Error as error:
            # In another session the database may be one that can be written.
            if session.closed or isinstance(error, errors.ReadOnlySqlTransaction):
                self.end()
                self._in_doubt = batch
            raise
        self._number += 1
        self._stored = batch

    def _take_turn(self, session: psycopg.Connection) -> None:
        """Number the batch. Others see that only together with what is in it."""
        if session.execute(_TURN, [self._epoch, self._number]).rowcount != 1:
            self._check(session, {self._number})

    def _resume(self) -> psycopg.Connection:
        """Take the database again, if nobody else has done so since."""
        session = connect(self._address)
        try:
            ((locked,),) = session.execute(_TRY, [LOCK])
            in_doubt = self._in_doubt is not None
            number = self._check(session, {self._number, self._number + in_doubt})
            if not locked:
                raise StoreUnavailable(
                    f"{self._address.place}: the server has not noticed yet that the last"
                    " connection is lost"
                )
        except BaseException:
            session.close()
            raise
        if number > self._number:
            # It was stored; only the answer was lost.
            self._number, self._stored = number, self._in_doubt
        self._in_doubt = None
        self.session = session
        return session

    def _check(self, session: psycopg.Connection, expected: set[int]) -> int:
        """Return the number of the last batch in the database, if all is as it was left."""
        ((epoch, number),) = session.execute(_STANDS)
        place = self._address.place
        if epoch != self._epoch:
            raise StoreInUse(
                f"{place} was taken by {_holder(session)} while the connection to it was lost;"
                " this process has lost it for good"
            )
        if number not in expected:
            raise StoreUnavailable(
                f"{place} is not as it was left: its last batch is number {number}, and number"
                f" {self._number} was stored; it is an older copy perhaps. Start this process"
                " again, so that it goes on with what is there"
            )
        return int(number)


def _lock(session: psycopg.Connection, address: Address) -> None:
    try:
        with session.transaction():
            session.execute(f"SET LOCAL lock_timeout = {PATIENCE_MS}".encode())
            session.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    except errors.LockNotAvailable:
        raise StoreInUse(
            f"{address.place} is open in {_holder(session)};"
            " stop that first, or use another database"
        ) from None


def _holder(session: psycopg.Connection) -> str:
    """Say in words who has the lock."""
    name = next((name for (name,) in session.execute(_HOLDER, [LOCK])), "")
    if name == our_name():
        return "this process already"
    return f"process {name.removeprefix('quiesce ')}" if name else "another process"

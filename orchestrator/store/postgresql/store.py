"""A store in a PostgreSQL database. psycopg is synchronous here, in threads, and severed by us."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import psycopg
import trio
from psycopg_pool import ConnectionPool

from orchestrator.cleanup import bounded
from orchestrator.errors import StoreDamaged, StoreUnavailable
from orchestrator.store.batch import Rows
from orchestrator.store.postgresql.connection import (
    Address,
    configure_reader,
    explained,
    sever,
    spoken,
)
from orchestrator.store.postgresql.tenure import Tenure
from orchestrator.store.protocol import NOBODY, Told
from orchestrator.store.sql import SqlStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from orchestrator.store.codec import Row
    from orchestrator.store.sql import Value
    from orchestrator.store.writes import Write

T = TypeVar("T")

READERS = 4
# How long the server may take for one batch before the connection is given up, in seconds.
WRITE_S = 20.0
# How long a read is tried, and how long it waits after its first and after later failures.
READ_S = 10.0
FIRST_DELAY_S = 0.02
LAST_DELAY_S = 0.5
CLOSE_S = 5.0
# How soon a process learns that the database was taken from it while it had nothing to write.
PULSE_S = 5.0


class PostgresStore(SqlStore):
    """The ``Store`` of one process, in one database; made by ``open_postgresql``."""

    pulse_s = PULSE_S
    key_begins_with = "key ^@ ?"
    merges = False

    def __init__(
        self, address: Address, tenure: Tenure, pool: ConnectionPool[psycopg.Connection]
    ) -> None:
        self.last_is_gone = tenure.last_is_gone
        self._address = address
        self._tenure = tenure
        self._writing = trio.CapacityLimiter(1)
        self._pool = pool
        self._reading = trio.CapacityLimiter(READERS)

    async def write(self, batch: Sequence[Write], told: Told = NOBODY) -> None:
        """Make the whole batch durable in one transaction; see ``Store.write``.

        Raises:
            StoreInUse: another process has taken the database while the connection was lost.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        with bounded(WRITE_S):
            await trio.to_thread.run_sync(
                self._write, batch, limiter=self._writing, abandon_on_cancel=True
            )
            told.stored()
            return
        if self._tenure.session is not None:
            sever(self._tenure.session)
        raise StoreUnavailable(f"{self._address.place} has not answered for {WRITE_S:g} s")

    def _write(self, batch: Sequence[Write]) -> None:
        rows = Rows.of(batch)
        lost = self._tenure.session is None
        try:
            with explained(self._address):
                self._tenure.write(batch, rows)
        except psycopg.IntegrityError as error:
            raise ValueError(
                f"{self._address.place}: a write contradicts what is stored: {error}"
            ) from error
        except StoreDamaged as error:
            # Runs that are under way can still be stopped, so this is no reason to fall over.
            raise StoreUnavailable(str(error)) from error
        finally:
            if lost and self._tenure.session is not None:
                # What the readers are connected to may not be the primary any more.
                self._pool.drain()

    async def _read(self, decode: Callable[[Row], T], sql: str, *values: Value) -> list[T]:
        delay_s, why = FIRST_DELAY_S, ""
        with trio.move_on_after(READ_S):
            while True:
                try:
                    return await self._try_to_read(decode, sql, values)
                except StoreUnavailable as error:
                    why = str(error)
                await trio.sleep(delay_s)
                delay_s = min(2 * delay_s, LAST_DELAY_S)
        why = why or f"{self._address.place} does not answer"
        raise StoreUnavailable(f"{why}; it was tried for {READ_S:g} s")

    async def _try_to_read(
        self, decode: Callable[[Row], T], sql: str, values: Sequence[Value]
    ) -> list[T]:
        used: list[psycopg.Connection] = []
        query = partial(self._query, used, decode, sql, values)
        try:
            return await trio.to_thread.run_sync(
                query, limiter=self._reading, abandon_on_cancel=True
            )
        except trio.Cancelled:
            for connection in used:
                sever(connection)
            raise

    def _query(
        self,
        used: list[psycopg.Connection],
        decode: Callable[[Row], T],
        sql: str,
        values: Sequence[Value],
    ) -> list[T]:
        with explained(self._address), self._pool.connection() as connection:
            used.append(connection)
            try:
                rows = connection.execute(spoken(sql), values).fetchall()
            finally:
                used.clear()
        return [decode(row) for row in rows]


@asynccontextmanager
async def open_postgresql(url: str) -> AsyncIterator[PostgresStore]:
    """Open the database; see ``open_store``."""
    store = await trio.to_thread.run_sync(_open, Address.parse(url))
    try:
        yield store
    finally:
        with bounded(CLOSE_S):
            await trio.to_thread.run_sync(_close, store, abandon_on_cancel=True)


def _open(address: Address) -> PostgresStore:
    with explained(address):
        tenure = Tenure.begin(address)
        try:
            pool = _open_pool(address)
        except BaseException:
            tenure.end()
            raise
    return PostgresStore(address, tenure, pool)


def _open_pool(address: Address) -> ConnectionPool[psycopg.Connection]:
    pool = ConnectionPool(
        address.url,
        kwargs=address.settings(),
        configure=configure_reader,
        min_size=1,
        max_size=READERS,
        # Whoever reads asks again, and so the pool tries again at once.
        timeout=1.0,
        reconnect_timeout=1.0,
        num_workers=1,
        name="quiesce",
        open=False,
    )
    try:
        pool.open(wait=True, timeout=CLOSE_S)
    except BaseException:
        pool.close()
        raise
    return pool


def _close(store: PostgresStore) -> None:
    store._pool.close()
    store._tenure.leave()

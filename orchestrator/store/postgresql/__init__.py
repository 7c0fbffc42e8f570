"""A store in a PostgreSQL database: one connection that writes, a pool that reads, one process.

store        reads and writes, in threads
tenure       that one process at a time has the database, and that no batch is lost or doubled
connection   connections and what their errors mean
schema       the tables, and how older ones become those of this version

Nothing here listens for notifications: the one process that writes knows what it wrote.
"""

from __future__ import annotations

from orchestrator.store.postgresql.store import PostgresStore as PostgresStore
from orchestrator.store.postgresql.store import open_postgresql as open_postgresql

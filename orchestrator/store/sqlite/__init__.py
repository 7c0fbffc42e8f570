"""A store in one file: one writer, a few readers, one process.

store        reads and writes, in threads
connection   connections and transactions; what SQLite's errors mean
schema       the tables, how older files come by them, and the check of a file
files        files beside the database, for artifacts that are large
upkeep       it is checked, copied and made smaller
lock         that nobody else has the file open
"""

from __future__ import annotations

from orchestrator.store.sqlite.store import SqliteStore as SqliteStore
from orchestrator.store.sqlite.store import open_sqlite as open_sqlite

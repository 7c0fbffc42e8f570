"""Where runs are durable: the ``Store`` protocol and its implementations.

open_store(url)      the door
protocol             what a store is asked to do
  writes             what can be written to it
memory               dicts, for tests and for programs that need no more
sqlite               one file: one writer, a few readers, one process
postgresql           a database: one connection that writes, a pool that reads, one process
upkeep               what is done to a store beside running it
  check              whether what it holds agrees with itself
sql                  what stores in SQL share: how one is read
  batch              a batch of writes as few statements
  artifacts          artifacts as chunks, or as files
  database           what all of it is executed on
  query              a page of runs
  codec              records as rows
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import ExtraMissing, InvalidInput
from orchestrator.store.memory import MemoryStore as MemoryStore
from orchestrator.store.protocol import ArtifactInfo as ArtifactInfo
from orchestrator.store.protocol import RunFilter as RunFilter
from orchestrator.store.protocol import RunPage as RunPage
from orchestrator.store.protocol import Store as Store  # noqa: TC001  # re-exported
from orchestrator.store.protocol import StoredStep as StoredStep
from orchestrator.store.protocol import Told as Told
from orchestrator.store.sqlite import SqliteStore as SqliteStore
from orchestrator.store.sqlite import open_sqlite
from orchestrator.store.upkeep import Checked as Checked
from orchestrator.store.upkeep import back_up_store as back_up_store
from orchestrator.store.upkeep import check_store as check_store
from orchestrator.store.upkeep import vacuum_store as vacuum_store
from orchestrator.store.writes import AppendEvent as AppendEvent
from orchestrator.store.writes import Discard as Discard
from orchestrator.store.writes import DropData as DropData
from orchestrator.store.writes import DropDocument as DropDocument
from orchestrator.store.writes import Forget as Forget
from orchestrator.store.writes import SaveArtifact as SaveArtifact
from orchestrator.store.writes import SaveData as SaveData
from orchestrator.store.writes import SaveDocument as SaveDocument
from orchestrator.store.writes import SavePartial as SavePartial
from orchestrator.store.writes import SaveRun as SaveRun
from orchestrator.store.writes import SaveStep as SaveStep
from orchestrator.store.writes import SaveTags as SaveTags
from orchestrator.store.writes import Write as Write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager


@asynccontextmanager
async def open_store(url: str) -> AsyncIterator[Store]:
    """Open a store for the time of an ``async with``.

    Closing it is shielded and bounded, so it is closed although the scope is cancelled. Whatever
    uses the store must have ended by then.

    Args:
        url: ``memory://``; ``sqlite:///relative.db`` or ``sqlite:////absolute/path.db``, where
            the path is taken as it stands, and a file that does not exist is made; or
            ``postgresql://user:password@host:port/database``, any URL that libpq takes.

    Raises:
        InvalidInput: no such kind of store, or what the URL names cannot be used; nothing was made.
        ExtraMissing: it is one that needs a package which is not installed.
        StoreInUse: the store is open already, in this process or in another.
        StoreDamaged: it is no store that this version can read; it was left as it is.
        StoreUnavailable: it cannot be written at present.
    """
    match url.partition("://"):
        case ("memory", "://", ""):
            yield MemoryStore()
        case ("sqlite", "://", path) if path.startswith("/") and path not in ("/", "/:memory:"):
            async with open_sqlite(Path(path[1:])) as sqlite:
                yield sqlite
        case ("postgresql" | "postgres", "://", _):
            async with _open_postgresql(url) as postgresql:
                yield postgresql
        case _:
            raise InvalidInput(
                [
                    (
                        "store",
                        f"{url!r} names no store; write sqlite:///runs.db,"
                        " sqlite:////absolute/path/runs.db, postgresql://host/database,"
                        " or memory://",
                    )
                ]
            )


def _open_postgresql(url: str) -> AbstractAsyncContextManager[Store]:
    # Its packages are optional, and take a while to import.
    try:
        from orchestrator.store.postgresql import open_postgresql
    except ImportError as error:
        raise ExtraMissing(error.name or "psycopg", "postgres") from error
    return open_postgresql(url)

"""What the SQL of a store is executed on, whatever the database."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.store.codec import Row
    from orchestrator.store.sql import Value


@dataclass(frozen=True, slots=True)
class Statement:
    """``<before> VALUES <row>, <row>, … <after>``."""

    before: str
    row: str
    after: str = ""

    def sql(self, rows: int) -> str:
        """Return it for so many rows, with ``?`` for each value."""
        return _sql(self, rows)

    @property
    def inserts_into(self) -> str | None:
        """The table and its columns, if all that it does is to insert rows as they are."""
        plain = not self.after and not set(self.row) - set("(?, )")
        return self.before.removeprefix(_INSERT) if plain else None


_INSERT = "INSERT INTO "


# Most batches are small, and alike.
@lru_cache(maxsize=128)
def _sql(statement: Statement, rows: int) -> str:
    values = ", ".join([statement.row] * rows)
    return f"{statement.before} VALUES {values} {statement.after}"


class Files(Protocol):
    """Where a store keeps artifacts that are large; see ``sqlite.files.Shelf``."""

    def make(self, data: bytes) -> str: ...
    def extend(self, name: str, length: int, data: bytes) -> None: ...
    def drop(self, name: str) -> None: ...


class Database(Protocol):
    """What a batch needs of a connection, within a transaction of its owner's.

    Attributes:
        among: the condition that a column has one of the values of a JSON array of texts.
        files: for artifacts that are large; None where the database takes them too.
    """

    among: str
    files: Files | None

    def execute(self, sql: str, *values: Value) -> Iterable[Row]:
        """Execute SQL in which ``?`` stands for a value."""

    def execute_rows(self, statement: Statement, rows: Sequence[Row]) -> None:
        """Execute a statement for all of the rows, of which there may be none."""

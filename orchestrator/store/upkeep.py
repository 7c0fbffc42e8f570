"""Stores are checked, copied and made smaller: by URL, or by the name of a SQLite file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import InvalidInput
from orchestrator.store.sqlite import upkeep as sqlite


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a store, in words.

    Attributes:
        wrong: what must not be.
        notes: what is as it should be, and good to know.
    """

    wrong: tuple[str, ...]
    notes: tuple[str, ...]


def check_store(store: str) -> Checked:
    """Look whether a store agrees with itself. A process may have it open meanwhile.

    Blocks, and reads all of it.

    Raises:
        InvalidInput: it is no SQLite file, or there is none.
        StoreDamaged: it is no store that this version can read.
        StoreUnavailable: it cannot be read at present.
    """
    wrong, notes = sqlite.check(_file(store, "amcheck and VACUUM (ANALYZE)"))
    return Checked(tuple(wrong), tuple(notes))


def back_up_store(store: str, target: Path) -> None:
    """Copy a store as it is at one moment. A process may have it open meanwhile. Blocks.

    Raises:
        InvalidInput: it is no SQLite file, there is none, or the target is there already.
        StoreDamaged: as for ``check_store``; or artifacts are not whole, and what is there was
            copied.
        StoreUnavailable: as for ``check_store``, or the target cannot be written.
    """
    sqlite.backup(_file(store, "pg_dump"), target.resolve())


def vacuum_store(store: str) -> tuple[int, int]:
    """Give unused space back to the disk; return the size before and after, in bytes. Blocks.

    Raises:
        InvalidInput: it is no SQLite file, or there is none.
        StoreInUse: a process has it open.
        StoreDamaged, StoreUnavailable: as for ``check_store``.
    """
    return sqlite.vacuum(_file(store, "VACUUM, which the server does by itself,"))


def _file(store: str, instead: str) -> Path:
    kind, colon, rest = store.partition("://")
    if not colon:
        return Path(store)
    if kind == "sqlite" and rest.startswith("/") and rest != "/":
        return Path(rest[1:])
    if kind in ("postgresql", "postgres"):
        why = f"is a PostgreSQL database: use {instead} of PostgreSQL"
    else:
        why = "is no SQLite file; write a file's name, or sqlite:///runs.db"
    # Without the URL, which may hold a password.
    raise InvalidInput([("store", why)])

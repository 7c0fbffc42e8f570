"""Files beside the database, for artifacts that are large.

A file is whole on the disk before the row that names it is committed, and removed only after the
row is gone. It grows at its end, beyond the length that the row says, so that what a transaction
added that came to nothing is never read, and is written over by the next one.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_UNFINISHED = ".new"


class Shelf:
    """The folder of files of one database; it is made with the first of them.

    To be entered around each transaction: what was made in one that fails is undone, and what was
    dropped in one that does not is removed.
    """

    def __init__(self, database: Path) -> None:
        self.folder = database.with_name(database.name + ".files")
        self._made: list[str] = []
        self._dropped: list[str] = []

    def __enter__(self) -> None:
        self._made, self._dropped = [], []

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._remove(self._dropped if kind is None else self._made)

    def make(self, data: bytes) -> str:
        """Write a new file and return its name; it is on the disk then."""
        self.folder.mkdir(exist_ok=True)
        name = secrets.token_hex(16)
        self._made.append(name)
        unfinished = self.folder / (name + _UNFINISHED)
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self.folder / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _sync_folder(self.folder)
        _sync_folder(self.folder.parent)
        return name

    def extend(self, name: str, length: int, data: bytes) -> None:
        """Write data behind so many bytes of a file; it is on the disk then."""
        with (self.folder / name).open("r+b") as file:
            file.seek(length)
            file.write(data)
            file.truncate()
            file.flush()
            os.fsync(file.fileno())

    def drop(self, name: str) -> None:
        """Remove a file once the transaction is committed."""
        self._dropped.append(name)

    def read(self, name: str, length: int) -> bytes:
        """Return so many bytes of a file.

        Raises:
            FileNotFoundError: it was dropped.
        """
        with (self.folder / name).open("rb") as file:
            return file.read(length)

    def names(self) -> set[str]:
        """Return the names of all files, also of those that came to nothing."""
        return {each.name for each in self.folder.iterdir()} if self.folder.is_dir() else set()

    def remove_all_but(self, named: Collection[str]) -> None:
        """Remove what a process that was killed left behind."""
        self._remove(list(self.names() - set(named)))

    def _remove(self, names: list[str]) -> None:
        for name in names:
            # What is left over here is found at the next start.
            with suppress(OSError):
                (self.folder / name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

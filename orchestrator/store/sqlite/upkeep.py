"""What is done to a store in a file beside running it: it is checked, copied, and made smaller.

A check and a copy read one state of the database, on a connection that cannot write, so they may be
made while a server runs. To make a file smaller takes the lock.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import apsw

from orchestrator.errors import InvalidInput, StoreDamaged, StoreUnavailable
from orchestrator.store.check import faults, unfinished
from orchestrator.store.sqlite.connection import connect, damaged, explained
from orchestrator.store.sqlite.files import Shelf
from orchestrator.store.sqlite.lock import is_locked, locked
from orchestrator.store.sqlite.schema import VERSION, prepare, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NAMED = "SELECT run_id, name, file, size FROM artifacts WHERE file IS NOT NULL"
# A file may be gone when it is copied, since its row went after the database was copied.
_TRIES = 5
# An error is one line, and a whole folder may be lost.
_NAMED_AT_ONCE = 3


def check(path: Path) -> tuple[list[str], list[str]]:
    """Return what is wrong with a store, and what else there is to know; each in words.

    Raises:
        InvalidInput: there is no such file.
        StoreDamaged: it is no store that this version can read.
        StoreUnavailable: it cannot be read at present.
    """
    path = _existing(path)
    in_use = is_locked(path)
    with _reading(path) as db:
        wrong = [f"the file is damaged: {row[0]}" for row in db.execute("PRAGMA integrity_check")]
        wrong = [] if wrong == ["the file is damaged: ok"] else wrong
        wrong += faults(db.execute)
        notes = _notes(db, Shelf(path), in_use=in_use)
    return wrong + list(_damaged_files(path).values()), notes


def _damaged_files(path: Path) -> dict[str, str]:
    """Return the files that are not all there, each with that in words."""
    with _reading(path) as db:
        found = dict(_missing_files(db, Shelf(path)))
    if found:
        # What is removed loses its row first, so that only what still has one is damaged.
        with _reading(path) as db:
            named = {row[2] for row in db.execute(_NAMED)}
        found = {file: words for file, words in found.items() if file in named}
    return found


def _missing_files(db: apsw.Connection, shelf: Shelf) -> Iterator[tuple[str, str]]:
    for run_id, name, file, size in db.execute(_NAMED):
        try:
            found = (shelf.folder / file).stat().st_size
        except FileNotFoundError:
            why = f"has lost its file {shelf.folder / file}"
            yield file, f"artifact {name} of run {run_id} {why}"
        else:
            if found < size:
                why = f"has {found} bytes instead of {size}"
                yield file, f"artifact {name} of run {run_id} {why}"


def _notes(db: apsw.Connection, shelf: Shelf, *, in_use: bool) -> list[str]:
    notes = []
    if count := unfinished(db.execute):
        fate = "a process runs them" if in_use else "the next start settles them"
        notes.append(f"{count} runs have not ended: {fate}")
    named = {row[2] for row in db.execute(_NAMED)}
    # While a process writes, a file may be there before its row.
    if not in_use and (orphans := shelf.names() - named):
        notes.append(f"{len(orphans)} files belong to nothing: the next start removes them")
    return notes


def backup(path: Path, target: Path) -> None:
    """Copy a store, with its files, as it is at one moment; a server may run on it meanwhile.

    Raises:
        InvalidInput: there is no such file, or the target is there already.
        StoreDamaged: as for ``check``; or artifacts are not whole, and what is there was copied.
        StoreUnavailable: as for ``check``, or the target cannot be written.
    """
    path = _existing(path)
    shelf = Shelf(target)
    for there in (target, shelf.folder):
        if there.exists():
            raise InvalidInput([("target", f"{there} is there already; choose another name")])
    if not target.parent.is_dir():
        raise InvalidInput([("target", f"there is no folder {target.parent}; make it first")])
    unfinished = target.with_name(target.name + ".new")
    try:
        wrong = _copy(path, unfinished, shelf.folder)
        unfinished.rename(target)
        _sync(target.parent)
    except OSError as error:
        why = f"the copy cannot be written ({error.strerror})"
        raise StoreUnavailable(f"{target}: {why}") from error
    finally:
        if not target.exists():
            unfinished.unlink(missing_ok=True)
            shutil.rmtree(shelf.folder, ignore_errors=True)
    if wrong:
        kept = f"what is there is copied to {target}"
        raise StoreDamaged(f"{path} is damaged: {_briefly(wrong)}; {kept}")


def _copy(path: Path, copy: Path, folder: Path) -> list[str]:
    """Copy what is there at one moment; return which artifacts are not whole, in words."""
    for _ in range(_TRIES):
        copy.unlink(missing_ok=True)
        with _reading(path, transaction=False) as db:
            db.execute("VACUUM INTO ?", (str(copy),))
        _sync(copy)
        if (wrong := _copy_files(copy, path, folder)) is not None:
            return wrong
    raise StoreUnavailable(f"{path}: artifacts change faster than they can be copied; try again")


def _copy_files(copy: Path, path: Path, folder: Path) -> list[str] | None:
    """Copy the files that a copied database names, as far as they are there.

    Return which of them are not whole, in words, or None as soon as one was removed meanwhile.
    """
    with closing(apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        named = {file: size for _, _, file, size in db.execute(_NAMED)}
    folder.mkdir(exist_ok=True)
    for extra in {each.name for each in folder.iterdir()} - named.keys():
        (folder / extra).unlink()
    source, damaged, wrong = Shelf(path).folder, None, []
    for file, size in named.items():
        if _copy_file(source / file, folder / file, size):
            continue
        damaged = _damaged_files(path) if damaged is None else damaged
        if file not in damaged:
            return None
        wrong.append(damaged[file])
    if not named:
        folder.rmdir()
    else:
        _sync(folder)
    return wrong


def _copy_file(source: Path, target: Path, size: int) -> bool:
    """Copy so many bytes, or those that there are; whether that is all of them."""
    try:
        data = source.read_bytes()[:size]
    except FileNotFoundError:
        return False
    target.write_bytes(data)
    _sync(target)
    return len(data) == size


def _briefly(wrong: list[str]) -> str:
    told = wrong[:_NAMED_AT_ONCE]
    if more := len(wrong) - len(told):
        told.append(f"and {more} more, which a check names")
    return "; ".join(told)


def vacuum(path: Path) -> tuple[int, int]:
    """Give unused space back to the disk; return the size of the file before and after, in bytes.

    Raises:
        InvalidInput: there is no such file.
        StoreInUse: a process has it open.
        StoreDamaged, StoreUnavailable: as for ``check``.
    """
    path = _existing(path)
    before = path.stat().st_size
    with locked(path), explained(path), closing(connect(path)) as db:
        prepare(db, path, new=False)
        db.execute("VACUUM")
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    return before, path.stat().st_size


def _existing(path: Path) -> Path:
    path = path.resolve()
    if not path.is_file():
        raise InvalidInput([("store", f"there is no file {path}")])
    if path.stat().st_size == 0:
        # SQLite would remove the log beside it, which may hold the latest commits.
        raise damaged(path, "it is empty")
    return path


@contextmanager
def _reading(path: Path, *, transaction: bool = True) -> Iterator[apsw.Connection]:
    """Open a file that cannot be written here; within one transaction all reads agree."""
    with explained(path):
        flags = apsw.SQLITE_OPEN_READONLY
        with closing(apsw.Connection(str(path), flags=flags)) as db:
            version = version_of(db, path, new=False)
            if version != VERSION:
                raise StoreDamaged(
                    f"{path} has tables of version {version}; open it once with this version of"
                    " Quiesce, which brings it up, or use the one that wrote it"
                )
            if transaction:
                db.execute("BEGIN")
            yield db


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

"""How an artifact is kept: a row, and either chunks in the database or a file beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.store.database import Database

# The run and the name of an artifact.
Place = tuple[str, str]

# Bytes of an artifact up to which it is in the database, where there are files beside it.
LARGE = 64 * 2**10

_ARTIFACT = "SELECT size, file FROM artifacts WHERE run_id = ? AND name = ?"
_SAVE_ARTIFACT = """
INSERT INTO artifacts(run_id, name, media_type, size, file) VALUES (?, ?, ?, ?, ?)
ON CONFLICT(run_id, name) DO UPDATE SET size = excluded.size, file = excluded.file
"""
_DROP_ARTIFACT = "DELETE FROM artifacts WHERE run_id = ? AND name = ?"
_CHUNKS = "SELECT data FROM chunks WHERE run_id = ? AND name = ? ORDER BY chunk"
_DROP_CHUNKS = "DELETE FROM chunks WHERE run_id = ? AND name = ?"
_ADD_CHUNK = """
INSERT INTO chunks(run_id, name, chunk, data)
SELECT ?, ?, COALESCE(MAX(chunk) + 1, 0), ? FROM chunks WHERE run_id = ? AND name = ?
"""


@dataclass(slots=True)
class Piece:
    """What a batch adds to an artifact, or puts in its place."""

    media_type: str
    replaces: bool
    data: list[bytes] = field(default_factory=list)


def keep_artifact(db: Database, place: Place, piece: Piece) -> None:
    """Add a piece to an artifact, or put it in its place, within a transaction of the caller's."""
    found = next(iter(list(db.execute(_ARTIFACT, *place))), None)
    if found is not None and piece.replaces:
        _drop_artifact(db, place, found[1])
        found = None
    size, file = (0, None) if found is None else found
    data = b"".join(piece.data)
    kept = _keep(db, place, size, file, data)
    db.execute(_SAVE_ARTIFACT, *place, piece.media_type, size + len(data), kept)


def _drop_artifact(db: Database, place: Place, file: str | None) -> None:
    db.execute(_DROP_CHUNKS, *place)
    db.execute(_DROP_ARTIFACT, *place)
    if file is not None and db.files is not None:
        db.files.drop(file)


def _keep(db: Database, place: Place, size: int, file: str | None, data: bytes) -> str | None:
    """Store what is new of an artifact, and return the name of its file, if it has one now."""
    if db.files is None or (file is None and size + len(data) <= LARGE):
        db.execute(_ADD_CHUNK, *place, data, *place)
    elif file is not None:
        db.files.extend(file, size, data)
    else:
        before = b"".join(bytes(chunk) for (chunk,) in db.execute(_CHUNKS, *place))
        db.execute(_DROP_CHUNKS, *place)
        return db.files.make(before + data)
    return file

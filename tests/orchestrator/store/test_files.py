"""Artifacts that are large are in files beside the database; faults are forced by hand."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import apsw
import pytest
import trio

from orchestrator.errors import StoreDamaged, StoreUnavailable
from orchestrator.model import RunId, RunStatus
from orchestrator.store import (
    ArtifactInfo,
    Discard,
    Forget,
    SaveArtifact,
    SqliteStore,
    open_store,
)
from orchestrator.store.artifacts import LARGE
from orchestrator.store.sqlite.files import Shelf
from tests.orchestrator.store.samples import save, step

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.store import Store, Write

R = RunId("r")


def piece(data: bytes, *, append: bool = True, name: str = "log") -> SaveArtifact:
    return SaveArtifact(R, name, "text/plain", data, append)


def files(path: Path) -> list[Path]:
    return sorted(path.with_name(f"{path.name}.files").glob("*"))


@pytest.mark.parametrize("size", [LARGE, LARGE + 1])
async def test_only_what_is_large_is_in_a_file(sqlite: SqliteStore, path: Path, size: int) -> None:
    data = os.urandom(size)
    await sqlite.write([piece(data, append=False)])
    assert [each.read_bytes() for each in files(path)] == ([data] if size > LARGE else [])
    assert await sqlite.artifact("r", "log") == data
    assert await sqlite.artifacts("r") == [ArtifactInfo("log", "text/plain", size)]


async def test_appends_grow_into_one_file(store: Store, store_url: str, path: Path) -> None:
    """Of any size, in one batch or in many, across the border between the two places."""
    whole = b""
    for n, sizes in enumerate([[1], [LARGE - 2], [1], [1, 1], [0], [LARGE, 5, 7], [3]]):
        data = [bytes([65 + n]) * size for size in sizes]
        await store.write([piece(each) for each in data])
        whole += b"".join(data)
        assert await store.artifact("r", "log") == whole
        assert await store.artifacts("r") == [ArtifactInfo("log", "text/plain", len(whole))]
    if store_url.startswith("sqlite"):
        assert [each.read_bytes() for each in files(path)] == [whole]


async def test_an_append_writes_no_more_than_itself(sqlite: SqliteStore, path: Path) -> None:
    await sqlite.write([piece(b"x" * 4 * 2**20)])
    (file,) = files(path)
    before = file.stat()
    for _ in range(20):
        await sqlite.write([piece(b"line\n")])
    assert file.stat().st_ino == before.st_ino
    assert file.stat().st_size == before.st_size + 100


@pytest.mark.parametrize("how", ["replaced", "discarded", "forgotten"])
async def test_a_file_goes_with_its_row(sqlite: SqliteStore, path: Path, how: str) -> None:
    await sqlite.write([save("r", RunStatus.FAILED), piece(b"x" * 2 * LARGE)])
    assert len(files(path)) == 1
    write: dict[str, Any] = {
        "replaced": piece(b"small", append=False),
        "discarded": Discard(R),
        "forgotten": Forget(R),
    }
    await sqlite.write([write[how]])
    assert files(path) == []
    assert await sqlite.artifact("r", "log") == (b"small" if how == "replaced" else None)


async def test_a_batch_that_fails_leaves_no_file_and_costs_none(
    sqlite: SqliteStore, path: Path
) -> None:
    """It fails by its step, which is stored after the artifacts."""
    large, small = piece(b"a" * 2 * LARGE), piece(b"b" * LARGE, name="small")
    await sqlite.write([step("s", "once"), large, small])
    kept = files(path)
    for bad in (piece(b"more"), piece(b"c" * 2 * LARGE, append=False), Discard(R)):
        batch: list[Write] = [bad, piece(b"d" * LARGE, name="small"), step("s", "once")]
        with pytest.raises(ValueError, match="stored"):
            await sqlite.write(batch)
        assert files(path) == kept
        assert await sqlite.artifact("r", "log") == b"a" * 2 * LARGE
        assert await sqlite.artifact("r", "small") == b"b" * LARGE
    # What the failed append had added is written over.
    assert kept[0].stat().st_size == 2 * LARGE + 4
    await sqlite.write([piece(b"z")])
    assert await sqlite.artifact("r", "log") == b"a" * 2 * LARGE + b"z"
    assert kept[0].stat().st_size == 2 * LARGE + 1


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.rename"])
async def test_a_file_that_cannot_be_written_is_an_outage(
    sqlite: SqliteStore, path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    batch: list[Write] = [save("r"), piece(b"x" * 2 * LARGE)]
    with monkeypatch.context() as patch:
        patch.setattr(call, full)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=r"cannot be written \(No space left"):
                await sqlite.write(batch)
    assert files(path) == []
    assert await sqlite.get("r") is None
    await sqlite.write(batch)
    assert await sqlite.artifact("r", "log") == b"x" * 2 * LARGE


async def test_a_file_is_on_the_disk_before_its_row(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded: what is synced, and the commit."""
    done: list[str] = []
    sync, writer = os.fsync, sqlite._writer

    def note_sync(fd: int) -> None:
        done.append("sync " + ("folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"))
        sync(fd)

    class Noting:
        def __getattr__(self, name: str) -> Any:
            return getattr(writer, name)

        def execute(self, sql: str, *values: Any) -> Any:
            if sql == "COMMIT":
                done.append("commit")
            return writer.execute(sql, *values)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(sqlite, "_writer", Noting())
    await sqlite.write([piece(b"x" * 2 * LARGE)])
    assert done == ["sync file", "sync folder", "sync folder", "commit"]
    done.clear()
    await sqlite.write([piece(b"y")])
    assert done == ["sync file", "commit"]


async def test_what_a_killed_process_left_is_removed_at_the_next_start(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await store.write([piece(b"x" * 2 * LARGE)])
    (kept,) = files(path)
    shelf = Shelf(path)
    shelf.make(b"never named")
    (shelf.folder / ("0" * 32 + ".new")).write_bytes(b"half")
    with kept.open("ab") as file:
        file.write(b"never committed")
    async with open_store(f"sqlite:///{path}") as store:
        assert files(path) == [kept]
        assert await store.artifact("r", "log") == b"x" * 2 * LARGE


async def test_a_file_that_is_lost_or_cut_short_is_told_to_who_reads_it(
    sqlite: SqliteStore, path: Path
) -> None:
    await sqlite.write([piece(b"x" * 2 * LARGE), piece(b"small", name="small")])
    (kept,) = files(path)
    os.truncate(kept, LARGE)
    short = f"artifact log of run r is cut short: {LARGE} bytes of {2 * LARGE} are there; restore"
    with trio.fail_after(5):
        with pytest.raises(StoreDamaged, match=short):
            await sqlite.artifact("r", "log")
        kept.unlink()
        with pytest.raises(StoreDamaged, match="artifact log of run r has lost its file; restore"):
            await sqlite.artifact("r", "log")
        assert await sqlite.artifact("r", "small") == b"small"


async def test_a_file_that_is_replaced_while_it_is_read_is_read_anew(
    sqlite: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: the row is read, then another file takes the place of the one that it names."""
    await sqlite.write([piece(b"x" * 2 * LARGE)])
    read = sqlite._read_file
    left: list[Write] = [piece(b"y" * 2 * LARGE, append=False), Discard(R)]

    async def read_late(name: str, size: int) -> bytes | None:
        if left:
            await sqlite.write([left.pop(0)])
        return await read(name, size)

    monkeypatch.setattr(sqlite, "_read_file", read_late)
    assert await sqlite.artifact("r", "log") is None
    assert left == []


async def test_artifacts_of_older_files_go_on_in_a_file(path: Path) -> None:
    """What an earlier version wrote is in chunks, however large."""
    async with open_store(f"sqlite:///{path}"):
        pass
    with closing(apsw.Connection(str(path))) as db:
        big = b"o" * 3 * LARGE
        db.execute("INSERT INTO artifacts VALUES ('r', 'log', 'text/plain', ?, NULL)", (len(big),))
        db.execute("INSERT INTO chunks VALUES ('r', 'log', 0, ?)", (big,))
    async with open_store(f"sqlite:///{path}") as store:
        assert await store.artifact("r", "log") == big
        await store.write([piece(b"n")])
        assert await store.artifact("r", "log") == big + b"n"
    assert len(files(path)) == 1

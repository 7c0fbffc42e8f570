"""Opening and closing the file of a store: its lock, and files that are not what they should be."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import apsw
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from orchestrator.errors import InvalidInput, StoreDamaged, StoreInUse, StoreUnavailable
from orchestrator.model import RunId
from orchestrator.store import SaveRun, SqliteStore, Told, open_store
from tests.orchestrator.store.samples import append, full_record, make_event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from orchestrator.store import Write


async def write(path: Path, batch: Sequence[Write]) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await store.write(batch)


# Opening and closing


async def test_everything_is_there_after_reopening(path: Path) -> None:
    await write(path, [SaveRun(full_record()), append("r", 1)])
    async with open_store(f"sqlite:///{path}") as store:
        assert await store.get("r") == full_record()
        assert await store.events("r", after=0, limit=9) == [make_event("r", 1)]


async def test_a_relative_path_is_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with open_store("sqlite:///my runs%20.db"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["my runs%20.db", "my runs%20.db.lock"]


async def test_who_is_told_that_the_disk_is_at_work_is_told_before_the_commit(path: Path) -> None:
    """And in the loop, which is free while the thread commits."""
    heard, told = threading.Event(), list[str]()

    def committing() -> None:
        assert trio.lowlevel.in_trio_run()
        told.append("committing")
        heard.set()

    def commit() -> bool:
        assert heard.wait(60), "the loop was not free"
        told.append("commit")
        return False

    who = Told(lambda: told.append("stored"), committing)
    async with open_store(f"sqlite:///{path}") as store:
        assert isinstance(store, SqliteStore)
        store._writer.set_commit_hook(commit)
        await store.write([append("r", 1)], who)
        store._writer.set_commit_hook(None)
        # Of what cannot be written nothing is told.
        with pytest.raises(ValueError, match="contradicts"):
            await store.write([append("r", 1)], who)
    assert told == ["committing", "commit", "stored"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "runs.db",
        "sqlite:",
        "sqlite://",
        "sqlite:///",
        "sqlite://runs.db",
        "sqlite:///:memory:",
        "memory://x",
        "memory:///",
        "mysql://localhost/x",
        "postgresql:/x",
    ],
)
async def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="memory://") as caught:
        async with open_store(url):
            pass
    assert [field for field, _ in caught.value.problems] == ["store"]


@pytest.mark.parametrize("name", ["no/such/folder/runs.db", "folder", "file/runs.db"])
async def test_a_path_that_cannot_be_used_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match=str(tmp_path)) as caught:
        async with open_store(f"sqlite:///{tmp_path}/{name}"):
            pass
    assert [field for field, _ in caught.value.problems] == ["store"]
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


async def test_one_process_opens_a_file_once(sqlite: SqliteStore, path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    for name in (path, link, path.parent / "." / path.name):
        with pytest.raises(StoreInUse, match=f"{path} is open in this process already"):
            async with open_store(f"sqlite:///{name}"):
                pass
    await sqlite.write([append("r", 1)])


async def test_a_cancelled_scope_closes_the_store_all_the_same(path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_store(f"sqlite:///{path}") as store:
            await store.write([append("r", 1)])
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    # The log is in the file, and nobody holds the lock.
    assert sorted(os.listdir(path.parent)) == ["runs.db", "runs.db.lock"]
    async with open_store(f"sqlite:///{path}") as store:
        assert await store.last_seq("r") == 1


async def test_an_error_inside_closes_the_store_and_passes(path: Path) -> None:
    with pytest.raises(LookupError):
        async with open_store(f"sqlite:///{path}"):
            raise LookupError
    async with open_store(f"sqlite:///{path}"):
        pass


async def test_a_write_that_has_begun_is_not_cancelled(sqlite: SqliteStore, path: Path) -> None:
    """Forced: the write waits in SQLite for another program's lock when the cancel arrives."""
    scope = trio.CancelScope()

    async def write_cancelled() -> None:
        with scope:
            await sqlite.write([append("r", 1)])

    sqlite._writer.set_busy_timeout(20_000)
    with trio.fail_after(10), closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_cancelled)
            await wait_all_tasks_blocked()
            scope.cancel()
            await wait_all_tasks_blocked()
            assert await sqlite.last_seq("r") == 0
            other.execute("ROLLBACK")
    assert not scope.cancelled_caught
    assert await sqlite.last_seq("r") == 1


# Damage


def no_database(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1000)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 3 * 4096)


def of_a_newer_version(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("user_version", 7)


def of_another_program(path: Path) -> None:
    path.unlink()
    with closing(apsw.Connection(str(path))) as db:
        db.execute("CREATE TABLE bookmarks(url)")


def of_another_program_that_crashed(path: Path) -> None:
    """Its latest commit is in the log beside the file."""
    live = path.with_name("live.db")
    with closing(apsw.Connection(str(live))) as db:
        db.pragma("journal_mode", "wal")
        db.execute("CREATE TABLE bookmarks(url)")
        for end in ("", "-wal"):
            path.with_name(path.name + end).write_bytes(
                live.with_name(live.name + end).read_bytes()
            )
    assert path.with_name(f"{path.name}-wal").stat().st_size > 0


def garbled_inside(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4)
        file.write(os.urandom(size // 2))


def contents(path: Path) -> dict[str, bytes]:
    files = {end: path.with_name(path.name + end) for end in ("", "-wal")}
    return {end: file.read_bytes() for end, file in files.items() if file.exists()}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_database, "is damaged or no database.*restore it from a backup, or move it away"),
        (cut_short, "is damaged or no database.*restore it from a backup, or move it away"),
        (of_a_newer_version, "has tables of version 7.*use the version that wrote it"),
        (of_another_program, "is a database of another program; choose another file"),
        (of_another_program_that_crashed, "is a database of another program; choose another"),
    ],
)
async def test_a_file_that_is_no_store_of_ours_is_refused_and_left_alone(
    path: Path, damage: Callable[[Path], None], message: str
) -> None:
    await write(path, [append("r", n) for n in range(1, 500)])
    damage(path)
    before = contents(path)
    # Twice, since the first refusal must not leave it locked.
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=f"{path} {message}"):
            async with open_store(f"sqlite:///{path}"):
                pass
        assert {end: content for end, content in contents(path).items() if content} == before


async def test_damage_that_is_found_later_is_told_as_such(path: Path) -> None:
    await write(path, [append("r", n, {"text": "x" * 500}) for n in range(1, 2000)])
    garbled_inside(path)
    async with open_store(f"sqlite:///{path}") as store:
        with pytest.raises(StoreDamaged, match=f"{path} is damaged"):
            await store.events("r", after=0, limit=5000)
        # To the journal it is an outage like any other: its runs can still be stopped.
        with pytest.raises(StoreUnavailable, match=f"{path} is damaged"):
            await store.write([append("r", n) for n in range(-1000, 0)])


@pytest.mark.parametrize("damage", ["state = '{'", "state = CAST(x'ff' AS TEXT)", "state = '[]'"])
async def test_a_record_that_cannot_be_read_is_damage(path: Path, damage: str) -> None:
    """SQLite sees nothing wrong with it."""
    await write(path, [SaveRun(full_record())])
    with closing(apsw.Connection(str(path))) as db:
        db.execute(f"UPDATE runs SET {damage}")
    async with open_store(f"sqlite:///{path}") as store:
        with pytest.raises(StoreDamaged, match=f"{path} is damaged.*cannot be read.*restore it"):
            await store.get("r")


async def test_after_damage_what_is_new_is_read_although_the_error_is_kept(path: Path) -> None:
    """An error holds the frames that it passed, and they what they had begun to read."""
    record = full_record()
    tree = [replace(record, id=RunId(name)) for name in "abc"]
    await write(path, [SaveRun(each) for each in tree])
    with closing(apsw.Connection(str(path))) as db:
        db.execute("UPDATE runs SET state = '{'")
    async with open_store(f"sqlite:///{path}") as store:
        with pytest.raises(StoreDamaged) as kept:
            await store.tree(record.root_id)
        await store.write([SaveRun(replace(record, id=RunId("new")))])
        assert await store.get("new") is not None, kept


@pytest.mark.parametrize("what", ["gone", "empty"])
@pytest.mark.parametrize("left", ["its log", "its files"])
async def test_no_new_store_begins_among_what_another_has_left(
    tmp_path: Path, what: str, left: str
) -> None:
    path = tmp_path / "runs.db"
    beside = path.with_name("runs.db-wal") if left == "its log" else tmp_path / "runs.db.files/one"
    beside.parent.mkdir(exist_ok=True)
    beside.write_bytes(b"what is needed still")
    if what == "empty":
        path.touch()
    named = beside if left == "its log" else beside.parent
    with pytest.raises(StoreDamaged, match=f"{named}; put the store's file back"):
        async with open_store(f"sqlite:///{path}"):
            pytest.fail("it began")
    assert beside.read_bytes() == b"what is needed still"
    beside.rename(tmp_path / "elsewhere")
    async with open_store(f"sqlite:///{path}") as store:
        assert await store.unfinished() == []

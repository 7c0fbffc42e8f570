"""What is done to a store that is damaged says so, keeps what is there, and changes nothing."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest
import trio
from click.testing import CliRunner

from api.cli import main
from orchestrator import back_up_store, check_store, vacuum_store
from orchestrator.errors import StoreDamaged
from orchestrator.model import RunId, RunStatus
from orchestrator.store import Discard, SaveArtifact, SqliteStore, open_store
from orchestrator.store.artifacts import LARGE
from orchestrator.store.sqlite import upkeep
from orchestrator.store.sqlite.schema import APPLICATION_ID, MIGRATIONS
from tests.orchestrator.store.samples import append, save

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.store import Store, Write
    from orchestrator.store.sqlite.files import Shelf

SIZE = 2 * LARGE


def artifact(run: str, name: str, size: int = SIZE) -> SaveArtifact:
    return SaveArtifact(RunId(run), name, "a/b", name[:1].encode() * size, append=True)


async def fill(store: Store) -> None:
    """Store two runs; the first has the large artifacts a and b, and the second c."""
    runs: list[Write] = [save(run, RunStatus.SUCCEEDED) for run in ("r", "s")]
    events = [append(run, seq) for run in ("r", "s") for seq in (1, 2)]
    files = [artifact("r", "a"), artifact("r", "b"), artifact("s", "c")]
    await store.write([*runs, *events, *files])


@pytest.fixture
async def filled(path: Path) -> Path:
    async with open_store(f"sqlite:///{path}") as store:
        await fill(store)
    return path


def file_of(path: Path, name: str) -> Path:
    with closing(apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)) as db:
        file = db.execute("SELECT file FROM artifacts WHERE name = ?", (name,)).get
    return path.with_name(f"{path.name}.files") / str(file)


def cut_short(file: Path) -> None:
    os.truncate(file, 3)


def contents(folder: Path) -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in folder.rglob("*") if each.is_file()}


# Check


async def test_what_is_removed_during_a_check_is_not_lost(
    sqlite: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: the row is read, then it goes, and its file with it."""
    await fill(sqlite)
    missing_files = upkeep._missing_files

    def late(db: apsw.Connection, shelf: Shelf) -> object:
        assert db.execute("SELECT COUNT(*) FROM artifacts").get == 3
        trio.from_thread.run(sqlite.write, [Discard(RunId("s"))])
        return missing_files(db, shelf)

    monkeypatch.setattr(upkeep, "_missing_files", late)
    file_of(path, "a").unlink()
    found = await trio.to_thread.run_sync(check_store, str(path))
    assert [each.partition(" /")[0] for each in found.wrong] == [
        "artifact a of run r has lost its file"
    ]


# Backup


@pytest.mark.parametrize(
    ("damage", "says", "left"),
    [(cut_short, f"has 3 bytes instead of {SIZE}", 3), (Path.unlink, "has lost its file {}", None)],
)
async def test_a_copy_without_all_of_an_artifact_says_so_and_has_the_rest(
    filled: Path, tmp_path: Path, damage: Callable[[Path], None], says: str, left: int | None
) -> None:
    file, target = file_of(filled, "a"), tmp_path / "copy.db"
    damage(file)
    (wrong,) = check_store(str(filled)).wrong
    assert wrong == f"artifact a of run r {says.format(file)}"
    result = CliRunner().invoke(main, ["store", "backup", str(filled), str(target)])
    assert result.exit_code == 2
    kept = f"what is there is copied to {target}"
    assert result.output == f"Error: {filled} is damaged: {wrong}; {kept}\n"
    # It is the store as it is: what is wrong with it is the same.
    assert len(check_store(str(target)).wrong) == 1
    copied = file_of(target, "a")
    assert (copied.stat().st_size if copied.exists() else None) == left
    async with open_store(f"sqlite:///{target}") as store:
        assert await store.artifact("r", "b") == b"b" * SIZE
        assert await store.artifact("s", "c") == b"c" * SIZE
        assert len(await store.events("r", after=0, limit=9)) == 2


async def test_a_folder_that_is_gone_is_told_in_one_line_that_has_an_end(
    path: Path, tmp_path: Path
) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await store.write([save("r"), *(artifact("r", f"{n}") for n in range(9))])
    path.with_name(f"{path.name}.files").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreDamaged) as caught:
        back_up_store(str(path), tmp_path / "copy.db")
    wrong = check_store(str(path)).wrong
    assert len(wrong) == 9
    told = f"{'; '.join(wrong[:3])}; and 6 more, which a check names; what is there"
    assert f"is damaged: {told} is copied" in str(caught.value)
    assert len(check_store(str(tmp_path / "copy.db")).wrong) == 9


class Late:
    """Lets something happen to a store after its database was copied, before its files are."""

    def __init__(self, patch: pytest.MonkeyPatch, happen: Callable[[], None]) -> None:
        self.tries = 0
        self._happen, self._copy_files = happen, upkeep._copy_files
        patch.setattr(upkeep, "_copy_files", self)

    def __call__(self, copy: Path, path: Path, folder: Path) -> list[str] | None:
        self.tries += 1
        if self.tries == 1:
            self._happen()
        return self._copy_files(copy, path, folder)


@pytest.mark.parametrize("damage", [cut_short, Path.unlink, lambda _: None])
async def test_what_is_removed_during_the_copy_is_never_called_damage(
    sqlite: SqliteStore,
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
) -> None:
    """Forced: the row is copied, then it goes, whatever has become of its file."""
    await fill(sqlite)

    def remove() -> None:
        damage(file_of(path, "c"))
        trio.from_thread.run(sqlite.write, [Discard(RunId("s"))])

    late, target = Late(monkeypatch, remove), tmp_path / "copy.db"
    await trio.to_thread.run_sync(back_up_store, str(path), target)
    assert late.tries == 2
    assert check_store(str(target)).wrong == ()
    assert len(list(tmp_path.joinpath("copy.db.files").iterdir())) == 2


async def test_what_is_lost_is_told_although_something_else_is_removed_during_the_copy(
    sqlite: SqliteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(sqlite)
    file_of(path, "a").unlink()
    late = Late(monkeypatch, lambda: trio.from_thread.run(sqlite.write, [Discard(RunId("s"))]))
    with pytest.raises(StoreDamaged, match="is damaged: artifact a of run r has lost its file"):
        await trio.to_thread.run_sync(back_up_store, str(path), tmp_path / "copy.db")
    assert late.tries == 2
    async with open_store(f"sqlite:///{tmp_path}/copy.db") as store:
        assert await store.artifact("r", "b") == b"b" * SIZE
        assert await store.artifact("s", "c") is None


async def test_what_is_appended_during_the_copy_is_not_in_it_and_no_damage(
    sqlite: SqliteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(sqlite)
    more = [artifact("r", "a", 5)]
    late = Late(monkeypatch, lambda: trio.from_thread.run(sqlite.write, more))
    target = tmp_path / "copy.db"
    await trio.to_thread.run_sync(back_up_store, str(path), target)
    assert late.tries == 1
    assert check_store(str(target)).wrong == ()
    async with open_store(f"sqlite:///{target}") as store:
        assert await store.artifact("r", "a") == b"a" * SIZE
    assert await sqlite.artifact("r", "a") == b"a" * (SIZE + 5)


# An empty file


def emptied(path: Path) -> None:
    os.truncate(path, 0)
    # The log of a process that was killed: it may hold what was in the file.
    path.with_name(f"{path.name}-wal").write_bytes(b"the latest commits")


def without_tables(path: Path) -> None:
    """It is a database, and the latest that was done to it is in the log beside it."""
    live = path.with_name("live.db")
    with closing(apsw.Connection(str(live))) as db:
        db.pragma("journal_mode", "wal")
        db.execute("CREATE TABLE t(x); DROP TABLE t")
        for end in ("", "-wal"):
            log = live.with_name(live.name + end)
            path.with_name(path.name + end).write_bytes(log.read_bytes())


@pytest.mark.parametrize("damage", [emptied, without_tables])
@pytest.mark.parametrize("command", ["check", "backup", "vacuum"])
async def test_an_empty_file_is_no_store_to_anybody_and_left_as_it_is(
    filled: Path, tmp_path: Path, damage: Callable[[Path], None], command: str
) -> None:
    damage(filled)
    before = contents(filled.parent)
    more = [str(tmp_path / "copy.db")] if command == "backup" else []
    # Twice, since the first one must not make a store of it.
    for _ in range(2):
        result = CliRunner().invoke(main, ["store", command, str(filled), *more])
        assert result.exit_code == 2
        assert f"{filled} is damaged or no database (it is empty); restore it" in result.output
        after = contents(filled.parent)
        assert {each: after[each] for each in before} == before
        assert not (tmp_path / "copy.db").exists()


async def test_a_store_of_an_earlier_version_is_made_smaller_and_brought_up(path: Path) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.execute(MIGRATIONS[0])
        db.pragma("application_id", APPLICATION_ID)
        db.pragma("user_version", 1)
    vacuum_store(str(path))
    assert check_store(str(path)).wrong == ()

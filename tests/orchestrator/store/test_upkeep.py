"""A store in a file is checked, copied and made smaller, also while it is in use."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest
import trio
from click.testing import CliRunner

from api.cli import main
from orchestrator import back_up_store, check_store, vacuum_store
from orchestrator.errors import InvalidInput, StoreDamaged, StoreInUse, StoreUnavailable
from orchestrator.model import RunId, RunStatus
from orchestrator.store import Discard, Forget, SaveArtifact, SqliteStore, open_store
from orchestrator.store.artifacts import LARGE
from orchestrator.store.sqlite import upkeep
from tests.orchestrator.store.samples import append, save

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.store import Store, Write

DONE = RunStatus.SUCCEEDED


def artifact(run: str, size: int, name: str = "a") -> SaveArtifact:
    return SaveArtifact(RunId(run), name, "a/b", run[:1].encode() * size, append=True)


async def fill(store: Store) -> None:
    await store.write(
        [
            save("r", DONE),
            save("c", DONE, root_id="r", parent_id="r"),
            save("live"),
            *(append(root, seq) for root in ("r", "live") for seq in (1, 2, 3)),
            artifact("r", 2 * LARGE),
            artifact("c", 10),
        ]
    )


@pytest.fixture
async def filled(path: Path) -> Path:
    async with open_store(f"sqlite:///{path}") as store:
        await fill(store)
    return path


def change(path: Path, sql: str) -> None:
    with closing(apsw.Connection(str(path))) as db:
        db.execute(sql)


def large_file(path: Path) -> Path:
    (found,) = path.with_name(f"{path.name}.files").iterdir()
    return found


# Check


async def test_a_store_that_is_well_is_told_as_such(filled: Path) -> None:
    for name in (str(filled), f"sqlite:///{filled}"):
        found = check_store(name)
        assert found.wrong == ()
        assert found.notes == ("1 runs have not ended: the next start settles them",)


async def test_a_store_is_checked_while_it_is_in_use(sqlite: SqliteStore, path: Path) -> None:
    await fill(sqlite)
    # A file whose row is still to come is nobody's concern meanwhile.
    large_file(path).with_name("0" * 32).write_bytes(b"x")
    found = await trio.to_thread.run_sync(check_store, str(path))
    assert (found.wrong, found.notes) == ((), ("1 runs have not ended: a process runs them",))
    await sqlite.write([append("r", 4)])
    with pytest.raises(StoreInUse):
        async with open_store(f"sqlite:///{path}"):
            pass


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("DELETE FROM events WHERE root_id = 'r' AND seq = 2", "the feed of r has 2 events"),
        ("DELETE FROM events WHERE root_id = 'r' AND seq = 1", "from number 2 to 3"),
        ("DELETE FROM runs WHERE id = 'r'", "events of r, which is no run"),
        ("DELETE FROM runs WHERE id = 'r'", "run c belongs to the tree of r, which is no run"),
        (
            "UPDATE runs SET status = 'running' WHERE id = 'c'",
            "run c is running, though its root",
        ),
        ("UPDATE runs SET input = NULL", "run live has no input"),
        ("UPDATE artifacts SET size = 9 WHERE run_id = 'c'", "artifact a of run c has 10 bytes"),
        ("UPDATE artifacts SET size = 999999 WHERE run_id = 'r'", "artifact a of run r has 131072"),
    ],
)
async def test_what_contradicts_the_rest_is_found(filled: Path, sql: str, says: str) -> None:
    change(filled, sql)
    assert any(says in each for each in check_store(str(filled)).wrong)


async def test_a_lost_file_is_found_and_one_too_many_is_told(filled: Path) -> None:
    file = large_file(filled)
    file.rename(file.with_name("1" * 32))
    found = check_store(str(filled))
    assert found.wrong == (f"artifact a of run r has lost its file {file}",)
    assert found.notes[1:] == ("1 files belong to nothing: the next start removes them",)


async def test_a_feed_that_is_being_forgotten_is_no_fault(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.batch.FORGOTTEN_AT_ONCE", 1)
    async with open_store(f"sqlite:///{filled}") as store:
        await store.write([Forget(RunId("r"))])
    assert check_store(str(filled)).wrong == ()


# Backup


async def test_a_copy_has_all_that_was_there(filled: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    back_up_store(f"sqlite:///{filled}", target)
    assert check_store(str(target)).wrong == ()
    async with (
        open_store(f"sqlite:///{filled}") as one,
        open_store(f"sqlite:///{target}") as other,
    ):
        for run in ("r", "c", "live"):
            assert await other.get(run) == await one.get(run)
            assert await other.artifact(run, "a") == await one.artifact(run, "a")
        assert await other.events("r", after=0, limit=9) == await one.events("r", after=0, limit=9)


async def test_copies_are_whole_while_a_process_writes(
    sqlite: SqliteStore, path: Path, tmp_path: Path
) -> None:
    """Files grow, come and go all the time; each copy agrees with itself."""
    await fill(sqlite)
    writing = True

    async def write() -> None:
        n = 3
        while writing:
            n += 1
            batch: list[Write] = [append("r", n), artifact("r", 3), Discard(RunId("other"))]
            await sqlite.write([*batch, artifact("other", 2 * LARGE, f"{n}")])
            await trio.sleep(0.005)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            copies = [tmp_path / f"{n}.db" for n in range(5)]
            for copy in copies:
                for tries in range(20):
                    try:
                        await trio.to_thread.run_sync(back_up_store, str(path), copy)
                        break
                    except StoreUnavailable:
                        assert tries < 19
            writing = False
    for copy in copies:
        assert check_store(str(copy)).wrong == ()
        async with open_store(f"sqlite:///{copy}") as store:
            events = await store.events("r", after=0, limit=10_000)
            data = await store.artifact("r", "a")
            assert data is not None
            # One moment: of each batch both are there, or neither.
            assert len(data) == 2 * LARGE + 3 * (len(events) - 3)


async def test_a_file_that_goes_during_the_copy_makes_it_begin_again(
    sqlite: SqliteStore, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: the row is copied, then its file is dropped."""
    await fill(sqlite)
    copy_files = upkeep._copy_files

    def late(copy: Path, source: Path, folder: Path) -> list[str] | None:
        trio.from_thread.run(sqlite.write, [Discard(RunId("r"))])
        return copy_files(copy, source, folder)

    monkeypatch.setattr(upkeep, "_copy_files", late)
    target = tmp_path / "copy.db"
    await trio.to_thread.run_sync(back_up_store, str(path), target)
    assert check_store(str(target)).wrong == ()
    assert not (tmp_path / "copy.db.files").exists()


async def test_a_copy_that_fails_leaves_nothing(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        pass

    monkeypatch.setattr(upkeep, "_copy_files", never)
    with pytest.raises(StoreUnavailable, match="change faster than they can be copied"):
        back_up_store(str(filled), tmp_path / "copy.db")
    assert [name for name in os.listdir(tmp_path) if name.startswith("copy")] == []


@pytest.mark.parametrize("there", ["copy.db", "copy.db.files"])
async def test_nothing_is_copied_over(filled: Path, tmp_path: Path, there: str) -> None:
    (tmp_path / there).mkdir()
    with pytest.raises(InvalidInput, match=f"{there} is there already"):
        back_up_store(str(filled), tmp_path / "copy.db")
    assert list((tmp_path / there).iterdir()) == []


# Vacuum


async def test_a_file_gets_smaller_once_nobody_has_it_open(path: Path) -> None:
    async with open_store(f"sqlite:///{path}") as store:
        await store.write([save("r", DONE)])
        await store.write([append("r", n, {"text": "x" * 900}) for n in range(1, 1000)])
        await store.write([Forget(RunId("r"))])
        with pytest.raises(StoreInUse, match="is open in this process already"):
            vacuum_store(str(path))
    before, after = vacuum_store(str(path))
    assert after < before / 4
    assert check_store(str(path)).wrong == ()


# What is no store


@pytest.mark.parametrize(
    ("store", "says"),
    [
        ("no.db", "there is no file"),
        ("sqlite:///no.db", "there is no file"),
        ("memory://", "is no SQLite file"),
        ("sqlite://x", "is no SQLite file"),
        ("postgresql://ann:secret@h/db", "is a PostgreSQL database: use"),
    ],
)
def test_what_is_no_file_is_refused_without_its_password(
    tmp_path: Path, store: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["check"], ["backup"], ["vacuum"]):
        more = ["copy.db"] if words == ["backup"] else []
        result = CliRunner().invoke(main, ["store", *words, store, *more])
        assert result.exit_code == 2
        assert says in result.output
        assert "secret" not in result.output
    assert list(tmp_path.iterdir()) == []


async def test_pg_dump_is_named_for_a_copy_of_postgresql(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="use pg_dump of PostgreSQL"):
        back_up_store("postgresql://h/db", tmp_path / "copy")


async def test_another_programs_or_older_file_is_refused(filled: Path) -> None:
    change(filled, "PRAGMA user_version = 2")
    for call in (check_store, lambda store: back_up_store(store, filled.with_name("copy"))):
        with pytest.raises(StoreDamaged, match="has tables of version 2; open it once with this"):
            call(str(filled))
    change(filled, "PRAGMA application_id = 7")
    with pytest.raises(StoreDamaged, match="of another program"):
        check_store(str(filled))


# The commands


async def test_the_commands_say_what_they_found_and_did(filled: Path, tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["store", *words])
        return result.exit_code, result.output

    well = "note: 1 runs have not ended: the next start settles them\nall is well\n"
    assert run("check", str(filled)) == (0, well)
    copy = tmp_path / "copy.db"
    assert run("backup", str(filled), str(copy)) == (0, f"copied to {copy}\n")
    code, said = run("vacuum", str(copy))
    assert code == 0
    assert " bytes after" in said
    change(copy, "UPDATE runs SET input = NULL WHERE number = 1")
    code, said = run("check", str(copy))
    assert code == 1
    assert said.startswith("wrong: run r has no input\n")
    assert said.endswith("1 faults\n")

"""Files of earlier versions are brought up to this one."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.model import Progress, RunId, RunOptions, RunRecord, RunStatus
from orchestrator.store import RunFilter, SaveRun, StoredStep, open_store
from orchestrator.store.sqlite import schema as current
from tests.orchestrator.store.samples import AT, append, entry, full_record, make_event, step

if TYPE_CHECKING:
    from pathlib import Path

# As the first version made it, to the letter.
VERSION_1 = """
CREATE TABLE runs(
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- grows with age and is never used again: cursors
    id TEXT NOT NULL UNIQUE,
    root_id TEXT NOT NULL,
    parent_id TEXT NOT NULL,                   -- '' for a root
    agent TEXT NOT NULL,
    owner TEXT NOT NULL,
    created_at TEXT NOT NULL,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    options TEXT NOT NULL,
    state TEXT NOT NULL,                       -- a JSON object: what else changes
    result TEXT NOT NULL
);
CREATE INDEX runs_root ON runs(root_id);
CREATE INDEX runs_parent ON runs(parent_id);
CREATE INDEX runs_agent ON runs(agent);
CREATE INDEX runs_owner ON runs(owner);
CREATE INDEX runs_status ON runs(status);
CREATE TABLE inputs(number INTEGER PRIMARY KEY, input TEXT NOT NULL);
CREATE TABLE run_tags(
    tag TEXT NOT NULL, number INTEGER NOT NULL, PRIMARY KEY(tag, number)
) WITHOUT ROWID;
CREATE TABLE events(
    root_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    type TEXT NOT NULL,
    at TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY(root_id, seq)
) WITHOUT ROWID;
CREATE TABLE partials(run_id TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE artifacts(
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    chunk INTEGER NOT NULL,                    -- 0, 1, 2, …: an append adds one
    media_type TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY(run_id, name, chunk)
);
"""

OPTIONS = (
    '{"deadline_s":null,"idle_timeout_s":null,"grace_s":30.0,"cleanup_s":5.0,"isolation":"task",'
    '"on_crash":"restart","max_attempts":3,"tags":["t"]}'
)
STATE = (
    '{"error":null,"progress":{"percent":5.0,"message":"\\udcff"},"started_at":"'
    + AT
    + '","ended_at":null,"deadline_at":null,"attempt":2,"node":"","waiting_for":"","stop":null}'
)


@pytest.fixture
def old(path: Path) -> Path:
    """A file of version 1 with a run, an event and a partial result."""
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("journal_mode", "wal")
        db.execute(VERSION_1)
        db.pragma("application_id", 0x51534345)
        db.pragma("user_version", 1)
        db.execute(
            "INSERT INTO runs"
            " VALUES (7, 'r', 'r', '', 'digest', 'ann', ?, 'running', 3, ?, ?, 'null')",
            (AT, OPTIONS, STATE),
        )
        db.execute("INSERT INTO inputs VALUES (7, '{\"n\":1}')")
        db.execute("INSERT INTO run_tags VALUES ('t', 7)")
        db.execute("INSERT INTO events VALUES ('r', 1, 'r', 'run.log', ?, '{\"n\":1}')", (AT,))
        db.execute("INSERT INTO partials VALUES ('r', CAST('[1]' AS BLOB))")
    return path


def version_and_tables(path: Path) -> tuple[int, list[str]]:
    with closing(apsw.Connection(str(path))) as db:
        tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
        return db.pragma("user_version"), [name for (name,) in db.execute(tables)]


async def test_a_file_of_version_1_is_brought_up_with_all_that_is_in_it(old: Path) -> None:
    record = RunRecord(
        id=RunId("r"),
        root_id=RunId("r"),
        agent="digest",
        owner="ann",
        status=RunStatus.RUNNING,
        created_at=AT,
        started_at=AT,
        input={"n": 1},
        options=RunOptions(on_crash="restart", tags=("t",)),
        progress=Progress(percent=5.0, message="\udcff"),
        attempt=2,
        version=3,
    )
    for _ in range(2):
        async with open_store(f"sqlite:///{old}") as store:
            assert await store.get("r") == record
            assert await store.unfinished() == [record]
            page = await store.page(RunFilter(tag="t", owner="ann"), after=None, limit=9)
            assert page.runs == (record,)
            assert await store.events("r", after=0, limit=9) == [make_event("r", 1)]
            assert await store.partial("r") == [1]
        assert version_and_tables(old)[0] == current.VERSION


async def test_a_file_of_version_1_takes_what_is_new(old: Path) -> None:
    async with open_store(f"sqlite:///{old}") as store:
        assert await store.steps("r") == []
        await store.write([step("r", "a"), entry("r", "k"), SaveRun(full_record()), append("r", 2)])
    async with open_store(f"sqlite:///{old}") as store:
        assert await store.steps("r") == [StoredStep("", "a", b"1")]
        assert await store.data("ann", "s", "k") == b"1"
        stored = await store.get("r")
        assert stored is not None
        assert stored.waiting_for == full_record().waiting_for


async def test_an_old_file_and_a_new_one_have_the_same_tables(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    schemas = []
    for path in (old, new):
        async with open_store(f"sqlite:///{path}"):
            pass
        with closing(apsw.Connection(str(path))) as db:
            found = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2")
            schemas.append(list(found))
    assert schemas[0] == schemas[1]


async def test_what_brings_a_file_up_does_so_whole_or_not_at_all(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = version_and_tables(old)
    broken = (*current.MIGRATIONS[:-1], current.MIGRATIONS[-1] + "CREATE TABLE runs(id);")
    with monkeypatch.context() as patch:
        patch.setattr(current, "MIGRATIONS", broken)
        with pytest.raises(apsw.SQLError, match="runs already exists"):
            async with open_store(f"sqlite:///{old}"):
                pass
    assert version_and_tables(old) == before
    async with open_store(f"sqlite:///{old}") as store:
        await store.write([step("r", "a")])


async def test_a_file_that_cannot_be_brought_up_now_can_be_later(old: Path) -> None:
    before = version_and_tables(old)
    with closing(apsw.Connection(str(old))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another program has locked the file"):
            async with open_store(f"sqlite:///{old}"):
                pass
        other.execute("ROLLBACK")
    assert version_and_tables(old) == before
    async with open_store(f"sqlite:///{old}") as store:
        assert await store.steps("r") == []

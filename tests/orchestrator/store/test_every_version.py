"""A file of each earlier version is brought to this one, with all that it may hold."""

from __future__ import annotations

import hashlib
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING

import apsw
import pytest

from orchestrator.model import RunId, RunStatus
from orchestrator.store import (
    ArtifactInfo,
    RunFilter,
    SaveArtifact,
    StoredStep,
    check_store,
    open_store,
)
from orchestrator.store.artifacts import LARGE
from orchestrator.store.sqlite.schema import APPLICATION_ID, MIGRATIONS, VERSION
from tests.orchestrator.store.samples import AT, append, make_event
from tests.orchestrator.store.test_migrations import OPTIONS, STATE

if TYPE_CHECKING:
    from pathlib import Path

# What was released is never changed: a file made by it would not come by the tables of today.
RELEASED = {
    1: "65f1638a1cdc1a31",
    2: "230f26d4d2103671",
    3: "e91c2aec72013a0c",
    4: "8588a586ccf1e90f",
    5: "bacd515ee48cb3e3",
    6: "19f06077534f2477",
}
BIG = bytes(range(256)) * 4 * (LARGE // 256)

# What each version could hold that those before it could not.
ROWS = {
    1: """
        INSERT INTO runs(number, id, root_id, parent_id, agent, owner, created_at, status, version,
            options, state, result) VALUES
            (7, 'r', 'r', '', 'digest', 'ann', :at, 'running', 3, :options, :live, 'null'),
            (8, 'c', 'r', 'r', 'digest', 'ann', :at, 'failed', 2, :options, :ended, 'null'),
            (9, 's', 's', '', 'digest', 'bob', :at, 'failed', 2, :options, :ended, 'null');
        INSERT INTO inputs VALUES (7, '{"n":1}'), (8, 'null'), (9, 'null');
        INSERT INTO run_tags VALUES ('t', 7), ('t', 9);
        INSERT INTO events VALUES ('r', 1, 'r', 'run.log', :at, '{"n":1}'),
            ('s', 1, 's', 'run.log', :at, '{"n":1}');
        INSERT INTO partials VALUES ('r', CAST('[1]' AS BLOB));
    """,
    2: """
        INSERT INTO steps(root_id, path, name, value) VALUES
            ('r', '', 'b', x'31'), ('r', '/x', 'a', x'32');
        INSERT INTO data VALUES ('ann', 's', 'k', 'r', x'31');
    """,
    3: "INSERT INTO documents VALUES ('c', 'k', x'31');",
    4: "INSERT INTO forgotten VALUES ('gone');",
    5: "",
}
# Up to version 4 an artifact is nothing but its chunks.
CHUNKS = "INSERT INTO artifacts(run_id, name, chunk, media_type, data) VALUES (?, ?, ?, ?, ?)"
ARTIFACTS = f"""
    INSERT INTO artifacts VALUES
        ('r', 'log', 'a/b', 7, NULL), ('r', 'big', 'a/b', {len(BIG)}, NULL);
    INSERT INTO chunks VALUES
        ('r', 'log', 0, CAST('one ' AS BLOB)), ('r', 'log', 1, CAST('two' AS BLOB)),
        ('r', 'big', 0, :big);
"""


def digest(migration: str) -> str:
    return hashlib.sha256(migration.encode()).hexdigest()[:16]


def test_what_was_released_is_what_it_was() -> None:
    assert {n: digest(migration) for n, migration in enumerate(MIGRATIONS, 1)} == RELEASED


@pytest.fixture(params=range(1, VERSION))
def old(request: pytest.FixtureRequest, path: Path) -> tuple[Path, int]:
    version: int = request.param
    live = STATE
    ended = STATE.replace('"ended_at":null', f'"ended_at":"{AT}"')
    values = {"at": AT, "options": OPTIONS, "live": live, "ended": ended}
    with closing(apsw.Connection(str(path))) as db:
        db.pragma("journal_mode", "wal")
        for each in range(1, version + 1):
            db.execute(MIGRATIONS[each - 1])
            db.execute(ROWS[each], values)
        if version >= 5:
            db.execute(ARTIFACTS, {"big": BIG})
        else:
            for n, (name, data) in enumerate((("log", b"one "), ("log", b"two"), ("big", BIG))):
                chunk = n if name == "log" else 0
                # Only the media type of the first chunk counts.
                db.execute(CHUNKS, ("r", name, chunk, "a/b" if chunk == 0 else "c/d", data))
        db.pragma("application_id", APPLICATION_ID)
        db.pragma("user_version", version)
    return path, version


async def test_all_that_it_held_is_there(old: tuple[Path, int]) -> None:
    path, version = old
    async with open_store(f"sqlite:///{path}") as store:
        assert [run.id for run in await store.unfinished()] == ["r"]
        assert [run.id for run in await store.tree("r")] == ["r", "c"]
        page = await store.page(RunFilter(tag="t"), after=None, limit=9)
        assert [run.id for run in page.runs] == ["s", "r"]
        assert await store.events("r", after=0, limit=9) == [make_event("r", 1)]
        assert await store.partial("r") == [1]
        assert await store.artifacts("r") == [
            ArtifactInfo("big", "a/b", len(BIG)),
            ArtifactInfo("log", "a/b", 7),
        ]
        assert await store.artifact("r", "log") == b"one two"
        assert await store.artifact("r", "big") == BIG
        steps = [StoredStep("", "b", b"1"), StoredStep("/x", "a", b"2")]
        assert await store.steps("r") == (steps if version >= 2 else [])
        assert await store.data("ann", "s", "k") == (b"1" if version >= 2 else None)
        assert await store.document("c", "k") == (b"1" if version >= 3 else None)
        assert await store.forgotten(limit=9) == (["gone"] if version >= 4 else [])


async def test_roots_that_had_ended_are_as_old_as_they_are(old: tuple[Path, int]) -> None:
    path, _ = old
    ended_s = datetime.fromisoformat(AT).timestamp()
    async with open_store(f"sqlite:///{path}") as store:
        assert await store.expired(now_s=ended_s + 61, retention_s=60, limit=9) == ["s"]
        assert await store.expired(now_s=ended_s + 59, retention_s=60, limit=9) == []


async def test_it_takes_all_that_is_new(old: tuple[Path, int]) -> None:
    path, _ = old
    async with open_store(f"sqlite:///{path}") as store:
        more = SaveArtifact(RunId("r"), "big", "x/y", b"more", append=True)
        await store.write([append("r", 2), more])
        await store.write([SaveArtifact(RunId("r"), "log", "x/y", b"!", append=True)])
        assert await store.artifact("r", "big") == BIG + b"more"
        assert await store.artifact("r", "log") == b"one two!"
        record = await store.get("s")
        assert record is not None
        assert record.status is RunStatus.FAILED
    found = check_store(str(path))
    assert found.wrong == ()

"""The store in a file at work: outages, its shape on disk, and its plans."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import apsw
import pytest

from orchestrator.errors import StoreUnavailable
from orchestrator.model import RunId, RunStatus
from orchestrator.store import DropData, RunFilter, SaveArtifact, SqliteStore
from orchestrator.store.batch import _DROPPED_DATA
from orchestrator.store.query import page_query
from orchestrator.store.sql import _DATA_KEYS
from tests.orchestrator.store.samples import FILTERS, append, entry, make_run, save

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.store import Write


MEGABYTE = 2**20


# Outages


async def test_a_full_disk_stores_nothing_and_the_next_try_all(sqlite: SqliteStore) -> None:
    """SQLite's own limit on the size of a file stands in for that of a disk."""
    await sqlite.write([save("r"), append("r", 1)])
    db = sqlite._writer
    db.pragma("max_page_count", db.pragma("page_count") + 1)
    batch: list[Write] = [save("s"), *(append("r", n, {"text": "x" * 1000}) for n in range(2, 50))]
    # After a statement of one row SQLite has rolled back by itself, after one of many it has not.
    for refused in (batch, [append("r", 2, {"text": "x" * 50_000})], batch):
        with pytest.raises(StoreUnavailable, match=r"runs\.db: the disk is full"):
            await sqlite.write(refused)
        assert await sqlite.last_seq("r") == 1
        assert await sqlite.get("s") is None
    await sqlite.write([append("q", 1)])
    db.pragma("max_page_count", 2**30)
    await sqlite.write(batch)
    assert await sqlite.last_seq("r") == 49
    assert await sqlite.get("s") == make_run("s")


async def test_another_programs_lock_is_waited_for_and_told(
    sqlite: SqliteStore, path: Path
) -> None:
    sqlite._writer.set_busy_timeout(10)
    with closing(apsw.Connection(str(path))) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="another program has locked the file"):
            await sqlite.write([append("r", 1)])
        assert await sqlite.last_seq("r") == 0
        other.execute("ROLLBACK")
    await sqlite.write([append("r", 1)])
    assert await sqlite.last_seq("r") == 1


async def test_a_file_that_may_not_be_written_is_told_as_such(sqlite: SqliteStore) -> None:
    sqlite._writer.pragma("query_only", True)
    with pytest.raises(StoreUnavailable, match="may not be written"):
        await sqlite.write([append("r", 1)])
    sqlite._writer.pragma("query_only", False)
    await sqlite.write([append("r", 1)])
    assert await sqlite.last_seq("r") == 1


async def test_a_value_that_is_not_json_is_a_bug_and_costs_only_its_batch(
    sqlite: SqliteStore,
) -> None:
    with pytest.raises(ValueError, match="serialize"):
        await sqlite.write([append("r", 1), append("r", 2, {"x": object()})])
    await sqlite.write([append("r", 1)])
    assert await sqlite.last_seq("r") == 1


async def test_readers_cannot_write(sqlite: SqliteStore) -> None:
    for reader in sqlite._idle:
        with pytest.raises(apsw.ReadOnlyError):
            reader.execute("DELETE FROM runs")


# On disk


def empty_log(store: SqliteStore) -> None:
    store._writer.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def log_size(path: Path) -> int:
    return path.with_name(f"{path.name}-wal").stat().st_size


async def test_an_update_does_not_write_the_input_again(sqlite: SqliteStore, path: Path) -> None:
    big = {"text": "x" * 4 * MEGABYTE}
    await sqlite.write([save("r", input=big)])
    empty_log(sqlite)
    for version in range(2, 22):
        await sqlite.write([save("r", input=big, version=version, node="n" * version)])
    # A few pages each: the run, its entry by status, the counter of runs.
    assert 0 < log_size(path) < 20 * 4 * 5000
    assert await sqlite.get("r") == make_run("r", input=big, version=21, node="n" * 21)


async def test_an_append_does_not_write_the_artifact_again(sqlite: SqliteStore, path: Path) -> None:
    def piece(data: bytes) -> SaveArtifact:
        return SaveArtifact(RunId("r"), "log", "text/plain", data, append=True)

    await sqlite.write([piece(b"x" * 4 * MEGABYTE)])
    empty_log(sqlite)
    for _ in range(20):
        await sqlite.write([piece(b"line\n")])
    assert 0 < log_size(path) < 20 * 4 * 5000
    assert (await sqlite.artifacts("r"))[0].size == 4 * MEGABYTE + 100


async def test_a_commit_is_synced(sqlite: SqliteStore) -> None:
    assert sqlite._writer.pragma("synchronous") == 2
    assert sqlite._writer.pragma("journal_mode") == "wal"


async def test_keys_are_read_along_an_index_within_both_bounds(sqlite: SqliteStore) -> None:
    values = ("ann", "s", "p", "p", "", 10)
    sql = _DATA_KEYS.format(key_begins_with=SqliteStore.key_begins_with)
    plan = [row[3] for row in sqlite._writer.execute(f"EXPLAIN QUERY PLAN {sql}", values)]
    assert plan == [
        "SEARCH data USING COVERING INDEX sqlite_autoindex_data_1"
        " (owner=? AND namespace=? AND key>? AND key<?)"
    ]


async def test_a_discard_looks_for_nothing_in_all_rows(sqlite: SqliteStore) -> None:
    for table, column in (("data", "run_id"), ("steps", "root_id")):
        sql = f"EXPLAIN QUERY PLAN DELETE FROM {table} WHERE {column} IN ('r')"
        assert all("SEARCH" in row[3] for row in sqlite._writer.execute(sql))


async def test_many_entries_are_dropped_along_an_index(sqlite: SqliteStore) -> None:
    await sqlite.write([entry("r", f"{n:03}") for n in range(250)])
    await sqlite.write([DropData("ann", "s", f"{n:03}") for n in range(249)])
    assert await sqlite.data_keys("ann", "s", prefix="", after="", limit=9) == ["249"]
    sql = f"EXPLAIN QUERY PLAN {_DROPPED_DATA.sql(1)}"
    plan = [row[3] for row in sqlite._writer.execute(sql, (1, 2, 3))]
    assert plan[0].startswith("SEARCH data USING COVERING INDEX"), plan


def plan_of(store: SqliteStore, where: RunFilter) -> list[str]:
    sql, values = page_query(where, "7", 10, merges=True)
    return [row[3] for row in store._writer.execute(f"EXPLAIN QUERY PLAN {sql}", values)]


async def test_every_page_is_read_along_an_index_and_never_sorted(sqlite: SqliteStore) -> None:
    for where in FILTERS:
        plan = plan_of(sqlite, where)
        assert not [step for step in plan if "TEMP B-TREE" in step or "SCAN" in step], (where, plan)
        first = next(step for step in plan if " runs " in step or " run_tags " in step)
        # The cursor bounds the search, so the pages before this one are not read.
        bounds = ("(rowid<?)",) if where == RunFilter() else ("=? AND rowid<?)", "=? AND number<?)")
        assert first.endswith(bounds), (where, plan)


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (RunFilter(parent="", agent="a"), "runs_agent"),
        (RunFilter(parent="", statuses=(RunStatus.FAILED,)), "runs_status"),
        (RunFilter(owner="o", statuses=(RunStatus.FAILED,)), "runs_owner"),
        (RunFilter(owner="o", statuses=(RunStatus.RUNNING, RunStatus.PAUSED)), "runs_status"),
        (RunFilter(owner="o", agent="a", root="r", tag="t"), "runs_root"),
        (RunFilter(owner="o", parent="p", tag="t"), "runs_parent"),
    ],
    ids=str,
)
async def test_the_condition_that_leaves_the_fewest_runs_picks_the_index(
    sqlite: SqliteStore, where: RunFilter, index: str
) -> None:
    used = [step for step in plan_of(sqlite, where) if "USING INDEX" in step]
    assert used
    assert all(index in step for step in used), used

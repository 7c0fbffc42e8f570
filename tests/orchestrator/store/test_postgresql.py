"""The store in PostgreSQL at work: outages, and that there is one writer. The server is real."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator.errors import InvalidInput, StoreDamaged, StoreInUse, StoreUnavailable
from orchestrator.model import RunId, RunStatus
from orchestrator.store import DropDocument, SaveArtifact, SaveDocument, open_store
from orchestrator.store import sql as sql_of_store
from orchestrator.store.postgresql import PostgresStore
from orchestrator.store.postgresql import store as implementation
from orchestrator.store.postgresql.schema import VERSION
from orchestrator.store.query import page_query
from tests.orchestrator.store.relay import Cut, open_relay
from tests.orchestrator.store.samples import (
    FILTERS,
    append,
    entry,
    make_event,
    make_run,
    save,
    step,
)
from tests.postgres import in_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.store import Store, Write
    from tests.postgres import Server


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    with in_time(60):
        yield


def batch_of(number: int) -> list[Write]:
    """A batch that would leave a trace if it were stored twice, or only in part."""
    piece = SaveArtifact(RunId("r"), "log", "text/plain", b"x", append=True)
    return [save("r", version=number), piece, SaveDocument("c", f"{number}", b"1")]


async def stored(store: Store) -> tuple[int, int]:
    """Return how many batches of ``batch_of`` are stored, by each of two traces."""
    chunks = await store.artifact("r", "log") or b""
    return len(chunks), len(await store.documents("c", limit=1000))


async def write_at_last(store: Store, batch: Sequence[Write]) -> int:
    """Write as the journal does, and return how often it was refused."""
    refused = 0
    while True:
        try:
            await store.write(batch)
        except StoreUnavailable:
            refused += 1
            await trio.sleep(0.05)
        else:
            return refused


# Outages


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
async def test_a_server_that_is_started_again_is_written_to_again(
    postgresql: PostgresStore, postgres_server: Server, how: signal.Signals
) -> None:
    await postgresql.write(batch_of(1))
    postgres_server.end(how)
    waiting = batch_of(2)
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="the PostgreSQL database stores on"):
            await postgresql.write(waiting)
    await trio.to_thread.run_sync(postgres_server.start)
    await write_at_last(postgresql, waiting)
    await postgresql.write(batch_of(3))
    assert await stored(postgresql) == (3, 3)
    assert await postgresql.get("r") == make_run("r", version=3)


async def test_reads_wait_for_a_server_that_comes_back(
    postgresql: PostgresStore, postgres_server: Server
) -> None:
    await postgresql.write(batch_of(1))
    await stored(postgresql)
    postgres_server.end()
    found: list[Any] = []

    async def read() -> None:
        found.append(await postgresql.get("r"))

    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(read)
        await trio.sleep(0.5)
        assert found == []
        await trio.to_thread.run_sync(postgres_server.start)
    assert found == [make_run("r", version=1)] * 6


@pytest.mark.slow
async def test_reads_give_up_in_the_end(
    postgresql: PostgresStore, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implementation, "READ_S", 0.4)
    await postgresql.write(batch_of(1))
    assert await stored(postgresql) == (1, 1)
    postgres_server.end()
    began = trio.current_time()
    with pytest.raises(StoreUnavailable, match=r"; it was tried for 0\.4 s"):
        await postgresql.get("r")
    assert trio.current_time() - began >= 0.4
    await trio.to_thread.run_sync(postgres_server.start)
    monkeypatch.undo()
    assert await stored(postgresql) == (1, 1)


async def test_sessions_that_are_ended_are_made_again(
    postgresql: PostgresStore, postgres_server: Server
) -> None:
    await postgresql.write(batch_of(1))
    assert await stored(postgresql) == (1, 1)
    for number in (2, 3):
        postgres_server.sever_all("stores")
        assert await stored(postgresql) == (number - 1, number - 1)
        await write_at_last(postgresql, batch_of(number))
    assert await stored(postgresql) == (3, 3)


@pytest.mark.parametrize("cut", Cut)
@pytest.mark.parametrize("again", [True, False])
async def test_a_batch_whose_answer_was_lost_is_stored_once(
    postgres_url: str, postgres_server: Server, cut: Cut, again: bool
) -> None:
    async with (
        open_relay(postgres_server.port, "stores") as relay,
        open_store(relay.url) as store,
    ):
        await store.write(batch_of(1))
        in_doubt = batch_of(2)
        relay.cut = cut
        with pytest.raises(StoreUnavailable):
            await store.write(in_doubt)
        assert relay.cut is None
        await until_the_loss_is_noticed(postgres_server)
        is_there = cut is Cut.AFTER_COMMIT
        assert await stored(store) == (1 + is_there, 1 + is_there)
        if again:
            relay.cut = cut
            if not is_there:
                with pytest.raises(StoreUnavailable):
                    await store.write(in_doubt)
                await until_the_loss_is_noticed(postgres_server)
            await store.write(in_doubt)
            relay.cut = None
        # Whoever gives it up may go on.
        await store.write(batch_of(3))
        expected = 3 if again or is_there else 2
        assert await stored(store) == (expected, expected)


async def test_a_server_that_stands_still_is_given_up(
    postgresql: PostgresStore, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: the server gets the batch and does nothing, until the store has hung up."""
    await postgresql.write(batch_of(1))
    assert await stored(postgresql) == (1, 1)
    monkeypatch.setattr(implementation, "WRITE_S", 0.3)
    monkeypatch.setattr(implementation, "READ_S", 0.3)
    waiting = batch_of(2)
    postgres_server.freeze()
    try:
        with pytest.raises(StoreUnavailable, match=r"has not answered for 0\.3 s"):
            await postgresql.write(waiting)
        with pytest.raises(StoreUnavailable, match="does not answer; it was tried"):
            await postgresql.get("r")
    finally:
        postgres_server.thaw()
    monkeypatch.undo()
    await write_at_last(postgresql, waiting)
    await postgresql.write(batch_of(3))
    assert await stored(postgresql) == (3, 3)


async def test_a_server_that_stands_still_holds_nobody_up_who_leaves(
    postgresql: PostgresStore, postgres_server: Server
) -> None:
    postgres_server.freeze()
    try:
        with trio.move_on_after(0.2) as scope:
            await postgresql.get("r")
        assert scope.cancelled_caught
    finally:
        postgres_server.thaw()
    for _ in range(implementation.READERS + 1):
        assert await postgresql.get("r") is None


@pytest.mark.slow
async def test_connections_that_went_dead_are_made_again(
    postgres_url: str, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forced: nothing is heard on those that are there any more, as from a host that is gone."""
    async with (
        open_relay(postgres_server.port, "stores") as relay,
        open_store(relay.url) as store,
    ):
        assert isinstance(store, PostgresStore)
        await use_every_reader(store, postgres_server)
        relay.mute()
        with monkeypatch.context() as patch:
            patch.setattr(implementation, "READ_S", 1.0)
            async with trio.open_nursery() as nursery:
                for _ in range(implementation.READERS):
                    nursery.start_soon(read_in_vain, store)
        assert await store.get("r") is None


async def until_the_loss_is_noticed(server: Server) -> None:
    """Wait until a session that was cut has let go of its lock; else writes are refused."""
    while server.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") != [(0,)]:
        await trio.sleep(0.01)


async def use_every_reader(store: PostgresStore, server: Server) -> None:
    """Read on all connections at once, so that all are there."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with server.connection("stores") as other:
        other.execute("SELECT pg_advisory_lock(7)")
        async with trio.open_nursery() as nursery:
            for _ in range(implementation.READERS):
                nursery.start_soon(store._read, tuple, "SELECT pg_advisory_xact_lock_shared(7)")
            while server.execute(waiting) != [(implementation.READERS,)]:
                await trio.sleep(0.01)
            other.execute("SELECT pg_advisory_unlock(7)")


async def read_in_vain(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="does not answer"):
        await store.get("r")


async def test_readers_follow_the_writer_to_a_new_primary(
    postgresql: PostgresStore, postgres_server: Server
) -> None:
    """The old one may live on, so that a connection to it looks as good as ever."""
    pid = "SELECT pg_backend_pid()"
    before = await postgresql._read(tuple, pid)
    await postgresql.write(batch_of(1))
    assert await postgresql._read(tuple, pid) == before
    session = postgresql._tenure.session
    assert session is not None
    postgres_server.execute(f"SELECT pg_terminate_backend({session.info.backend_pid}, 5000)")
    await write_at_last(postgresql, batch_of(2))
    assert await postgresql._read(tuple, pid) != before


async def test_a_write_that_has_begun_is_not_cancelled(
    postgresql: PostgresStore, postgres_server: Server
) -> None:
    """Forced: the write waits for a lock of somebody else's when the cancel arrives."""
    scope = trio.CancelScope()

    async def write_cancelled() -> None:
        with scope:
            await postgresql.write(batch_of(1))

    with postgres_server.connection("stores") as other, other.transaction():
        other.execute("LOCK TABLE quiesce.documents IN EXCLUSIVE MODE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_cancelled)
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not postgres_server.execute(waiting):
                await trio.sleep(0.01)
            scope.cancel()
            await trio.sleep(0.05)
            assert await stored(postgresql) == (0, 0)
            other.execute("COMMIT")
    assert not scope.cancelled_caught
    assert await stored(postgresql) == (1, 1)


async def test_a_database_that_turns_read_only_is_one_that_waits(
    postgresql: PostgresStore, postgres_server: Server
) -> None:
    """As a primary does that was failed over, and lives on."""
    await postgresql.write(batch_of(1))
    postgres_server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    postgres_server.execute("SELECT pg_reload_conf()")
    waiting = batch_of(2)
    try:
        while True:  # until the reload has reached the session
            try:
                await postgresql.write(waiting)
            except StoreUnavailable as error:
                assert "it may not be written, as if it were a standby" in str(error)  # noqa: PT017
                break
            waiting = batch_of(len(await postgresql.documents("c", limit=1000)) + 1)
        with pytest.raises(StoreUnavailable, match="session is read-only"):
            await postgresql.write(waiting)
        before = await stored(postgresql)
    finally:
        with postgres_server.connection() as db:
            db.execute("SET default_transaction_read_only = off")
            db.execute("ALTER SYSTEM RESET default_transaction_read_only")
            db.execute("SELECT pg_reload_conf()")
    await write_at_last(postgresql, waiting)
    assert await stored(postgresql) == (before[0] + 1, before[1] + 1)


async def test_a_full_disk_stores_nothing_and_the_next_try_all(
    postgresql: PostgresStore, postgres_server: Server
) -> None:
    """A trigger stands in for the disk; it refuses the last write of the batch."""
    postgres_server.execute(_REFUSE, "stores")
    batch = batch_of(1)
    try:
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="its disk is full"):
                await postgresql.write(batch)
            assert await stored(postgresql) == (0, 0)
    finally:
        postgres_server.execute("DROP FUNCTION refuse() CASCADE", "stores")
    await postgresql.write(batch)
    assert await stored(postgresql) == (1, 1)


_REFUSE = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END
$$;
CREATE TRIGGER full_disk BEFORE INSERT ON quiesce.documents EXECUTE FUNCTION refuse()
"""


# One writer


@pytest.mark.slow
async def test_a_database_is_open_once(postgresql: PostgresStore, postgres_url: str) -> None:
    with pytest.raises(StoreInUse, match=r"stores on 127\.0\.0\.1 is open in this process already"):
        async with open_store(postgres_url):
            pass
    await postgresql.write(batch_of(1))


async def test_whoever_lost_its_database_to_another_never_writes_again(
    postgres_url: str, postgres_server: Server
) -> None:
    async with (
        open_relay(postgres_server.port, "stores") as relay,
        open_store(relay.url) as loser,
    ):
        await loser.write(batch_of(1))
        postgres_server.sever_all("stores")
        async with open_store(postgres_url) as winner:
            await winner.write(batch_of(2))
            for _ in range(2):
                with pytest.raises(StoreInUse, match=r"was taken by this process.*for good"):
                    await write_at_last(loser, batch_of(3))
            # It never had the lock again, not even for a moment.
            await winner.write(batch_of(3))
        with pytest.raises(StoreInUse, match="was taken by another process"):
            await loser.write(batch_of(4))
        assert await stored(loser) == (3, 3)


async def test_a_lost_session_that_the_server_still_has_is_waited_for(
    postgres_url: str, postgres_server: Server
) -> None:
    """Forced: the session waits for a lock when its client vanishes, so that it does not notice."""
    async with (
        open_relay(postgres_server.port, "stores") as relay,
        open_store(relay.url) as store,
    ):
        await store.write(batch_of(1))
        batch = batch_of(2)
        with postgres_server.connection("stores") as other, other.transaction():
            other.execute("LOCK TABLE quiesce.documents IN EXCLUSIVE MODE")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(implementation, "WRITE_S", 0.3)
                with pytest.raises(StoreUnavailable, match="has not answered"):
                    await store.write(batch)
                patch.setattr(implementation, "WRITE_S", 20)
                with pytest.raises(StoreUnavailable, match="has not noticed yet"):
                    await store.write(batch)
        await write_at_last(store, batch)
        assert await stored(store) == (2, 2)


async def test_an_older_copy_of_the_database_is_not_written_to(
    postgresql: PostgresStore, postgres_server: Server
) -> None:
    """As after a failover to a standby that lagged behind."""
    for number in (1, 2, 3):
        await postgresql.write(batch_of(number))
    postgres_server.execute("UPDATE quiesce.tenure SET batch = batch - 1", "stores")
    with pytest.raises(StoreUnavailable, match=r"is not as it was left.*Start this process"):
        await postgresql.write(batch_of(4))
    postgres_server.sever_all("stores")
    with pytest.raises(StoreUnavailable):
        await postgresql.write(batch_of(4))
    with pytest.raises(StoreUnavailable, match=r"is not as it was left.*Start this process"):
        await postgresql.write(batch_of(4))
    assert await stored(postgresql) == (3, 3)


# What may be stored


async def test_what_sqlite_takes_as_text_comes_back(store: Store) -> None:
    texts = ["", "\x00", "\x01", "\x01\x01", "\x01\x02", "\x00\x01", "a\x00", "a\x01b", "é\x00"]
    await store.write([entry("r", text or "empty", owner=text, space=text) for text in texts])
    await store.write([SaveDocument("c", text, b"1") for text in texts[1:]])
    await store.write([save(f"r{n}", tags=(text,), owner=text) for n, text in enumerate(texts)])
    await store.write([step("r", text, path=text) for text in texts])
    assert [key for key, _ in await store.documents("c", limit=99)] == sorted(texts[1:])
    assert [each.name for each in await store.steps("r")] == texts
    for n, text in enumerate(texts):
        assert await store.data_keys(text, text, prefix="", after="", limit=9) == [text or "empty"]
        record = await store.get(f"r{n}")
        assert record is not None
        assert (record.owner, record.tags) == (text, (text,))
    await store.write([DropDocument("c", text) for text in texts])
    assert await store.documents("c", limit=99) == []


async def test_a_character_that_is_no_text_is_refused_and_costs_only_its_batch(
    store: Store, store_url: str
) -> None:
    if store_url != "memory://":
        with pytest.raises(ValueError, match="surrogates not allowed"):
            await store.write([append("r", 1), SaveDocument("c", "\ud800", b"1")])
    await store.write([append("r", 1)])
    assert await store.last_seq("r") == 1


async def test_long_names_are_stored(store: Store) -> None:
    """As long as they get: PostgreSQL's indexes take no more than 2700 bytes in a row."""
    longest = "\U0010ffff"
    path = "/agent:0123456789ab" * 1000
    await store.write([step("r", 200 * longest, path=path), step("r", "b", path=path + "/")])
    await store.write([entry("r", 512 * longest, owner=63 * longest, space=200 * "n")])
    await store.write([save("r", tags=(200 * longest,), owner=63 * longest)])
    assert len(await store.steps("r")) == 2


# Opening


@pytest.mark.parametrize(
    "url", ["postgresql://ann:secret%zz@h/db", "postgresql://ann:secret@h/db?no_such=1"]
)
async def test_a_url_that_cannot_be_read_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidInput, match="write postgresql://user:password@host") as caught:
        async with open_store(url):
            pass
    assert "secret" not in str(caught.value)


async def test_a_server_that_is_not_there_is_told_without_the_password() -> None:
    with pytest.raises(StoreUnavailable, match=r"db on 127\.0\.0\.1: .*refused") as caught:
        async with open_store("postgresql://ann:secret@127.0.0.1:1/db"):
            pass
    assert "secret" not in str(caught.value)


async def test_a_database_that_is_not_there_is_told(postgres_server: Server) -> None:
    with pytest.raises(StoreUnavailable, match='"nowhere" does not exist'):
        async with open_store(postgres_server.url("nowhere")):
            pass


async def test_a_database_in_another_encoding_is_refused(postgres_server: Server) -> None:
    postgres_server.execute("DROP DATABASE IF EXISTS latin")
    postgres_server.execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1'")
    with pytest.raises(InvalidInput, match="is encoded in LATIN1; make one with CREATE DATABASE"):
        async with open_store(postgres_server.url("latin")):
            pass


async def test_a_server_that_is_too_old_is_refused(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.store.postgresql.schema.OLDEST_SERVER", 99)
    with pytest.raises(InvalidInput, match="use 99 or later"):
        async with open_store(postgres_url):
            pass


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE quiesce.tenure SET version = 77", "has tables of version 77.*use the version"),
        ("ALTER TABLE quiesce.tenure RENAME TO tenant", "a schema 'quiesce' of another program"),
    ],
)
async def test_tables_that_are_not_ours_are_refused_and_left_alone(
    postgres_server: Server, change: str, message: str
) -> None:
    postgres_server.execute("DROP DATABASE IF EXISTS foreign_tables")
    url = postgres_server.make_database("foreign_tables")
    async with open_store(url) as store:
        await store.write([append("r", 1)])
    postgres_server.execute(change, "foreign_tables")
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=message):
            async with open_store(url):
                pass
    count = "SELECT count(*) FROM quiesce.events"
    assert postgres_server.execute(count, "foreign_tables") == [(1,)]


async def test_other_tables_may_be_in_the_database(postgres_server: Server) -> None:
    postgres_server.execute("DROP DATABASE IF EXISTS shared_database")
    url = postgres_server.make_database("shared_database")
    postgres_server.execute("CREATE TABLE runs(id TEXT); CREATE TABLE events()", "shared_database")
    for status in (RunStatus.RUNNING, RunStatus.FAILED):
        async with open_store(url) as store:
            await store.write([save("r", status)])
    assert postgres_server.execute("SELECT * FROM runs", "shared_database") == []
    version = "SELECT version FROM quiesce.tenure"
    assert postgres_server.execute(version, "shared_database") == [(VERSION,)]


async def test_a_role_that_may_make_nothing_is_told_so(
    postgres_server: Server, postgres_url: str
) -> None:
    postgres_server.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN")
    with pytest.raises(StoreUnavailable, match="the role may not do that"):
        async with open_store(postgres_url.replace("postgres@", "guest@")):
            pass


async def test_everything_is_there_after_reopening(postgres_url: str) -> None:
    async with open_store(postgres_url) as store:
        await store.write([save("r"), append("r", 1)])
    async with open_store(postgres_url) as store:
        assert await store.get("r") == make_run("r")
        assert await store.events("r", after=0, limit=9) == [make_event("r", 1)]


async def test_a_cancelled_scope_closes_the_store_all_the_same(
    postgres_url: str, postgres_server: Server
) -> None:
    with trio.CancelScope() as scope:
        async with open_store(postgres_url) as store:
            await store.write([append("r", 1)])
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    ours = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'quiesce %'"
    while postgres_server.execute(ours):
        await trio.sleep(0.01)


async def test_nothing_can_be_written_where_we_read(
    postgresql: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(implementation, "READ_S", 0.2)
    with pytest.raises(StoreUnavailable, match="may not be written"):
        await postgresql._read(tuple, "DELETE FROM runs RETURNING 1")


async def test_a_commit_is_synced_whatever_the_server_does_for_others(
    postgres_server: Server, postgres_url: str
) -> None:
    postgres_server.execute("ALTER DATABASE stores SET synchronous_commit = off")
    try:
        async with open_store(postgres_url) as store:
            session = store._tenure.session  # type: ignore[attr-defined]
            assert session.execute("SHOW synchronous_commit").fetchall() == [("on",)]
    finally:
        postgres_server.execute("ALTER DATABASE stores RESET synchronous_commit")


async def test_limits_of_time_that_are_set_for_others_do_not_hold_for_a_store(
    postgres_server: Server,
) -> None:
    url = postgres_server.make_database("hurried")
    for limit in ("statement_timeout", "lock_timeout", "idle_session_timeout"):
        postgres_server.execute(f"ALTER DATABASE hurried SET {limit} = '50ms'")
    async with open_store(url) as store:
        assert isinstance(store, PostgresStore)
        assert store._tenure.session is not None
        # The server, and not only what it says of itself: both would be ended by their limits.
        store._tenure.session.execute("SELECT pg_sleep(0.2)")
        assert await store._read(tuple, "SELECT pg_sleep(0.2)")
        assert not await write_at_last(store, batch_of(1))
        assert await stored(store) == (1, 1)


# Plans


async def plan_of(store: PostgresStore, sql: str, *values: Any) -> str:
    rows = await store._read(tuple, f"EXPLAIN {sql}", *values)
    return "\n".join(line for (line,) in rows)


@pytest.mark.slow
async def test_every_page_is_read_along_an_index_and_never_sorted(
    postgresql: PostgresStore,
) -> None:
    for where in FILTERS:
        sql, values = page_query(where, "7", 10, merges=False)
        plan = await plan_of(postgresql, sql, *values)
        assert not re.search("Seq Scan|Bitmap|Hash", plan), (where, plan)
        assert len(re.findall("Sort ", plan)) <= (len(where.statuses or ()) > 1), (where, plan)
        assert len(re.findall("Limit ", plan)) == _parts(sql) + 1, (where, plan)
        # The cursor bounds the search, so the pages before this one are not read.
        first = re.search(r"Index (?:Only )?Scan.*on (?:runs|run_tags).*\n *Index Cond: (.*)", plan)
        assert first is not None, (where, plan)
        assert "number < '7'" in first[1], (where, plan)


def _parts(sql: str) -> int:
    return sql.count("UNION ALL") + 1 if "UNION ALL" in sql else 0


async def test_what_is_read_often_is_read_along_an_index(postgresql: PostgresStore) -> None:
    keys = sql_of_store._DATA_KEYS.format(key_begins_with=postgresql.key_begins_with)
    for sql, values, index in (
        (keys, ("ann", "s", "p", "p", "", 10), "data_pkey"),
        (sql_of_store._UNFINISHED, (), "runs_status"),
        (sql_of_store._TREE, ("r",), "runs_root"),
        (sql_of_store._EVENTS, ("r", 1, 9), "events_pkey"),
        (sql_of_store._LAST_SEQ, ("r",), "events_pkey"),
        (sql_of_store._STEPS, ("r",), "steps_root"),
        (sql_of_store._NEWEST_DOCUMENTS, ("c", "k", "k", 9), "documents_pkey"),
    ):
        plan = await plan_of(postgresql, sql, *values)
        assert index in plan, plan
        assert not re.search("Seq Scan|Bitmap", plan), plan
        assert ("Sort" in plan) == (sql == sql_of_store._UNFINISHED), plan
    # Both bounds are in the search.
    plan = await plan_of(postgresql, keys, "ann", "s", "p", "p", "", 10)
    assert "key >= 'p'" in plan.replace("::text", ""), plan
    assert "key < 'q'" in plan.replace("::text", ""), plan

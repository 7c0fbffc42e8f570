"""What is wrong with the disk while a server runs: it is told, stops work, nothing is lost."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from api.service import open_server
from orchestrator import Context, Orchestrator, agent, open_orchestrator
from orchestrator.store import SqliteStore
from tests.postgres import in_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from orchestrator.store import Write


@agent
async def worker(ctx: Context) -> None:
    """Work until stopped."""
    while True:
        async with ctx.operation("work"):
            await trio.sleep(0.01)


@agent
async def talker(ctx: Context) -> None:
    """Say much, until stopped."""
    while True:
        await ctx.log("x" * 2_000)
        await ctx.sleep(0.001)


@dataclass
class Served:
    """A server on a file, and a client of it."""

    orchestrator: Orchestrator
    client: httpx.AsyncClient
    path: Path

    @property
    def store(self) -> SqliteStore:
        """The store of the server."""
        assert isinstance(self.orchestrator.store, SqliteStore)
        return self.orchestrator.store

    async def ask(self, method: str, path: str, expected: int, **body: Any) -> Any:
        """Return the body of an answer that must have that status."""
        json = body if method == "POST" else None
        answer = await self.client.request(method, path, json=json)
        assert answer.status_code == expected, answer.text
        return answer.json()

    async def until_failing(self) -> str:
        """Wait until the store refuses writes, and return why."""
        while (error := self.orchestrator.store_error) is None:
            await trio.sleep(0.01)
        return str(error)


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    with in_time(60):
        yield


@asynccontextmanager
async def served(path: Path) -> AsyncIterator[Served]:
    async with (
        open_orchestrator(f"sqlite:///{path}", agents=[worker, talker]) as orchestrator,
        open_server(orchestrator) as url,
        httpx.AsyncClient(base_url=url, timeout=30) as client,
    ):
        yield Served(orchestrator, client, path)


async def assert_whole(orchestrator: Orchestrator, run_id: str, last: str) -> None:
    """Nothing is missing from a feed, and nothing is there twice."""
    events = await orchestrator.store.events(run_id, after=0, limit=1_000_000)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == last


async def test_a_full_disk(tmp_path: Path) -> None:
    """SQLite's own limit on the size of a file stands in for that of a disk."""
    async with served(tmp_path / "runs.db") as server:
        run_id = (await server.ask("POST", "/runs", 201, agent="talker"))["id"]
        run = server.orchestrator.live(run_id)
        assert run is not None
        db = server.store._writer
        db.pragma("max_page_count", db.pragma("page_count"))
        assert f"{server.path}: the disk is full" in await server.until_failing()

        (why,) = (await server.ask("GET", "/readyz", 503))["reasons"]
        assert f"{server.path}: the disk is full" in why
        await server.ask("GET", "/healthz", 200)
        assert (await server.ask("GET", f"/runs/{run_id}", 200))["status"] == "running"
        refused = await server.ask("POST", f"/runs/{run_id}/stop", 503)
        assert refused["type"] == "urn:quiesce:stop-not-durable"
        # It is carried out, though nobody may be told yet that it is.
        await run.exited.wait()
        assert (await server.ask("GET", f"/runs/{run_id}", 200))["status"] == "running"

        db.pragma("max_page_count", 2**30)
        await run.ended.wait()
        told = await server.ask("POST", f"/runs/{run_id}/stop", 200)
        assert (told["run"]["status"], told["receipt"]["outcome"]) == ("stopped", "stopped")
        await server.ask("GET", "/readyz", 200)
        await assert_whole(server.orchestrator, run_id, "run.stopped")


async def test_starts_that_a_full_disk_refuses_leave_nothing_behind(tmp_path: Path) -> None:
    """However often they are tried: what they would leave can only go to the memory."""
    async with served(tmp_path / "runs.db") as server:
        await server.ask("POST", "/runs", 201, agent="worker")
        server.store._writer.pragma("query_only", True)
        assert "may not be written" in await server.until_failing()
        first = await server.ask("POST", "/runs", 503, agent="worker")
        assert first["type"] == "urn:quiesce:store-unavailable"
        assert "may not be written" in first["detail"]
        live = len(server.orchestrator.registry)
        for _ in range(20):
            await server.ask("POST", "/runs", 503, agent="worker")
        assert len(server.orchestrator.registry) == live
        server.store._writer.pragma("query_only", False)
        while server.orchestrator.store_error is not None:
            await trio.sleep(0.01)
        (kept,) = (await server.ask("GET", "/runs?agent=worker", 200))["runs"]
        assert kept["status"] == "running"


@dataclass
class Slow:
    """A disk that takes no write while it is held."""

    held: threading.Event = field(default_factory=threading.Event)
    waits: threading.Event = field(default_factory=threading.Event)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let every store of this test be on it."""
        self.held.set()
        write = SqliteStore._write

        def slow(store: SqliteStore, batch: Sequence[Write], *tell: Any) -> None:
            if not self.held.is_set():
                self.waits.set()
                self.held.wait(50)
            write(store, batch, *tell)

        monkeypatch.setattr(SqliteStore, "_write", slow)


async def test_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop takes effect at once; only its answer waits. Whoever reads is not held up at all."""
    disk = Slow()
    disk.install(monkeypatch)
    answers: list[Any] = []
    async with served(tmp_path / "runs.db") as server:
        run_id = (await server.ask("POST", "/runs", 201, agent="worker"))["id"]
        run = server.orchestrator.live(run_id)
        assert run is not None
        disk.held.clear()
        try:
            async with trio.open_nursery() as nursery:

                async def stop() -> None:
                    answers.append(await server.client.post(f"/runs/{run_id}/stop"))

                nursery.start_soon(stop)
                await run.exited.wait()
                await trio.to_thread.run_sync(disk.waits.wait)
                await server.ask("GET", "/healthz", 200)
                await server.ask("GET", "/runs", 200)
                shown = await server.ask("GET", f"/runs/{run_id}", 200)
                assert (shown["status"], answers) == ("running", [])
                disk.held.set()
        finally:
            disk.held.set()
        assert answers[0].json()["receipt"]["outcome"] in ("stopping", "stopped")
        await run.ended.wait()
        await assert_whole(server.orchestrator, run_id, "run.stopped")


async def test_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it for ever, and it is told as what it is until it answers."""
    monkeypatch.setattr("orchestrator.journal.STALL_S", 0.2)
    disk = Slow()
    disk.install(monkeypatch)
    async with served(tmp_path / "runs.db") as server:
        run_id = (await server.ask("POST", "/runs", 201, agent="worker"))["id"]
        run = server.orchestrator.live(run_id)
        assert run is not None
        disk.held.clear()
        try:
            refused = await server.ask("POST", f"/runs/{run_id}/stop", 503)
            assert refused["type"] == "urn:quiesce:stop-not-durable"
            assert "has not answered for" in refused["detail"]
            await run.exited.wait()
            assert "has not answered" in (await server.ask("GET", "/readyz", 503))["reasons"][0]
            await server.ask("POST", "/runs", 503, agent="worker")
        finally:
            disk.held.set()
        await run.ended.wait()
        assert (await server.ask("POST", f"/runs/{run_id}/stop", 200))["receipt"]
        await server.ask("GET", "/readyz", 200)


async def test_what_is_damaged_is_told_to_who_reads_it(tmp_path: Path) -> None:
    async with served(tmp_path / "runs.db") as server:
        run_id = (await server.ask("POST", "/runs", 201, agent="worker"))["id"]
        await server.ask("POST", f"/runs/{run_id}/stop", 200, mode="now", wait_s=10)
        server.store._writer.execute("UPDATE runs SET state = '{'")
        told = await server.ask("GET", f"/runs/{run_id}", 500)
        assert told["type"] == "urn:quiesce:store-damaged"
        assert "restore it from a backup" in told["detail"]
        # The others are not touched by that.
        other = (await server.ask("POST", "/runs", 201, agent="worker"))["id"]
        await server.ask("POST", f"/runs/{other}/stop", 200, mode="now", wait_s=10)

"""The database is away while runs go on: stops work, nothing is lost, and nobody is told a lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from api.service import open_server
from orchestrator import (
    Context,
    RunStatus,
    StopOutcome,
    StoreInUse,
    StoreUnavailable,
    agent,
    open_orchestrator,
)
from orchestrator.store import open_store
from orchestrator.store.postgresql.connection import connect
from orchestrator.store.postgresql.tenure import Tenure
from tests.orchestrator.store.relay import open_relay
from tests.postgres import in_time

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres import Server

_closed: list[str] = []


@agent
async def talker(ctx: Context) -> int:
    """Say numbers until stopped."""
    n = 0
    try:
        while True:
            n += 1
            await ctx.log(str(n))
            await ctx.sleep(0.005)
    finally:
        _closed.append(ctx.run_id)


@pytest.fixture(autouse=True)
def ends() -> Iterator[None]:
    _closed.clear()
    with in_time(60):
        yield


@pytest.fixture
def url(postgres_server: Server) -> str:
    return postgres_server.make_database("outage")


async def ask(client: httpx.AsyncClient, method: str, path: str, expected: int) -> Any:
    answer = await client.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == expected, answer.text
    return answer.json()


async def test_a_stop_over_http_while_the_database_is_away(
    url: str, postgres_server: Server
) -> None:
    async with (
        open_orchestrator(url, agents=[talker]) as orchestrator,
        open_server(orchestrator) as server,
        httpx.AsyncClient(base_url=server, timeout=30) as client,
    ):
        run = await orchestrator.start(talker)
        await trio.sleep(0.05)
        postgres_server.end()
        refused = await ask(client, "POST", f"/runs/{run.id}/stop", 503)
        assert refused["type"] == "urn:quiesce:stop-not-durable"
        assert refused["run_status"] == "running"
        assert refused["receipt"]["outcome"] in ("stopping", "stopped")
        # It has been carried out, though nobody is told that it is.
        await run.exited.wait()
        assert _closed == [run.id]
        assert (await ask(client, "GET", "/readyz", 503))["status"] == "unready"
        refused = await ask(client, "POST", f"/runs/{run.id}/stop", 503)
        assert refused["type"] == "urn:quiesce:stop-not-durable"
        assert (refused["run_status"], refused["receipt"]["outcome"]) == ("running", "stopped")
        again = await client.post("/runs", json={"agent": "talker"})
        assert again.status_code == 503

        await trio.to_thread.run_sync(postgres_server.start)
        await run.ended.wait()
        told = await ask(client, "POST", f"/runs/{run.id}/stop", 200)
        assert told["run"]["status"] == "stopped"
        assert told["receipt"]["outcome"] == "stopped"
        # Nothing is missing from the feed, and nothing is there twice.
        events = await orchestrator.store.events(run.id, after=0, limit=100_000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        said = [int(event.data["message"]) for event in events if event.type == "run.log"]
        assert said == list(range(1, len(said) + 1))
        assert events[-1].type == "run.stopped"
    assert len(_closed) == 1


@pytest.mark.slow
async def test_runs_go_on_through_outages_and_lose_nothing(
    url: str, postgres_server: Server
) -> None:
    async with open_orchestrator(url, agents=[talker]) as orchestrator:
        runs = [await orchestrator.start(talker) for _ in range(3)]
        for _ in range(2):
            await trio.sleep(0.05)
            postgres_server.sever_all("outage")
            await trio.sleep(0.05)
            postgres_server.end()
            await trio.sleep(0.1)
            await trio.to_thread.run_sync(postgres_server.start)
        receipts = [await run.stop(grace_s=1) for run in runs]
        assert [receipt.outcome for receipt in receipts] == ["stopped"] * 3
        for run in runs:
            events = await orchestrator.store.events(run.id, after=0, limit=100_000)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            said = [int(event.data["message"]) for event in events if event.type == "run.log"]
            assert said == list(range(1, len(said) + 1))


@pytest.mark.slow
async def test_an_orchestrator_that_lost_its_database_to_another_ends_its_runs(
    url: str, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that has nothing to write: its pulse tells it."""
    monkeypatch.setattr("orchestrator.store.postgresql.store.PostgresStore.pulse_s", 0.05)
    monkeypatch.setattr("orchestrator.runtime.FLUSH_S", 0.1)
    exited = trio.Event()

    @agent
    async def silent(ctx: Context) -> None:
        try:
            await ctx.sleep(1000)
        finally:
            exited.set()

    taken = trio.Event()
    found: list[RunStatus] = []

    async def take() -> None:
        await taken.wait()
        async with open_orchestrator(url) as other:
            with trio.fail_after(10):
                await exited.wait()
            found.extend(run.status for run in (await other.runs()).runs)

    async def lose() -> None:
        async with open_orchestrator(url, agents=[silent]) as orchestrator:
            await orchestrator.start(silent)
            patch_resume(monkeypatch, taken)
            postgres_server.sever_all("outage")
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        with pytest.raises(BaseExceptionGroup) as caught:
            await lose()
    assert caught.group_contains(StoreInUse, match="has lost it for good")
    # Whoever took it has settled what it found, and so is believed.
    assert found == [RunStatus.LOST]


@pytest.mark.slow
async def test_what_may_be_at_work_elsewhere_is_lost_and_not_called_stopped(
    url: str, postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is cut off loses the lock and goes on, so that a free one proves nothing."""
    monkeypatch.setattr("orchestrator.runtime.FLUSH_S", 0.1)
    working, release = trio.Event(), trio.Event()

    @agent
    async def slow(ctx: Context) -> None:
        async with ctx.operation("work"):
            working.set()
            await release.wait()

    async with (
        open_relay(postgres_server.port, "outage") as relay,
        open_orchestrator(relay.url, agents=[slow]) as cut_off,
    ):
        run = await cut_off.start(slow)
        await working.wait()
        await cut_off.durable(run.request_stop(grace_s=600))
        relay.end()
        async with open_orchestrator(url, agents=[slow]) as other:
            record = await other.get(run.id)
            assert record.status is RunStatus.LOST
            assert record.stop is not None
            assert record.stop.outcome is StopOutcome.LOST
            assert record.stop.settled_at is None
        assert not run.exited.is_set()
        release.set()
        await run.exited.wait()


async def test_who_leaves_a_database_leaves_nothing_to_doubt(url: str) -> None:
    for _ in range(2):
        async with open_orchestrator(url, agents=[talker]) as orchestrator:
            await orchestrator.start(talker)
            assert orchestrator.store.last_is_gone


def patch_resume(monkeypatch: pytest.MonkeyPatch, taken: trio.Event) -> None:
    """Let the loser come back only after another has taken the database."""
    resume = Tenure._resume
    epochs: list[int] = []

    def later(self: Tenure) -> Any:
        session = connect(self._address)
        with session:
            ((epoch,),) = session.execute("SELECT epoch FROM tenure")
        epochs.append(epoch)
        trio.from_thread.run_sync(taken.set)
        if epochs[-1] == epochs[0]:
            raise StoreUnavailable("not yet")
        return resume(self)

    monkeypatch.setattr(Tenure, "_resume", later)


async def test_a_database_that_is_away_at_the_start_is_told(
    url: str, postgres_server: Server
) -> None:
    postgres_server.end()
    with pytest.raises(StoreUnavailable, match="outage on"):
        async with open_store(url):
            pass

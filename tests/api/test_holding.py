"""Answers that are made before what they tell of is durable, and given only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from api import starts
from api.answers import run_json
from orchestrator import Orchestrator, RunStatus, StoreUnavailable
from tests.api.wire import settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    import httpx

    from orchestrator.store.protocol import Told
    from orchestrator.store.writes import Write

ORDER = {"agent": "sleeper", "input": {"seconds": 1000}}


class Disk:
    """The disk of a store, at work on each batch for as long as a test wants; then it may refuse.

    Attributes:
        tells: whether it says that it is at work.
        writes: how many batches it has been given so far.
        made: how often an answer was made so far.
    """

    def __init__(self, orchestrator: Orchestrator, patch: pytest.MonkeyPatch) -> None:
        self.released = trio.Event()
        self.tells = True
        self.refuses = False
        self.writes = 0
        self.made = 0
        write = orchestrator.store.write

        async def slowly(batch: Sequence[Write], told: Told) -> None:
            self.writes += 1
            if self.tells:
                told.committing()
            await self.released.wait()
            if self.refuses:
                raise StoreUnavailable("the disk is full")
            await write(batch, told)

        def make(*args: Any) -> dict[str, Any]:
            self.made += 1
            return run_json(*args)

        patch.setattr(orchestrator.store, "write", slowly)
        patch.setattr(starts, "run_json", make)

    def finish_this(self) -> None:
        """Let it be done with the batch that it is at work on, and not with the next one."""
        self.released.set()
        self.released = trio.Event()


async def until(seen: Callable[[], bool]) -> None:
    while not seen():
        await settled()


async def start(client: httpx.AsyncClient, answers: list[httpx.Response]) -> None:
    answers.append(await client.post("/runs", json=ORDER))


@pytest.fixture
async def disk(served: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Disk]:
    """The disk; it works when the test is over, or nothing could end."""
    disk = Disk(served, monkeypatch)
    yield disk
    disk.refuses = False
    disk.released.set()


async def test_an_answer_is_made_while_the_disk_is_at_work_and_given_afterwards(
    client: httpx.AsyncClient, served: Orchestrator, disk: Disk
) -> None:
    answers: list[httpx.Response] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, client, answers)
            await until(lambda: disk.made == 1)
            await settled()
            (run,) = served.registry.roots()
            assert answers == []
            assert run.shown is None
            # Nobody else is told of it either.
            assert (await client.get(f"/runs/{run.id}")).status_code == 404
            disk.released.set()
        (answer,) = answers
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/runs/{run.id}"
        # What was made is what there is.
        assert answer.json() == (await client.get(f"/runs/{run.id}")).json()


async def test_what_cannot_be_made_durable_is_refused_though_its_answer_was_made(
    client: httpx.AsyncClient, served: Orchestrator, disk: Disk
) -> None:
    disk.refuses = True
    disk.released.set()
    with trio.fail_after(20):
        refused = await client.post("/runs", json=ORDER)
        assert disk.made == 1
        assert refused.status_code == 503
        assert refused.json()["type"] == "urn:quiesce:store-unavailable"
        assert "the disk is full" in refused.json()["detail"]
        assert "Location" not in refused.headers
        other = await client.get("/runs/unknown")
        names = {"content-length", "retry-after"}
        assert set(refused.headers) - names == set(other.headers) - names
        counted = (await client.get("/metrics")).text
        calls = [line for line in counted.splitlines() if 'method="POST",route="/runs"' in line]
        assert [line for line in calls if 'status="503"' in line and "_count" in line]
        assert not [line for line in calls if 'status="201"' in line]
        disk.refuses = False
        await until(lambda: len(served.registry) == 0)
    (record,) = (await served.runs()).runs
    assert record.status is RunStatus.STOPPED
    assert record.stop is not None
    assert record.stop.reason == "its start was not stored"


@pytest.mark.parametrize("tells", [True, False])
async def test_what_becomes_of_a_run_afterwards_holds_up_no_answer_to_its_start(
    client: httpx.AsyncClient, served: Orchestrator, disk: Disk, tells: bool
) -> None:
    """Nor does it matter whether that can be stored: the start is."""
    disk.tells = tells
    answers: list[httpx.Response] = []
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, client, answers)
            await until(lambda: disk.writes == 1)
            (run,) = served.registry.roots()
            run.request_stop()
            await settled()
            disk.finish_this()
        await until(lambda: disk.writes == 2)
        (answer,) = answers
        assert (answer.status_code, answer.json()["status"]) == (201, "running")
        assert answer.json() == (await client.get(f"/runs/{run.id}")).json()
        disk.released.set()
        await run.ended.wait()


async def test_a_caller_that_leaves_while_its_answer_is_held_leaves_the_run_behind(
    client: httpx.AsyncClient, served: Orchestrator, disk: Disk
) -> None:
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start, client, [])
            await until(lambda: disk.made == 1)
            nursery.cancel_scope.cancel()
        await settled()
        disk.released.set()
        await until(lambda: all(run.shown is not None for run in served.registry.roots()))
        (found,) = (await client.get("/runs")).json()["runs"]
    assert found["status"] == "running"

"""A client hangs up at every point of a request: no run is lost, doubled, or begun by half of it.

A connection is closed after the k-th byte that it sends, for all k, and after the k-th byte that
it is answered. What counts is the store: which runs there are afterwards.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from api.service import open_server
from orchestrator import Context, Orchestrator, RunFilter, agent, open_orchestrator
from tests.api.wire import Wire, connect, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from api.server import Address

# How a connection ends: in order, or with a reset.
ENDINGS: dict[str, Callable[[Wire], None]] = {
    "close": lambda wire: wire.stream.socket.close(),
    "reset": Wire.reset,
}


# As many as a start takes, and more.
STEPS = 60


@agent
async def quick(ctx: Context, name: str) -> str:
    """Return the name."""
    return name


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Orchestrator, Address]]:
    async with (
        open_orchestrator(agents=[quick]) as orchestrator,
        open_server(orchestrator) as url,
    ):
        with trio.fail_after(60):
            yield orchestrator, ("127.0.0.1", int(url.rpartition(":")[2]))


def start_of(name: str, *headers: str, path: str = "/runs") -> bytes:
    body = json.dumps({"agent": "quick", "input": {"name": name}}).encode()
    return request("POST", path, body, *headers).replace(b"Host: test", b"Host: localhost")


async def runs_by_name(orchestrator: Orchestrator) -> dict[str, list[str]]:
    """Return the ids of all runs that are stored, by the name that they were started with."""
    found: dict[str, list[str]] = {}
    after = None
    while True:
        page = await orchestrator.runs(RunFilter(), after=after, limit=500)
        for record in page.runs:
            found.setdefault(record.input["name"], []).append(record.id)
        if (after := page.next) is None:
            return found


async def settled(orchestrator: Orchestrator) -> None:
    """Wait until the server has dealt with all that came, and every run has ended."""
    await trio.testing.wait_all_tasks_blocked(cushion=0.01)
    for run in list(orchestrator.registry):
        await run.wait()
    await trio.testing.wait_all_tasks_blocked(cushion=0.01)


async def ask(address: Address, sent: bytes) -> Any:
    async with connect(address) as wire:
        answer = await wire.ask(sent)
    assert answer is not None
    assert answer.status == 201, answer
    return json.loads(answer.body)


@pytest.mark.parametrize("ending", ENDINGS)
async def test_at_every_byte_that_is_sent(ending: str) -> None:
    whole = len(start_of("000"))
    async with serving() as (orchestrator, address):
        for size in range(whole + 1):
            async with connect(address) as wire:
                await wire.send(start_of(f"{size:03}")[:size])
                ENDINGS[ending](wire)
        await settled(orchestrator)
        found = await runs_by_name(orchestrator)
        # Without its last byte a request starts nothing; a whole one at most one run.
        assert set(found) <= {f"{whole:03}"}
        assert all(len(ids) == 1 for ids in found.values())
        assert (await ask(address, start_of("end")))["input"] == {"name": "end"}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
async def test_with_a_key_whoever_asks_again_gets_the_one_run(ending: str) -> None:
    whole = len(start_of("000", "Idempotency-Key: key-000"))
    async with serving() as (orchestrator, address):
        for size in range(whole + 1):
            sent = start_of(f"{size:03}", f"Idempotency-Key: key-{size:03}")
            async with connect(address) as wire:
                await wire.send(sent[:size])
                ENDINGS[ending](wire)
            # At once, while the first may still be under way.
            run = await again(address, sent)
            assert run["input"] == {"name": f"{size:03}"}
        await settled(orchestrator)
        found = await runs_by_name(orchestrator)
        assert set(found) == {f"{size:03}" for size in range(whole + 1)}
        assert all(len(ids) == 1 for ids in found.values())


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("keyed", [False, True], ids=["no key", "key"])
async def test_at_every_step_that_the_server_takes(keyed: bool, ending: str) -> None:
    begun = 0
    async with serving() as (orchestrator, address):
        for steps in range(STEPS):
            headers = [f"Idempotency-Key: key-{steps}"] if keyed else []
            sent = start_of(f"{steps:03}", *headers)
            async with connect(address) as wire:
                await wire.send(sent)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                ENDINGS[ending](wire)
            await settled(orchestrator)
            before = (await runs_by_name(orchestrator)).get(f"{steps:03}", [])
            assert len(before) <= 1
            begun += len(before)
            if keyed:
                run = await again(address, sent)
                assert before in ([], [run["id"]])
        await settled(orchestrator)
        found = await runs_by_name(orchestrator)
        assert all(len(ids) == 1 for ids in found.values())
        if keyed:
            assert len(found) == STEPS
    assert begun, "some starts were not lost with their callers"


async def again(address: Address, sent: bytes) -> Any:
    """Ask until the first start of that key is no longer under way."""
    while True:
        async with connect(address) as wire:
            answer = await wire.ask(sent)
        assert answer is not None
        if answer.status != 409:
            assert answer.status == 201, answer
            return json.loads(answer.body)
        assert b"key-in-use" in answer.body
        await trio.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("path", ["/runs", "/runs?wait_s=30"], ids=["start", "wait"])
async def test_at_every_byte_of_the_answer(path: str, ending: str) -> None:
    async with serving() as (orchestrator, address):
        async with connect(address) as wire:
            answer = await wire.ask(start_of("000", path=path))
            assert answer is not None
        length = len(answer.head) + 4 + len(answer.body)
        sizes = [*range(0, length, 13), length]
        for size in sizes:
            async with connect(address) as wire:
                await wire.send(start_of(f"{size + 1:03}", path=path))
                left = size
                while left and (data := await wire.some(left)):
                    left -= len(data)
                ENDINGS[ending](wire)
        await settled(orchestrator)
        found = await runs_by_name(orchestrator)
        assert all(len(ids) == 1 for ids in found.values())
        # Who has heard the first byte of an answer has a run; before that there may be none.
        heard = {f"{size + 1:03}" for size in sizes if size}
        assert heard <= set(found) <= heard | {"000", "001"}
        for ids in found.values():
            record = await orchestrator.get(ids[0])
            assert (record.status, record.owner) == ("succeeded", "anonymous")


async def test_during_the_wait_the_run_goes_on() -> None:
    async with serving() as (orchestrator, address):
        orchestrator.agents.add(slow)
        for name in ("close", "reset"):
            body = json.dumps({"agent": "slow", "input": {"name": name}}).encode()
            sent = request("POST", "/runs?wait_s=60", body).replace(b"test", b"localhost")
            async with connect(address) as wire:
                await wire.send(sent)
                while not any(run.record.input["name"] == name for run in orchestrator.registry):
                    await trio.sleep(0.005)
                ENDINGS[name](wire)
        await trio.testing.wait_all_tasks_blocked(cushion=0.05)
        live = list(orchestrator.registry)
        assert [run.record.status for run in live] == ["running", "running"]
        for run in live:
            await run.stop()


@agent
async def slow(ctx: Context, name: str) -> None:
    """Wait."""
    await trio.sleep_forever()


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_stop_whose_caller_hangs_up_is_whole_or_not_at_all(ending: str) -> None:
    body = json.dumps({"reason": "enough", "mode": "now"}).encode()
    async with serving() as (orchestrator, address):
        orchestrator.agents.add(slow)
        run = await orchestrator.start("slow", {"name": "x"})
        sent = request("POST", f"/runs/{run.id}/stop", body).replace(b"test", b"localhost")
        for size in range(len(sent)):
            async with connect(address) as wire:
                await wire.send(sent[:size])
                ENDINGS[ending](wire)
        await trio.testing.wait_all_tasks_blocked(cushion=0.05)
        assert run.record.status == "running"
        async with connect(address) as wire:
            await wire.send(sent)
            assert (await wire.some(1)) == b"H"
            ENDINGS[ending](wire)
        await run.ended.wait()
        receipt = (await orchestrator.get(run.id)).stop
        assert receipt is not None
        assert receipt.reason == "enough"
        assert receipt.also == ()

"""A client hangs up at every point of a start: no run is lost, doubled, or begun by half of it.

A connection is closed at every step that the server takes, and with a key after every byte that it
sends. What counts is the store: which runs there are afterwards. Other calls are cut in the tests
of half requests and half answers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from api import audience
from orchestrator import StopSource
from tests.api.hanging_up import ENDINGS, call, runs_by_name, serving, settled, start_of
from tests.api.wire import connect

if TYPE_CHECKING:
    from api.server import Address

# As many as a start takes, and more.
STEPS = 60


@pytest.fixture(autouse=True)
def contract() -> None:
    """Take the place of the one that holds each answer against the document: there are many."""


async def ask(address: Address, sent: bytes) -> Any:
    async with connect(address) as wire:
        answer = await wire.ask(sent)
    assert answer is not None
    assert answer.status == 201, answer
    return json.loads(answer.body)


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


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("keyed", [False, True], ids=["no key", "key"])
async def test_at_every_step_a_run_stops_with_the_caller_that_it_is_for(
    keyed: bool, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "RECONNECT_S", 0.05)
    order: dict[str, Any] = {"agent": "slow", "options": {"on_disconnect": "stop"}}
    async with serving() as (orchestrator, address):
        for steps in range(STEPS):
            headers = [f"Idempotency-Key: key-{steps}"] if keyed else []
            given = order | {"input": {"name": f"{steps:03}"}}
            async with connect(address) as wire:
                await wire.send(call("POST", "/runs?wait_s=60", given, *headers))
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                ENDINGS[ending](wire)
        await settled(orchestrator)
        found = await runs_by_name(orchestrator)
        assert found, "some starts were not lost with their callers"
        for (run_id,) in found.values():
            receipt = (await orchestrator.get(run_id)).stop
            assert receipt is not None
            assert receipt.source is StopSource.DISCONNECT


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


async def test_during_the_wait_the_run_goes_on() -> None:
    async with serving() as (orchestrator, address):
        for name in ("close", "reset"):
            sent = start_of(name, path="/runs?wait_s=60", agent="slow")
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

"""Half an answer is enough: whoever has heard one byte of it has the run, or the stop, for good.

Clients hang up after each byte of what they are answered: in order after every other one, and with
a reset after those between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from api import audience
from orchestrator import Context, StopOutcome, StopSource, agent
from tests.api.hanging_up import (
    ENDINGS,
    call,
    hang_up,
    in_crowds,
    is_whole,
    runs_by_name,
    serving,
    settled,
    start_of,
)

if TYPE_CHECKING:
    from api.server import Address

EVERYTHING = 1 << 20
# By as much an answer may be longer than another one: an end, a time with more digits.
SLACK = 64
# What is heard of a stream: its head, its first events, and the beginning of a long one.
STREAMED = 800


@pytest.fixture(autouse=True)
def contract() -> None:
    """Take the place of the one that holds each answer against the document: there are many."""


async def sizes_of(address: Address, sent: bytes, ending: str) -> range:
    """Return the sizes at which to end so, up to the whole of the answer to that."""
    heard = await hang_up(address, sent, EVERYTHING, ending)
    assert heard.startswith(b"HTTP/1.1 20")
    return range(1 + list(ENDINGS).index(ending), len(heard) + SLACK, 2)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("path", ["/runs", "/runs?wait_s=30"], ids=["start", "wait"])
async def test_at_every_byte_of_the_answer_to_a_start(path: str, ending: str) -> None:
    def start(name: str) -> bytes:
        headers = [f"Idempotency-Key: {name}"] if "wait" in path else []
        return start_of(name, *headers, path=path)

    async with serving() as (orchestrator, address):
        sizes = await sizes_of(address, start("whole"), ending)

        async def hear(size: int) -> None:
            heard = await hang_up(address, start(f"{size:05}"), size, ending)
            assert len(heard) == size or is_whole(heard)

        await in_crowds(sizes, hear)
        await settled(orchestrator)
        found = await runs_by_name(orchestrator)
        assert set(found) == {"whole", *(f"{size:05}" for size in sizes)}
        for ids in found.values():
            (run_id,) = ids
            record = await orchestrator.get(run_id)
            assert (record.status, record.owner) == ("succeeded", "anonymous")


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("half", [0, 1])
async def test_at_every_byte_of_the_answer_to_a_stop(half: int, ending: str) -> None:
    async with serving() as (orchestrator, address):

        async def stop_of(name: str) -> bytes:
            run = await orchestrator.start("slow", {"name": name})
            order = {"mode": "now", "reason": name, "wait_s": 30}
            return call("POST", f"/runs/{run.id}/stop", order)

        sizes = (await sizes_of(address, await stop_of("whole"), ending))[half::2]

        async def hear(size: int) -> None:
            heard = await hang_up(address, await stop_of(f"{size:05}"), size, ending)
            assert len(heard) == size or is_whole(heard)

        await in_crowds(sizes, hear)
        await settled(orchestrator)
        found = await runs_by_name(orchestrator)
        assert len(found) == 1 + len(sizes)
        for name, (run_id,) in found.items():
            receipt = (await orchestrator.get(run_id)).stop
            assert receipt is not None
            assert (receipt.outcome, receipt.reason) == (StopOutcome.STOPPED, name)
            assert receipt.also == ()


@agent
async def wordy(ctx: Context, name: str) -> None:
    """Say more than is heard, and wait."""
    await ctx.emit("test.words", {"words": "x" * STREAMED})
    await trio.sleep_forever()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
async def test_at_every_byte_of_a_stream_the_run_stops_that_is_for_its_reader(
    ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "RECONNECT_S", 0.05)
    sizes = range(1 + list(ENDINGS).index(ending), STREAMED, 2)
    async with serving() as (orchestrator, address):
        orchestrator.agents.add(wordy)

        async def read(size: int) -> None:
            options = {"on_disconnect": "stop"}
            run = await orchestrator.start("wordy", {"name": f"{size:05}"}, options=options)
            sent = call("GET", f"/runs/{run.id}/events")
            assert len(await hang_up(address, sent, size, ending)) == size

        await in_crowds(sizes, read)
        await settled(orchestrator)
        found = await runs_by_name(orchestrator)
        assert len(found) == len(sizes)
        for (run_id,) in found.values():
            receipt = (await orchestrator.get(run_id)).stop
            assert receipt is not None
            assert receipt.source is StopSource.DISCONNECT

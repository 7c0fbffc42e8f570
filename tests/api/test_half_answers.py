"""Half an answer is enough: whoever has heard one byte of it has what it tells of, for good.

Clients hang up after some bytes of what they are answered, in order and with a reset by turns. What
they leave behind is what somebody leaves behind who has heard all of it; who has heard nothing may
have left nothing.

The answers to a start and to a stop are cut at every byte of their heads and the first bytes of
their bodies, and then at every eighth. All others are written by the same few lines, the head at
once and the body at once: of them it is the bytes at which one of these begins or ends, and between
them each ``STEP``-th, in each call from another one on. With ``QUIESCE_EVERY_BYTE=1`` it is every
byte, and every tenth thousandth of an answer that is longer.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from api import audience
from api.auth.rights import CALLS, CALLS_OF_DIALECTS
from api.dialects import DIALECTS
from orchestrator import Context, Orchestrator, StopSource, agent
from orchestrator.testing.leaks import no_leaks_in
from tests.api import hanging_up
from tests.api.hanging_up import (
    ENDINGS,
    EVERY_BYTE,
    hang_up,
    in_crowds,
    is_whole,
    runs_by_name,
    serving,
    wanting,
)
from tests.api.whole_calls import (
    AGENTS,
    CHANGING,
    MANY,
    READING,
    deeds,
    left_behind,
    name_of,
    prepared,
)
from tests.api.wire import UPGRADE, connect, settled

if TYPE_CHECKING:
    from api.server import Address

CLOSELY = ("POST /runs?wait_s=9 with a key", "POST /runs/<run_id>/stop")
# Bytes of a body that are looked at closely, and the step beyond them.
BEGINNING, BEYOND = 200, 8
STEP = {True: 24, False: 48}
# Of an answer that is long, and of one of which it should be every byte.
MOST = 50
MOST_EVER = 10_000
# By as much an answer may be longer than another one: an end, a time with more digits.
SLACK = 4
# What is heard of a stream: its head, its first events, and the beginning of a long one.
STREAMED = 800
# Of the one stream that does not end, all that it says at first ends with this.
PLACE = b"event: reset"
NOT_BY_HTTP = {name for name in CALLS | CALLS_OF_DIALECTS if name.startswith("WS ")}


@pytest.fixture(autouse=True)
def contract() -> None:
    """Take the place of the one that holds each answer against the document: there are many."""


@pytest.fixture(autouse=True)
def lockstep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server sees that a client takes no more."""
    hanging_up.install_lockstep(monkeypatch)


def test_the_answer_to_every_call_is_cut() -> None:
    cut = {name_of(call) for call in CHANGING | READING}
    assert cut == (CALLS | CALLS_OF_DIALECTS).keys() - NOT_BY_HTTP


async def hear(address: Address, sent: bytes) -> bytes:
    """Return the whole answer to a request."""
    heard = b""
    async with connect(address) as wire:
        await wire.send(sent)
        while not (is_whole(heard) or PLACE in heard):
            data = await wire.some()
            assert data, heard
            heard += data
    return heard


def sizes_of(call: str, heard: bytes) -> list[int]:
    """Return after how many bytes of such an answer to hang up."""
    whole = len(heard) + (SLACK if is_whole(heard) else 0)
    if EVERY_BYTE:
        return list(range(0, whole, 1 + whole // MOST_EVER))
    head = heard.index(b"\r\n\r\n") + 4
    if call in CLOSELY:
        close = range(head + BEGINNING)
        return [*close, *range(close.stop, whole, BEYOND)]
    edges = {0, 1, head - 1, head, head + 1, *range(len(heard) - 1, whole)}
    step = max(STEP[call in CHANGING], whole // MOST)
    first = list(CHANGING | READING).index(call) % step
    return sorted({*edges, *range(first, whole, step)})


class Cutting:
    """One call after the other, each about something of its own, and each cut somewhere."""

    def __init__(self, orchestrator: Orchestrator, address: Address, call: str) -> None:
        self.orchestrator = orchestrator
        self.address = address
        self.call = call
        self.whole = (CHANGING | READING)[call]

    @property
    def is_seen(self) -> bool:
        """Whether the call changes what it is about."""
        refused, lifted = self.whole.status >= 400, self.call == "DELETE /halt"
        return self.call in CHANGING and not (refused or lifted or self.whole.again)

    async def sent(self, name: str) -> bytes:
        """Make what a call is about, and return the request."""
        if self.whole.alone:
            await self.orchestrator.durable(self.orchestrator.request_lift())
        sent = await prepared(self.orchestrator, self.call, name)
        if self.whole.again:
            await hear(self.address, sent)
        return sent

    async def cut(self, sizes: list[int], number: int) -> None:
        size, sent = sizes[number], await self.sent(f"n{number:05}")
        ending = list(ENDINGS)[number % 2]
        heard = await hang_up(self.address, wanting(sent, size), size, ending)
        assert len(heard) == size or is_whole(heard)
        if self.whole.alone:
            await settled()
            is_done = (self.orchestrator.halted is None) == (self.call == "DELETE /halt")
            assert is_done or size == 0


@pytest.mark.slow
@pytest.mark.parametrize("call", CHANGING | READING)
async def test_what_is_left_behind_does_not_depend_on_how_much_was_heard(
    call: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(AGENTS, list(DIALECTS)) as (orchestrator, address):
        cutting = Cutting(orchestrator, address, call)
        sent = await cutting.sent("n99999")
        await settled()
        untouched = (await left_behind(orchestrator)).get("n99999")
        heard = await hear(address, sent)
        assert heard.startswith(f"HTTP/1.1 {cutting.whole.status}".encode())
        await settled()
        done = await deeds(orchestrator)
        sizes = sizes_of(call, heard)
        if cutting.whole.alone:
            monkeypatch.setattr(hanging_up, "CROWD", 1)
        with no_leaks_in():
            await in_crowds(range(len(sizes)), partial(cutting.cut, sizes))
            await settled()
        left = await left_behind(orchestrator)
        whole = left.get("n99999")
        assert all(left.get(f"n{number:05}") == whole for number in range(1, len(sizes)))
        assert left.get("n00000") in (whole, untouched)
        assert (whole != untouched) == cutting.is_seen
        for deed, times in (await deeds(orchestrator)).items():
            # Whoever has heard nothing may have done nothing.
            assert 0 <= times - done[deed] * len(sizes) <= done[deed]
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


@agent
async def wordy(ctx: Context, name: str) -> None:
    """Say more than is heard, and wait."""
    await ctx.emit("test.words", {"words": "x" * STREAMED})
    await trio.sleep_forever()


@pytest.mark.slow
async def test_a_run_stops_that_is_for_the_reader_of_its_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audience, "RECONNECT_S", 0.05)
    async with serving([wordy]) as (orchestrator, address):

        async def read(size: int) -> bytes:
            options = {"on_disconnect": "stop"}
            run = await orchestrator.start("wordy", {"name": f"{size:05}"}, options=options)
            sent = hanging_up.call("GET", f"/runs/{run.id}/events")
            heard = await hang_up(address, wanting(sent, size), size, list(ENDINGS)[size % 2])
            assert len(heard) == size
            return heard

        head = (await read(STREAMED)).index(b"\r\n\r\n") + 4
        close = range(1, head + BEGINNING)
        sizes = [*close, *range(close.stop, STREAMED, BEYOND)]
        await in_crowds(sizes, read)
        await hanging_up.settled(orchestrator)
        found = await runs_by_name(orchestrator)
        assert len(found) == len(sizes) + 1
        for (run_id,) in found.values():
            receipt = (await orchestrator.get(run_id)).stop
            assert receipt is not None
            assert receipt.source is StopSource.DISCONNECT


async def stop_by_frame(address: Address, run_id: str, size: int, ending: str) -> bytes:
    """Open a WebSocket, ask for a stop over it, and hang up after so many bytes."""
    order = json.dumps({"stop": run_id, "mode": "now"}).encode()
    heard, asked = b"", False
    async with connect(address) as wire:
        await wire.send(wanting(UPGRADE.replace(b"Host: test", b"Host: localhost"), size))
        while len(heard) < size and b"receipt" not in heard:
            heard += await wire.some(size - len(heard))
            if not asked and b"\r\n\r\n" in heard:
                asked = True
                await wire.send(b"\x81" + bytes([0x80 | len(order)]) + bytes(4) + order)
        ENDINGS[ending](wire)
    return heard


@pytest.mark.slow
async def test_a_stop_over_a_websocket_is_whole_or_not_asked_for() -> None:
    async with serving(AGENTS) as (orchestrator, address):

        async def stop(name: str, size: int, ending: str) -> bytes:
            run = await orchestrator.start("slow", {"name": name}, owner="anonymous")
            return await stop_by_frame(address, run.id, size, ending)

        heard = await stop("n99999", MANY, "close")
        head = heard.index(b"\r\n\r\n") + 4
        sizes = sorted({0, 1, *range(head - 2, head + 10), *range(0, len(heard), STEP[True])})

        async def cut(number: int) -> None:
            await stop(f"n{number:05}", sizes[number], list(ENDINGS)[number % 2])

        with no_leaks_in():
            await in_crowds(range(len(sizes)), cut)
            await settled()
        left = await left_behind(orchestrator)
        for number, size in enumerate(sizes):
            ((_, status, *_),) = left[f"n{number:05}"]
            if size < head:
                assert status == "running"
            # A ping of the server may come before its reply.
            if size > head + 8:
                assert left[f"n{number:05}"] == left["n99999"]

"""The control pipe: what is sent arrives, and who sends for ever is found out."""

from __future__ import annotations

import pytest
import trio.testing

from orchestrator.worker import wire


async def test_messages_arrive_however_the_pipe_cuts_them() -> None:
    ours, its = trio.testing.lockstep_stream_pair()
    sent = [{"n": n, "text": "x" * n} for n in (0, 1, 70_000, 200_000, 3)]
    async with trio.open_nursery() as nursery:
        channel = wire.Channel(its)
        nursery.start_soon(channel.write)
        for each in sent:
            channel.send(each)
        received = wire.Channel(ours).messages()
        assert [await anext(received) for _ in sent] == sent
        await received.aclose()
        nursery.cancel_scope.cancel()


async def test_a_message_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LONGEST", 200_000)
    ours, its = trio.testing.memory_stream_pair()
    received = wire.Channel(ours).messages()
    await its.send_all(b"x" * 200_000)
    with trio.move_on_after(0) as patience:
        await anext(received)
    assert patience.cancelled_caught
    await received.aclose()

    received = wire.Channel(ours).messages()
    await its.send_all(b"x" * 200_001)
    with pytest.raises(ValueError, match="more than 200000 bytes"):
        await anext(received)

"""Ignition's WebSocket, which tells of an execution, and lives through a long silence."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from api import stream
from api.service import open_server
from orchestrator import Orchestrator, open_orchestrator
from orchestrator.agents.playbook import playbook
from tests.api.peer import Peer, talking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from orchestrator import Run

BOOK = """\
name: test
steps:
  - {id: first, type: wait, parameters: {seconds: 0}}
  - {id: long, type: wait, parameters: {seconds: 3600}}
"""


@asynccontextmanager
async def following(orchestrator: Orchestrator) -> AsyncIterator[tuple[Run, Peer]]:
    """Start a playbook, and listen to it once its long step is under way."""
    async with open_server(orchestrator, dialects=["ignition"]) as url:
        run = await orchestrator.start(playbook, {"playbook": BOOK})
        while run.record.progress.message != "long":
            await trio.sleep(0.01)
        async with talking(url, f"/api/ws/executions/{run.id}") as peer:
            yield run, peer


async def next_of(peer: Peer, kind: str) -> dict[str, Any]:
    while (message := await peer.receive())["type"] != kind:
        pass
    return message


async def test_E4_both_sides_keep_the_connection_alive_through_a_long_silence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many keep-alives as a silence of a minute has, with a clock that runs faster."""
    assert stream.KEEP_ALIVE_S == 15
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.1)
    async with open_orchestrator() as orchestrator:
        with trio.fail_after(20):
            async with following(orchestrator) as (run, peer):
                for _ in range(5):
                    await next_of(peer, "keepalive")
                    await peer.send(type="ping")
                    await next_of(peer, "pong")
                run.request_stop()
                assert (await next_of(peer, "execution"))["execution_id"] == run.id

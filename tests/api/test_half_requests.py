"""Half a request does nothing: every call that changes something is cut at every byte of it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from api.auth.rights import CALLS, CALLS_OF_DIALECTS
from api.dialects import DIALECTS
from tests.api.hanging_up import ENDINGS, hang_up, serving
from tests.api.whole_calls import AGENTS, CHANGING, deeds, left_behind, name_of, prepared
from tests.api.wire import connect, settled

if TYPE_CHECKING:
    from orchestrator import Orchestrator

NAME = "n00000"


@pytest.fixture(autouse=True)
def contract() -> None:
    """Take the place of the one that holds each answer against the document: there are many."""


def test_every_call_that_changes_something_is_cut() -> None:
    there_are = {name for name, each in (CALLS | CALLS_OF_DIALECTS).items() if each.action}
    assert {name_of(call) for call in CHANGING} == there_are


async def all_there_is(orchestrator: Orchestrator) -> Any:
    return await left_behind(orchestrator), await deeds(orchestrator), orchestrator.halted


@pytest.mark.slow
@pytest.mark.parametrize("call", [name for name, each in CHANGING.items() if not each.again])
async def test_at_every_byte_of_a_request(call: str) -> None:
    async with serving(AGENTS, list(DIALECTS)) as (orchestrator, address):
        sent = await prepared(orchestrator, call, NAME)
        await settled()
        before = await all_there_is(orchestrator)
        async with AsyncExitStack() as wires:
            for size in range(len(sent)):
                wire = await wires.enter_async_context(connect(address))
                await wire.send(sent[:size])
                wires.callback(ENDINGS["reset" if size % 2 else "close"], wire)
            # Whatever the server would do with as much, it has done before they hang up.
            await settled()
        await settled()
        assert await all_there_is(orchestrator) == before
        heard = await hang_up(address, sent, len("HTTP/1.1 200"), "close")
        assert heard == f"HTTP/1.1 {CHANGING[call].status}".encode()
        await settled()
        assert await all_there_is(orchestrator) != before

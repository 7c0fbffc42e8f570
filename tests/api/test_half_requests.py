"""Half a request does nothing: every call that changes something is cut at every byte of it."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from api.auth.audit import COLLECTION
from api.auth.rights import CALLS
from orchestrator import Orchestrator, RunFilter
from tests.api.hanging_up import ENDINGS, call, hang_up, serving
from tests.api.wire import connect, request, settled

if TYPE_CHECKING:
    from api.server import Address
    from orchestrator import RunRecord


class Whole(NamedTuple):
    """A whole request, and what it is answered.

    Attributes:
        agent: of the run that it is about, or empty; ``slow`` and ``asker`` are live.
    """

    body: Any
    status: int
    agent: str = ""


START = {"agent": "quick", "input": {"name": "new"}}
WHOLE = {
    "POST /runs": Whole(START, 201),
    "POST /runs/stop": Whole({"filter": {"status": "running"}}, 202, "slow"),
    "PATCH /runs/<run_id>": Whole({"tags": ["new"]}, 200, "slow"),
    "DELETE /runs/<run_id>": Whole(None, 204, "quick"),
    "POST /runs/<run_id>/stop": Whole({"mode": "now", "wait_s": 9}, 200, "slow"),
    "POST /runs/<run_id>/pause": Whole({"reason": "x"}, 202, "slow"),
    "POST /runs/<run_id>/resume": Whole({}, 409, "slow"),
    "POST /runs/<run_id>/step": Whole({}, 409, "slow"),
    "POST /runs/<run_id>/answer": Whole({"question_id": "?", "answer": "yes"}, 409, "asker"),
    "POST /runs/<run_id>/rerun": Whole({}, 201, "quick"),
    "POST /halt": Whole({"mode": "now", "wait_s": 9}, 200, "slow"),
    "DELETE /halt": Whole(None, 204),
    "POST /schedules": Whole({**START, "cron": "0 0 1 1 *", "id": "new"}, 201),
    "DELETE /schedules/<schedule_id>": Whole(None, 204),
    "POST /schedules/<schedule_id>/pause": Whole(None, 200),
    "POST /schedules/<schedule_id>/resume": Whole(None, 200),
    "POST /webhooks/deliveries/<delivery_id>/retry": Whole(None, 404),
}


@pytest.fixture(autouse=True)
def contract() -> None:
    """Take the place of the one that holds each answer against the document: there are many."""


def test_every_call_that_changes_something_is_cut() -> None:
    assert set(WHOLE) == {name for name, each in CALLS.items() if each.action}


async def prepared(orchestrator: Orchestrator, name: str) -> bytes:
    """Make what a call is about, and return the call."""
    whole, run_id = WHOLE[name], ""
    orchestrator.schedules.create("quick", {"name": "x"}, cron="0 0 1 1 *", schedule_id="old")
    if whole.agent:
        given = {} if whole.agent == "asker" else {"name": "old"}
        run = await orchestrator.start(whole.agent, given)
        run_id = run.id
        if whole.agent == "quick":
            await run.wait()
    method, _, path = name.partition(" ")
    for parameter, value in (("run", run_id), ("schedule", "old"), ("delivery", "msg_0")):
        path = path.replace(f"<{parameter}_id>", value)
    return call(method, path, whole.body)


async def all_there_is(
    orchestrator: Orchestrator,
) -> tuple[tuple[RunRecord, ...], list[Any], Any, int]:
    runs = (await orchestrator.runs(RunFilter())).runs
    deeds = await orchestrator.kept(COLLECTION, limit=10)
    return runs, orchestrator.schedules.shown(), orchestrator.halted, len(deeds)


async def cut_everywhere(
    orchestrator: Orchestrator, address: Address, sent: bytes, status: int
) -> None:
    """Send a request up to each of its bytes, which does nothing, and then the whole of it."""
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
    assert heard == f"HTTP/1.1 {status}".encode()
    await settled()
    assert await all_there_is(orchestrator) != before


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
async def test_at_every_byte_of_a_request(name: str) -> None:
    async with serving() as (orchestrator, address):
        sent = await prepared(orchestrator, name)
        await cut_everywhere(orchestrator, address, sent, WHOLE[name].status)


async def test_at_every_byte_of_a_form() -> None:
    order = json.dumps(START).encode()
    head = b'--x\r\nContent-Disposition: form-data; name="'
    file = head + b'f"; filename="a.txt"\r\n\r\nhello\r\n--x--\r\n'
    form = head + b'order"\r\n\r\n' + order + b"\r\n" + file
    sent = request("POST", "/runs", form, "Content-Type: multipart/form-data; boundary=x")
    async with serving() as (orchestrator, address):
        await cut_everywhere(orchestrator, address, sent.replace(b"test", b"localhost", 1), 201)
        (run,) = (await orchestrator.runs(RunFilter())).runs
        assert await orchestrator.artifact(run.id, "a.txt") == b"hello"

"""Agents of other frameworks, each with its real library, and a model on a real socket.

The runs of a framework share an orchestrator, since to import a framework takes seconds.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Agent, Event, Orchestrator, Run, RunStatus, StopMode
from tests.orchestrator.llm_server import ModelServer, hang, open_model_server, say
from tests.orchestrator.worker.running import BOUND_S, messages, stopped

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.orchestrator.llm_server import Answer

pytestmark = pytest.mark.slow

# Five runs, and an import of seconds.
LONG_S = 3 * BOUND_S

FOR_A_BOOK = [("look_up", {"title": "Solaris"})]
FOR_A_SLOW_ONE = [("look_up", {"title": "slow"})]


@asynccontextmanager
async def asking(
    orchestrator: Orchestrator, ask: Agent, *script: Answer, **given: Any
) -> AsyncIterator[tuple[ModelServer, Run]]:
    """Start a run with a model of its own."""
    async with open_model_server() as server:
        server.will(*script)
        options = given.pop("options", {})
        yield server, await orchestrator.start(ask, {"url": server.url, **given}, options=options)


async def feed(orchestrator: Orchestrator, run: Run) -> list[Event]:
    return list(await orchestrator.store.events(run.id, after=0, limit=1000))


async def until(orchestrator: Orchestrator, run: Run, type: str, times: int = 1) -> None:
    """Wait until the run has told so many events of a type."""
    async for event in await orchestrator.events(run.id):
        times -= event.type == type
        if times == 0:
            return
    raise AssertionError(f"it has ended: {run.record}")


def operations(events: list[Event]) -> list[str]:
    """Return how operations began and ended, in order, without those that tools made."""
    told = [e for e in events if e.type.startswith("operation.") and e.data["kind"] != "shelf"]
    return [f"{e.type.removeprefix('operation.')} {e.data['kind']}" for e in told]


async def everything_is_told(orchestrator: Orchestrator, ask: Agent) -> None:
    script = say("Let me ", "look", calls=FOR_A_BOOK), say("On ", "shelf 7.")
    async with asking(orchestrator, ask, *script) as (server, run):
        record = await run.wait()
        assert (record.status, record.result) == (RunStatus.SUCCEEDED, "On shelf 7.")
        assert (record.usage.requests, record.usage.output_tokens) == (2, 10)
        assert record.usage.input_tokens == 20
        events = await feed(orchestrator, run)
        one_by_one = ["started llm", "finished llm", "started tool", "finished tool"]
        assert operations(events) == [*one_by_one, "started llm", "finished llm"]
        deltas = [e.data for e in events if e.type == "llm.delta"]
        assert "".join(d["text"] for d in deltas) == "Let me lookOn shelf 7."
        assert len({d["operation"] for d in deltas}) == 2
        told = {e.type: e.data for e in events if e.type.startswith("tool.")}
        assert "Solaris" in told["tool.called"]["given"]
        assert told["tool.returned"] == {"tool": "look_up", "gave": "shelf 7"}
        partial = await orchestrator.partial(run.id)
        assert partial == {"answers": ["Let me look", "On shelf 7."]}
        assert len(server.asked) == 2


async def a_graceful_stop_lets_the_call_finish(orchestrator: Orchestrator, ask: Agent) -> None:
    """The model asks for a tool, which is not called any more; nor is the model."""
    go_on = trio.Event()
    script = say("Let me ", go_on, "look", calls=FOR_A_BOOK), say("never")
    async with asking(orchestrator, ask, *script) as (server, run):
        await until(orchestrator, run, "llm.delta")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stopped, run)
            await until(orchestrator, run, "run.stopping")
            assert len(server.open) == 1
            go_on.set()
        receipt = run.record.stop
        assert receipt is not None
        assert (receipt.reached, receipt.error) == (StopMode.GRACEFUL, None)
        assert (receipt.operations.finished, receipt.operations.cut) == (1, 0)
        assert operations(await feed(orchestrator, run))[:2] == ["started llm", "finished llm"]
        assert await orchestrator.partial(run.id) == {"answers": ["Let me look"]}
        assert run.record.usage.output_tokens == 5
        assert [asked.finished is None for asked in server.asked] == [False]
        assert (server.open, await messages(orchestrator, run)) == ([], [])


async def a_stop_now_closes_the_connection(orchestrator: Orchestrator, ask: Agent) -> None:
    script = say("Let me ", trio.Event()), say("never")
    async with asking(orchestrator, ask, *script) as (server, run):
        await until(orchestrator, run, "llm.delta")
        receipt = await stopped(run, mode="now")
        await server.until(lambda: not server.open)
        assert (receipt.reached, receipt.error) == (StopMode.NOW, None)
        assert (receipt.operations.finished, receipt.operations.cut) == (0, 1)
        events = await feed(orchestrator, run)
        assert operations(events) == ["started llm", "cut llm"]
        assert [e.data["effect"] for e in events if e.type == "operation.cut"] == [
            "connection closed"
        ]
        assert await orchestrator.partial(run.id) == {"answers": ["Let me "]}
        assert (run.record.usage.requests, run.record.usage.output_tokens) == (1, 0)
        assert [asked.finished for asked in server.asked] == [None]


async def a_tool_is_over_before_it_is_called_so(orchestrator: Orchestrator, ask: Agent) -> None:
    """A tool that cleans up when its grace is over: its operation ends after that, not before."""
    script = say(calls=FOR_A_SLOW_ONE), say("never")
    async with asking(orchestrator, ask, *script) as (server, run):
        await until(orchestrator, run, "run.log")
        receipt = await stopped(run, grace_s=0.1)
        assert (receipt.reached, receipt.error) == (StopMode.NOW, None)
        events = await feed(orchestrator, run)
        logged = [e.data["message"] for e in events if e.type == "run.log"]
        assert logged == ["looks for slow", "the tool has cleaned up"]
        ended = [e.type for e in events if e.type in ("run.log", "operation.cut")]
        assert ended == ["run.log", "run.log", "operation.cut"]
        assert len(server.asked) == 1


async def its_own_cancellation_ends_it_all(
    orchestrator: Orchestrator, ask: Agent, folder: Path
) -> None:
    """An agent that gives up on the framework, and goes on itself: first while the model is
    asked, then while a tool is at work."""
    script = hang(), say(calls=FOR_A_SLOW_ONE), hang()
    first, second = folder / "1", folder / "2"
    given: dict[str, Any] = {"give_up": [str(first), str(second)]}
    async with asking(orchestrator, ask, *script, **given) as (server, run):
        await server.until_asked(1)
        first.touch()
        await server.until(lambda: server.connections[0].closed is not None)
        await until(orchestrator, run, "run.log", 2)
        second.touch()
        await server.until_asked(3)
        # It asks by itself; what it says comes through its pipe.
        await until(orchestrator, run, "run.log", 4)
        said = await messages(orchestrator, run)
        assert said == ["gave up", "looks for slow", "the tool has cleaned up", "gave up"]
        started = ["started llm", "cut llm", "started llm", "finished llm", "started tool"]
        assert operations(await feed(orchestrator, run))[:6] == [*started, "cut tool"]
        await stopped(run, mode="now")


async def test_a_framework_is_told_of_and_stopped(
    orchestrator: Orchestrator, ask: Agent, tmp_path: Path
) -> None:
    with trio.fail_after(LONG_S):
        await everything_is_told(orchestrator, ask)
        await a_graceful_stop_lets_the_call_finish(orchestrator, ask)
        await a_stop_now_closes_the_connection(orchestrator, ask)
        await a_tool_is_over_before_it_is_called_so(orchestrator, ask)
        await its_own_cancellation_ends_it_all(orchestrator, ask, tmp_path)

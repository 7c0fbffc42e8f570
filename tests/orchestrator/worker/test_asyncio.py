"""Agents that are written for asyncio: what they are given, and how a stop gets through to them.

They run in real processes; several runs share an orchestrator, since those are slow to start.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio

from orchestrator import Agent, Orchestrator, RunStatus, StopMode, StopOutcome
from tests.orchestrator.worker import blocking, on_asyncio
from tests.orchestrator.worker.running import BOUND_S, begun, messages, stopped, types

pytestmark = pytest.mark.slow


async def test_it_has_everything_that_a_context_has(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        orchestrator.agents.add(blocking.double)
        run = await orchestrator.start(on_asyncio.everything, deadline_s=100)
        record = await run.wait()
        assert record.error is None
        assert 0 < record.result.pop("left") < 100
        assert record.result == {
            "current": True,
            "run_id": run.id,
            "data": [[1], ["k"]],
            "step": [{"n": 1, "current": True, "thread": True}, True],
            "call": [6, 8],
            "child": 8,
            "stop": False,
        }
        assert (record.options.isolation, record.progress.message) == ("process", "half")
        assert await orchestrator.partial(run.id) == {"so": "far"}
        assert await orchestrator.artifact(run.id, "a.txt") == b"1"
        own = await types(orchestrator, run)
        assert own.count("operation.started") == own.count("operation.finished") == 6
        assert {"run.progress", "sum.made", "step.finished"} <= set(own)
        assert len(await orchestrator.tree(run.id)) == 4


async def test_its_failures_are_those_of_any_agent(orchestrator: Orchestrator) -> None:
    expected = {
        "raises": ("LookupError", "nothing there"),
        "cancels itself": ("CancelledError", "I stop"),
        "has a sub-agent that fails": ("AgentFailed", "ValueError: less than nothing"),
        "has a group that fails": ("AgentFailed", "ValueError: less than nothing"),
        "fails in a step": ("LookupError", "not in a step"),
        "says too much": ("InvalidInput", "percent: 101 is not within 0 and 100"),
    }
    with trio.fail_after(BOUND_S):
        runs = {how: await orchestrator.start(on_asyncio.failing, {"how": how}) for how in expected}
        for how, (kind, words) in expected.items():
            record = await runs[how].wait()
            assert record.error is not None, how
            assert (record.status, record.error.type) == (RunStatus.FAILED, kind)
            assert words in record.error.message
            if how == "raises":
                assert "on_asyncio.py" in record.error.traceback


async def test_its_own_cancellations_are_its_own(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(on_asyncio.limited)
        record = await run.wait()
        assert record.result == ["sleep", "operation", "sub-agent", "step", "question"]
        assert (await types(orchestrator, run)).count("operation.cut") == 1
        assert await orchestrator.store.steps(run.id) == []
        statuses = {each.agent: each.status for each in await orchestrator.tree(run.id)}
        assert statuses == {"limited": RunStatus.SUCCEEDED, "waiting_child": RunStatus.STOPPED}


async def test_what_it_leaves_behind_is_ended(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(on_asyncio.trailing)
        assert (await run.wait()).result == "returned, True"
        assert "operation.cut" in await types(orchestrator, run)
        said = set(await messages(orchestrator, run))
        assert said == {"the task is cancelled", "the generator is closed"}


async def test_a_stop_unwinds_it_wherever_it_waits(orchestrator: Orchestrator) -> None:
    """Its clean-up is not cancelled, however long it takes, and its compensation runs."""

    async def stop(how: str) -> None:
        run = await begun(orchestrator, on_asyncio.waiting, {"how": how}, cleanup_s=20)
        receipt = await stopped(run, reason=how)
        assert receipt.reached is StopMode.GRACEFUL, how
        assert (receipt.error, receipt.cleanup_errors) == (None, ()), how
        assert await messages(orchestrator, run) == [
            "ready",
            "cleaning up",
            "cleaned up",
            "undid it in the main thread: True",
        ]
        assert blocking.CLEANING_S < (receipt.seconds or 0) < 15, how

    with trio.fail_after(BOUND_S):
        async with trio.open_nursery() as nursery:
            for how in on_asyncio.WAYS:
                nursery.start_soon(stop, how)


async def test_one_that_swallows_the_stop_is_told_again_and_then_killed(
    orchestrator: Orchestrator,
) -> None:
    with trio.fail_after(BOUND_S):
        thrice = await begun(orchestrator, on_asyncio.swallowing, {"times": 3}, cleanup_s=20)
        ever = await begun(orchestrator, on_asyncio.swallowing, {"times": -1}, cleanup_s=2)

        receipt = await stopped(ever)
        assert (receipt.reached, receipt.processes_killed) == (StopMode.KILL, 1)
        assert (await messages(orchestrator, ever)).count("swallowed") >= 3

        receipt = await thrice.stop()
        assert (thrice.status, thrice.record.result) == (RunStatus.SUCCEEDED, "done")
        assert (receipt.outcome, receipt.processes_killed) == (StopOutcome.FINISHED_FIRST, 0)
        assert (await messages(orchestrator, thrice)).count("swallowed") == 3


Case = tuple[Agent, dict[str, Any], dict[str, Any], dict[str, Any]]

SECTIONS: dict[str, Case] = {
    "an operation finishes within the grace": (
        on_asyncio.operating,
        {"seconds": 0.2},
        {"grace_s": 30},
        {"finished": 1, "said": ["operation done"]},
    ),
    "and is cut when that is over": (
        on_asyncio.operating,
        {"seconds": 600},
        {"grace_s": 0.5},
        {"cut": 1, "reached": StopMode.NOW},
    ),
    "or at once": (
        on_asyncio.operating,
        {"seconds": 600},
        {"mode": "now"},
        {"cut": 1, "reached": StopMode.NOW},
    ),
    "also one in another task": (
        on_asyncio.in_a_group,
        {"seconds": 0.2},
        {"grace_s": 30},
        {"finished": 1},
    ),
    "a critical section holds the stop back": (
        on_asyncio.committing,
        {"seconds": 0.2, "max_seconds": 30},
        {"mode": "now"},
        {"finished": 3, "said": ["stored 1"], "critical": True},
    ),
    "but not for longer than it said": (
        on_asyncio.committing,
        {"seconds": 600, "max_seconds": 1},
        {"mode": "now"},
        {"reached": StopMode.NOW, "critical": True, "said": ["was cut"], "error": "OperationCut"},
    ),
    "a step whose operation finishes is done": (
        on_asyncio.stepping,
        {},
        {"grace_s": 30},
        {"finished": 1, "steps": ["fetch"]},
    ),
    "nothing starts in a clean-up": (
        on_asyncio.refused,
        {},
        {"mode": "now"},
        {"refused": 1, "said": ["was refused"]},
    ),
}


async def test_what_is_in_flight_is_treated_with_care(orchestrator: Orchestrator) -> None:
    async def stop(name: str, case: Case) -> None:
        what, given, asked, expected = case
        run = await begun(orchestrator, what, given, cleanup_s=20)
        receipt = await stopped(run, **asked)
        counted = receipt.operations
        assert {
            "finished": counted.finished,
            "cut": counted.cut,
            "refused": counted.refused,
            "reached": receipt.reached,
            "said": (await messages(orchestrator, run))[1:],
            "critical": receipt.critical_s > 0,
            "error": receipt.error and receipt.error.type,
            "steps": [step.name for step in await orchestrator.store.steps(run.id)],
        } == DEFAULTS | expected, name
        assert receipt.processes_killed == 0, name

    with trio.fail_after(BOUND_S):
        async with trio.open_nursery() as nursery:
            for name, case in SECTIONS.items():
                nursery.start_soon(stop, name, case)


DEFAULTS: dict[str, Any] = {
    "finished": 0,
    "cut": 0,
    "refused": 0,
    "reached": StopMode.GRACEFUL,
    "said": [],
    "critical": False,
    "error": None,
    "steps": [],
}

"""Plain functions as agents: what they are given, and how a stop gets through to them.

They run in real processes; several runs share an orchestrator, since those are slow to start.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import (
    Agent,
    AsyncioContext,
    Context,
    InvalidInput,
    Orchestrator,
    Run,
    RunStatus,
    StopMode,
    StopOutcome,
    SyncContext,
    agent,
    open_orchestrator,
)
from tests.orchestrator.worker import blocking
from tests.orchestrator.worker.running import BOUND_S, begun, messages, stopped, types

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

# What a context has that is for Trio alone.
FOR_TRIO = {"http", "cleanup", "stopping"}


async def test_it_has_everything_that_a_context_has(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        orchestrator.agents.add(blocking.double)
        run = await orchestrator.start(blocking.everything, deadline_s=100)
        record = await run.wait()
        assert record.error is None
        assert 0 < record.result.pop("left") < 100
        assert record.result == {
            "current": True,
            "run_id": run.id,
            "data": [[1], ["k"], 2, True],
            "step": {"n": 1, "current": True, "thread": True},
            "call": 6,
            "child": 8,
            "map": [2, 4],
            "stop": False,
        }
        assert (record.options.isolation, record.progress.message) == ("process", "half")
        assert await orchestrator.partial(run.id) == {"so": "far"}
        assert await orchestrator.artifact(run.id, "a.txt") == b"12"
        own = await types(orchestrator, run)
        assert own.count("operation.started") == own.count("operation.finished") == 9
        assert {"run.progress", "sum.made", "step.finished"} <= set(own)
        assert len(await orchestrator.tree(run.id)) == 5


@pytest.mark.parametrize("face", [SyncContext, AsyncioContext])
def test_its_context_has_the_same_names_and_parameters(face: type) -> None:
    public = {name for name in dir(Context) if not name.startswith("_")}
    assert {name for name in dir(face) if not name.startswith("_")} == public - FOR_TRIO
    for name in public - FOR_TRIO - {"llm"}:
        theirs, ours = getattr(Context, name), getattr(face, name)
        if callable(theirs):
            expected, found = inspect.signature(theirs), inspect.signature(ours)
            assert found.parameters == expected.parameters, name


async def test_its_failures_are_those_of_any_agent(orchestrator: Orchestrator) -> None:
    expected = {
        "raises": ("LookupError", "nothing there"),
        "exits": ("SystemExit", "3"),
        "stops itself": ("StopRequested", "I stop"),
        "gives a coroutine": ("TypeError", "a plain function returned a coroutine"),
        "has a sub-agent that fails": ("AgentFailed", "ValueError: less than nothing"),
        "is refused": ("OperationsAreLeaves", "sub-agent double"),
        "says too much": ("InvalidInput", "percent: 101 is not within 0 and 100"),
    }
    with trio.fail_after(BOUND_S):
        runs = {how: await orchestrator.start(blocking.failing, {"how": how}) for how in expected}
        for how, (kind, words) in expected.items():
            record = await runs[how].wait()
            assert record.error is not None, how
            assert (record.status, record.error.type) == (RunStatus.FAILED, kind)
            assert words in record.error.message
            if how == "raises":
                assert "blocking.py" in record.error.traceback


async def test_a_stop_unwinds_it_wherever_it_waits(orchestrator: Orchestrator) -> None:
    """Its clean-up is not interrupted, however long it takes, and its compensation runs."""

    async def stop(how: str) -> None:
        run = await begun(orchestrator, blocking.waiting, {"how": how}, cleanup_s=20)
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
            for how in blocking.WAYS:
                nursery.start_soon(stop, how)


async def test_one_that_swallows_the_stop_is_told_again_and_then_killed(
    orchestrator: Orchestrator,
) -> None:
    with trio.fail_after(BOUND_S):
        thrice = await begun(orchestrator, blocking.swallowing, {"times": 3}, cleanup_s=20)
        ever = await begun(orchestrator, blocking.swallowing, {"times": -1}, cleanup_s=2)

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
        blocking.operating,
        {"seconds": 0.2},
        {"grace_s": 30},
        {"finished": 1, "said": ["operation done"]},
    ),
    "and is cut when that is over": (
        blocking.operating,
        {"seconds": 600},
        {"grace_s": 0.5},
        {"cut": 1, "reached": StopMode.NOW},
    ),
    "or at once": (
        blocking.operating,
        {"seconds": 600},
        {"mode": "now"},
        {"cut": 1, "reached": StopMode.NOW},
    ),
    "also one in another thread": (
        blocking.threading_,
        {"seconds": 0.2},
        {"grace_s": 30},
        {"finished": 1},
    ),
    "a critical section holds the stop back": (
        blocking.committing,
        {"seconds": 0.2, "max_seconds": 30},
        {"mode": "now"},
        {"finished": 3, "said": ["stored 1"], "critical": True},
    ),
    "but not for longer than it said": (
        blocking.committing,
        {"seconds": 600, "max_seconds": 1},
        {"mode": "now"},
        {"reached": StopMode.NOW, "critical": True, "said": ["was cut"], "error": "OperationCut"},
    ),
    "a step whose operation finishes is done": (
        blocking.stepping,
        {},
        {"grace_s": 30},
        {"finished": 1, "steps": ["fetch"]},
    ),
    "nothing starts in a clean-up": (
        blocking.refused,
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


async def test_a_kill_leaves_it_a_moment_only(orchestrator: Orchestrator) -> None:
    said: list[str] = []
    with trio.fail_after(BOUND_S):
        # On a machine that is busy the moment may be over before a clean-up has begun.
        while "cleaning up" not in said:
            run = await begun(orchestrator, blocking.waiting, {"how": "sleeps"}, cleanup_s=100)
            receipt = await stopped(run, mode="kill")
            assert (receipt.reached, receipt.processes_killed) == (StopMode.KILL, 1)
            assert receipt.cleanup_errors == (
                "1 compensation was not done: the process was killed",
            )
            said = await messages(orchestrator, run)
            assert said in (["ready"], ["ready", "cleaning up"])


async def test_it_can_be_paused_and_can_ask(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run: Run = await orchestrator.start(blocking.counting, {"to": 3}, debug=True)
        while "operation.started" not in await types(orchestrator, run):
            if run.record.status is RunStatus.PAUSED:
                run.request_step()
            await trio.sleep(0.01)
        run.request_resume()
        while run.record.waiting_for is None:
            await trio.sleep(0.01)
        run.answer(run.record.waiting_for.id, 7)
        assert (await run.wait()).result == 7
        assert (await types(orchestrator, run)).count("operation.finished") == 3


async def test_threads_and_forks_of_its_own(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(blocking.trailing)
        forked = await orchestrator.start(blocking.forking)
        assert (await run.wait()).result == "returned"
        own = await types(orchestrator, run)
        assert own.index("operation.finished") > own.index("operation.started")
        assert "Traceback" not in "".join(await messages(orchestrator, run))
        assert (await forked.wait()).result == [True, True]


async def test_plain_threads_find_the_context(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        record = await (await orchestrator.start(blocking.delegating)).wait()
        assert (record.error, record.result) == (None, [True, True])


def _yields(ctx: SyncContext) -> Any:
    yield 1


async def _async(ctx: Context) -> None:
    """Nothing."""


def _plain(ctx: SyncContext) -> None:
    """Nothing."""


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: agent(_yields), TypeError, "is no function that returns a result"),
        (lambda: agent(Agent), TypeError, "is no function that returns a result"),
        (lambda: agent(runtime="sync")(_async), TypeError, "is async; runtime='sync' is for"),
        (lambda: agent(runtime="asyncio")(_plain), TypeError, "needs `async def`"),
        (
            lambda: agent(runtime="twisted")(_async),  # type: ignore[call-overload]
            TypeError,
            "runtime must be one of trio, asyncio, sync, not 'twisted'",
        ),
        (
            lambda: agent(isolation="task")(_plain),
            InvalidInput,
            "options.isolation: must be 'process', since agent '_plain' is a plain function",
        ),
        (
            lambda: agent(runtime="asyncio", isolation="task")(_async),
            InvalidInput,
            "options.isolation: must be 'process', since agent '_async' is written for asyncio",
        ),
    ],
)
def test_what_is_no_agent_is_refused(
    make: Callable[[], object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        make()


async def test_it_cannot_be_started_as_a_task(orchestrator: Orchestrator) -> None:
    with pytest.raises(
        InvalidInput,
        match=r"options\.isolation: must be 'process', since agent 'operating' is a plain",
    ):
        await orchestrator.start(blocking.operating, {"seconds": 1}, isolation="task")
    assert not list(orchestrator.registry)


async def test_one_that_no_process_can_import_is_refused(orchestrator: Orchestrator) -> None:
    @agent
    def local(ctx: SyncContext) -> None:
        """Nothing."""

    with trio.fail_after(BOUND_S):
        record = await (await orchestrator.start(local)).wait()
        assert record.error is not None
        assert record.error.message.endswith("move it to the top level of a module")


async def test_runs_that_have_all_processes_get_one_more_for_a_sub_agent() -> None:
    """Otherwise each of them would wait for ever for one of the others."""
    agents = [blocking.descending, blocking.having_timed, blocking.timed]
    with trio.fail_after(BOUND_S):
        async with open_orchestrator(agents=agents, max_workers=2) as orchestrator:
            runs = [await orchestrator.start(blocking.descending, {"depth": 3}) for _ in range(2)]
            assert [(await run.wait()).result for run in runs] == [3, 3]

            timed = await orchestrator.start(blocking.having_timed)
            spans = sorted((await timed.wait()).result)
            # One of the two that there may be, and the one more; the third has to wait.
            assert spans[2][0] > min(spans[0][1], spans[1][1])


async def test_a_start_that_is_given_up_takes_no_process_from_others() -> None:
    """Whenever that is: while its own process is awaited, or those of its sub-agents."""
    agents = [blocking.having_timed, blocking.timed]
    with trio.fail_after(BOUND_S):
        async with open_orchestrator(agents=agents, max_workers=1) as orchestrator:
            for after_s in (0, 0.1, 0.2, 0.3):
                run = await orchestrator.start(blocking.having_timed)
                await trio.sleep(after_s)
                await stopped(run, mode="now")
            assert len((await (await orchestrator.start(blocking.having_timed)).wait()).result) == 3

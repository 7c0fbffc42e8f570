"""Limits of the processes of an agent's runs: what exceeds them ends, and says so in words."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio

from orchestrator import (
    Agent,
    Context,
    InvalidInput,
    Orchestrator,
    ProcessLimits,
    RunStatus,
    agent,
    open_orchestrator,
)
from tests.orchestrator.worker import limited
from tests.orchestrator.worker.running import BOUND_S, messages
from tests.orchestrator.worker.seen import exists


@pytest.mark.slow
async def test_a_run_that_exceeds_a_limit_fails_with_the_reason(
    orchestrator: Orchestrator,
) -> None:
    agents = (limited.on_trio, limited.blocking, limited.on_asyncio)
    with trio.fail_after(BOUND_S):
        runs = {
            (each, how): await orchestrator.start(each, {"how": how})
            for each in agents
            for how in ("memory", "time", "neither")
        }
        for (each, how), run in runs.items():
            record = await run.wait()
            if how == "neither":
                assert record.result == 100 << 20, each
                continue
            assert (record.status, record.stop) == (RunStatus.FAILED, None)
            assert record.error is not None
            assert (record.error.type, record.error.message) == WORDS[how], each


WORDS = {
    "memory": ("MemoryError", "ran out of memory: its limit is 256 MiB"),
    "time": (
        "WorkerDied",
        "the worker process ended: used up its processor time of 1 s, and was ended by SIGXCPU"
        " (cpu time limit exceeded)",
    ),
}


async def test_it_has_the_variables_and_the_folder_that_it_asks_for(
    orchestrator: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIETLY_PASSED_ON", "yes")
    monkeypatch.setenv("KEPT_BACK", "yes")
    monkeypatch.delenv("NOT_SET_AT_ALL", raising=False)
    with trio.fail_after(BOUND_S):
        record = await (await orchestrator.start(limited.surrounded)).wait()
        assert record.result == {
            "env": {"QUIETLY_PASSED_ON": "yes", "NOT_SET_AT_ALL": None, "KEPT_BACK": None},
            "cwd": "/usr",
        }
        folders = []
        for _ in range(2):
            folder, there = (await (await orchestrator.start(limited.alone)).wait()).result
            assert there == []
            folders.append(folder)
            while exists(Path(folder, "left")):
                await trio.sleep(0.01)
        assert len({*folders, os.getcwd()}) == 3


@pytest.mark.slow
async def test_one_that_meddles_with_its_connection_is_killed(
    orchestrator: Orchestrator,
) -> None:
    everything = ("no JSON", "[1]", '{"do": "nonsense"}', '{"do": "tell"}', '{"reply": 1}', "")
    with trio.fail_after(BOUND_S):
        runs = [await orchestrator.start(limited.meddling, {"said": said}) for said in everything]
        for run, said in zip(runs, everything, strict=True):
            record = await run.wait()
            assert (record.status, record.stop) == (RunStatus.FAILED, None), said
            assert record.error is not None
            assert record.error.type == "WorkerDied"
            verb = "wrote to" if said else "closed"
            assert f"the agent's code {verb} its file descriptor 3" in record.error.message, said
            (pid,) = await messages(orchestrator, run)
            assert not exists(f"/proc/{pid}"), said


async def test_a_folder_that_is_not_there_is_named(orchestrator: Orchestrator) -> None:
    record = await (await orchestrator.start(limited.lost)).wait()
    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert (
        record.error.message == "cwd: there is no folder '/nowhere/at/all' for the agent to work in"
    )


@pytest.mark.slow
async def test_more_runs_than_there_may_be_processes_wait_their_turn() -> None:
    with trio.fail_after(BOUND_S):
        async with open_orchestrator(max_workers=1) as orchestrator:
            runs = [await orchestrator.start(limited.slow) for _ in range(3)]
            times = sorted([(await run.wait()).result for run in runs])
            assert all(before[1] <= after[0] for before, after in pairwise(times))
            waiting = [await orchestrator.start(limited.slow) for _ in range(2)][1]
            assert (await waiting.stop(mode="now")).seconds is not None


def make(**limits: Any) -> Agent:
    """Make an agent with these limits."""

    @agent(**limits)
    async def limited(ctx: Context) -> None:
        """Nothing."""

    return limited


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"memory_mib": 10}, "memory_mib: Input should be greater than or equal to 128"),
        ({"memory_mib": "much"}, "memory_mib: Input should be a valid integer"),
        ({"cpu_s": 0}, "cpu_s: Input should be greater than or equal to 1"),
        ({"cpu_s": 1.5}, "cpu_s: Input should be a valid integer"),
        ({"env": "HOME"}, "env: must be a list"),
        ({"env": ["A=B"]}, "env.0: is not the name of a variable"),
        ({"env": [""]}, "env.0: is not the name of a variable"),
        ({"cwd": ""}, "cwd: is not the path of a folder"),
        ({"cwd": 3}, "cwd: Input should be a valid string"),
        (
            {"cpu_s": 1, "isolation": "task"},
            "options.isolation: must be 'process', since agent 'limited' has limits, which bind",
        ),
        ({"memory_gib": 1}, "options.memory_gib: is not known"),
    ],
)
def test_limits_that_do_not_fit_are_refused(limits: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make(**limits)


async def test_a_system_without_processes_says_so_when_it_opens_and_when_one_is_wanted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = "runs cannot have processes of their own here: that needs a Python built for Linux 5.4"
    monkeypatch.delattr(os, "pidfd_open")
    async with open_orchestrator() as orchestrator:
        assert [each.message.startswith(words) for each in caplog.records] == [True]
        record = await (await orchestrator.start(limited.slow)).wait()
    assert record.error is not None
    assert record.error.type == "WardenUnavailable"
    assert record.error.message.startswith(words)


async def test_limits_are_the_agents_and_not_the_starters(orchestrator: Orchestrator) -> None:
    made = make(memory_mib=200, env=["A"])
    assert made.limits == ProcessLimits(memory_mib=200, env=("A",))
    assert made.options.isolation == "process"
    assert make().options.isolation == "task"
    for options in ({"isolation": "task"}, {"memory_mib": 300}):
        with pytest.raises(InvalidInput):
            await orchestrator.start(made, options=options)

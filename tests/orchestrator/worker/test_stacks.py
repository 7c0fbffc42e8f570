"""Where the code of runs in processes of their own stands, as they say themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.orchestrator.worker import standing_agents as agents
from tests.orchestrator.worker.running import BOUND_S, begun, messages, stopped

if TYPE_CHECKING:
    from orchestrator import Agent, Orchestrator, Run, TaskStack

pytestmark = pytest.mark.slow


def innermost(stacks: list[TaskStack]) -> set[tuple[str, str]]:
    """Return the functions of the tests' own in which they stand, with their operations."""
    assert all(stack.standing.file == agents.__file__ for stack in stacks), stacks
    return {(stack.standing.function, stack.operation) for stack in stacks}


async def until_standing(run: Run, expected: set[tuple[str, str]]) -> None:
    """Wait until that is where it stands."""
    found = None
    with trio.move_on_after(10):
        while found != expected:
            found = innermost(await run.stack())
    assert found == expected


async def test_each_kind_of_code_says_where_it_stands(orchestrator: Orchestrator) -> None:
    expected: dict[Agent, set[tuple[str, str]]] = {
        agents.on_trio: {
            ("on_trio", ""),
            ("operate", "op of Trio's"),
        },
        agents.blocking: {
            ("block", "op of a function's"),
            ("block_in_a_thread", "op of a thread's"),
            ("call_in_a_thread", "data get blocking/k"),
        },
        agents.on_asyncio: {
            ("on_asyncio", ""),
            ("operate_in_a_task", "op of a task's"),
            ("waits_for_its_event", ""),
        },
        agents.blocks_asyncio: {("blocks_asyncio", ""), ("block_the_loop", "")},
    }
    with trio.fail_after(BOUND_S):
        for each, places in expected.items():
            run = await begun(orchestrator, each, {})
            await until_standing(run, places)
            stacks = await run.stack()
            assert {(stack.run_id, stack.agent) for stack in stacks} == {(run.id, each.name)}
            await stopped(run, mode="kill")
            assert await run.stack() == []


async def test_a_tree_is_shown_with_all_its_processes(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run = await begun(orchestrator, agents.parent, {})
        while len(found := {stack.agent for stack in await run.stack()}) < 2:
            await trio.sleep(0.05)
        assert found == {"parent", "blocking"}


async def test_one_that_does_not_answer_is_named(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run = await begun(orchestrator, agents.holding_the_lock, {})
        while not (place := (await run.stack())[0].standing.place).startswith("process "):
            await trio.sleep(0.05)
        assert place.endswith(" does not answer")
        await stopped(run, mode="kill")


async def test_a_slow_clean_up_is_named_by_file_and_line(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        run = await begun(orchestrator, agents.slow_to_end, {}, cleanup_s=1)
        receipt = await stopped(run)
        place = f"{agents.__file__}:{agents.SLOW_LINE}"
        assert f"still stopping: its code stands at {place}" in await messages(orchestrator, run)
        assert receipt.cleanup_errors == (
            f"its code took longer than its cleanup time, at {place}",
        )
        assert receipt.processes_killed == 1

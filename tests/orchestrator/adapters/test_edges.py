"""What adapters refuse, what they do not load, and models that are asked in threads."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest
import trio

from orchestrator import Agent, Context, ExtraMissing, InvalidInput, Orchestrator, StopMode, agent
from tests.orchestrator.adapters.conftest import FRAMEWORKS
from tests.orchestrator.adapters.test_adapters import FOR_A_BOOK, asking, operations, until
from tests.orchestrator.llm_server import Talk, fail, say
from tests.orchestrator.worker.running import BOUND_S, stopped

PACKAGES = {"openai_agents": "agents", "pydantic_ai": "pydantic_ai", "langgraph": "langgraph"}
FUNCTIONS = {"openai_agents": "run_agent", "pydantic_ai": "run_agent", "langgraph": "run_graph"}
HEAVY = {"agents", "pydantic_ai", "langgraph", "langchain_core", "mcp", "openai"}


@pytest.mark.slow
def test_nothing_of_a_framework_is_loaded_unless_it_is_used() -> None:
    script = (
        "import api.cli, orchestrator.worker.child, orchestrator.adapters, sys; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert "trio" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_that_is_missing_is_named(
    framework: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [
        n for n in sys.modules if n.split(".")[0] in (PACKAGES[framework], "langchain_core")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"orchestrator.adapters.{framework}", raising=False)
    for name in (PACKAGES[framework], "langchain_core"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ExtraMissing, match=f"quiesce\\[{framework.replace('_', '-')}\\]"):
        importlib.import_module(f"orchestrator.adapters.{framework}")


@pytest.mark.parametrize("framework", FRAMEWORKS)
async def test_an_agent_for_trio_is_told_what_to_do(
    framework: str, orchestrator_of_ours: Orchestrator
) -> None:
    module = importlib.import_module(f"orchestrator.adapters.{framework}")
    run_it = getattr(module, FUNCTIONS[framework])

    @agent
    async def ours(ctx: Context) -> None:
        await run_it(ctx, None, "Where is it?")

    record = await (await orchestrator_of_ours.start(ours)).wait()
    assert record.error is not None
    assert 'runtime="asyncio"' in record.error.message


@pytest.mark.parametrize(
    ("framework", "option"), [("openai_agents", "hooks"), ("langgraph", "stream_mode")]
)
async def test_an_option_that_is_taken_is_refused(framework: str, option: str) -> None:
    module = importlib.import_module(f"orchestrator.adapters.{framework}")
    given: dict[str, Any] = {option: "mine"}
    with pytest.raises(InvalidInput, match=f"{option}: is taken"):
        await getattr(module, FUNCTIONS[framework])(None, None, "Where is it?", **given)


@pytest.mark.slow
async def test_a_model_that_is_asked_in_a_thread_is_held_too(
    orchestrator_of_ours: Orchestrator,
) -> None:
    orchestrator = orchestrator_of_ours
    from tests.orchestrator.adapters.on_langgraph import ask_in_a_thread

    go_on = trio.Event()
    script = say("one", go_on), say("never")
    with trio.fail_after(BOUND_S):
        async with asking(orchestrator, ask_in_a_thread, *script) as (server, run):
            await server.until_asked()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stopped, run)
                await until(orchestrator, run, "run.stopping")
                go_on.set()
            found = await orchestrator.store.events(run.id, after=0, limit=1000)
            assert operations(list(found))[:2] == ["started llm", "finished llm"]
            assert (len(server.asked), server.open) == (1, [])
            receipt = run.record.stop
            assert receipt is not None
            assert (receipt.reached, receipt.processes_killed) == (StopMode.GRACEFUL, 0)


@pytest.mark.slow
@pytest.mark.parametrize(("framework", "asked"), [("langgraph", 0), ("pydantic_ai", 1)])
async def test_a_tool_that_asks_a_model_does_not_hold_up_a_stop(
    framework: str, asked: int, orchestrator_of_ours: Orchestrator
) -> None:
    """The stop waits for the tool, which is in flight, and the model is another call."""
    module = importlib.import_module(f"tests.orchestrator.adapters.on_{framework}")
    script = [*asked * [say(calls=FOR_A_BOOK)], say("never")]
    with trio.fail_after(BOUND_S):
        async with asking(orchestrator_of_ours, module.ask_in_a_tool, *script) as (server, run):
            await until(orchestrator_of_ours, run, "run.log")
            receipt = await stopped(run, grace_s=20)
            assert (receipt.reached, receipt.error) == (StopMode.GRACEFUL, None)
            assert (receipt.operations.finished, receipt.operations.cut) == (1, 0)
            assert len(server.asked) == asked


@pytest.mark.slow
async def test_what_a_node_writes_may_be_anything(orchestrator_of_ours: Orchestrator) -> None:
    from tests.orchestrator.adapters.on_langgraph import write_to_the_stream

    with trio.fail_after(BOUND_S):
        run = await orchestrator_of_ours.start(write_to_the_stream)
        record = await run.wait()
        assert record.error is None
        found = await orchestrator_of_ours.store.events(run.id, after=0, limit=1000)
        written = [each.data["value"] for each in found if each.type == "graph.custom"]
        assert written == [{"shelf": 7}, "nan"]


@pytest.mark.slow
async def test_a_client_that_tries_again_of_itself_does_not_after_a_stop(
    orchestrator: Orchestrator, ask: Agent
) -> None:
    """It is the same call to the framework, and in flight; but the request would be a new one."""
    await _fails_after_a_stop(orchestrator, ask)


@pytest.mark.slow
async def test_nor_does_one_in_a_thread(orchestrator_of_ours: Orchestrator) -> None:
    from tests.orchestrator.adapters.on_langgraph import ask_in_a_thread

    await _fails_after_a_stop(orchestrator_of_ours, ask_in_a_thread)


async def _fails_after_a_stop(orchestrator: Orchestrator, ask: Agent) -> None:
    go_on = trio.Event()

    async def fail_late(talk: Talk) -> None:
        await go_on.wait()
        await fail(500)(talk)

    with trio.fail_after(BOUND_S):
        async with asking(orchestrator, ask, fail_late) as (server, run):
            await server.until_asked()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stopped, run)
                await until(orchestrator, run, "run.stopping")
                go_on.set()
            assert (len(server.asked), server.open) == (1, [])
            assert run.record.usage.requests == 1
            assert run.record.stop is not None
            assert run.record.stop.processes_killed == 0

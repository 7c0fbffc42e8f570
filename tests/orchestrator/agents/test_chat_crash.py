"""Conversations whose process is killed: what had come is there, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, Orchestrator, RunStatus, agent, open_orchestrator
from orchestrator.agents._chat.turns import UNFINISHED
from orchestrator.agents.chat import chat, read_conversation
from orchestrator.testing import Reply, ScriptedHTTP, ScriptedLLM
from tests.orchestrator.agents.chatting import results_in, said, stored, weather
from tests.race.isolated import alone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

NAMES = ["weather", "deadly"]
BASE_URL = "http://llm.test/v1"


class Folder:
    """What outlives a process: the store, and notes."""

    def __init__(self, path: str) -> None:
        self.url = f"sqlite:///{path}/runs.db"
        self._died = Path(path, "died")
        self._run = Path(path, "run")

    @property
    def died(self) -> bool:
        """Whether a process was killed."""
        return self._died.exists()

    @property
    def run(self) -> str:
        """The run that was killed."""
        return self._run.read_text()

    @run.setter
    def run(self, run_id: str) -> None:
        self._run.write_text(run_id)

    def die_once(self) -> None:
        """Kill this process, unless one was killed before."""
        if not self.died:
            self._died.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@agent
async def deadly(ctx: Context, path: str) -> str:
    """Take the process with it once the other tool's result is stored."""
    folder = Folder(path)
    while UNFINISHED in results_in(await read_conversation(ctx, folder.run))[:1]:
        await trio.sleep(0.001)
    folder.die_once()
    return "survived"


@asynccontextmanager
async def opened(path: str, how: str = "") -> AsyncIterator[Orchestrator]:
    """Open the store, with a model that asks for both tools at first, and then answers."""
    http, folder = ScriptedHTTP(), Folder(path)

    def kill(request: httpx.Request) -> Reply:
        folder.die_once()
        raise AssertionError("it is still alive")

    if how == "asking":
        # Before the model, since the first one that fits is asked.
        http.on("POST", f"{BASE_URL}/chat/completions", kill)
    llm = ScriptedLLM(http, BASE_URL)
    os.environ |= {"QUIESCE_LLM_BASE_URL": BASE_URL, "QUIESCE_LLM_MODEL": "small"}
    if not folder.died:
        llm.call_tools(("weather", {"city": "Oslo"}), ("deadly", {"path": path}))
    llm.say("fine")
    async with open_orchestrator(
        folder.url, agents=[chat, weather, deadly], transport=http
    ) as orchestrator:
        yield orchestrator


async def begin(path: str, on_crash: str, how: str) -> None:
    async with opened(path, how) as orchestrator:
        given = {"message": "hi", "tools": NAMES}
        run = orchestrator.admit(chat, given, owner="ann", options={"on_crash": on_crash})
        Folder(path).run = run.id
        await run.wait()


async def go_on(path: str) -> Any:
    """Continue in another run what a killed one had begun."""
    killed = Folder(path).run
    async with opened(path) as orchestrator:
        assert (await orchestrator.get(killed)).status is RunStatus.LOST
        before = await stored(orchestrator, killed)
        result = await said(orchestrator, "Go on", conversation=killed, tools=NAMES)
        return [before[0]["content"], results_in(before), result["reply"], result["messages"]]


async def see_it_start_again(path: str) -> Any:
    """Wait for the end of the run that was killed and has started again."""
    killed = Folder(path).run
    async with opened(path) as orchestrator:
        run = orchestrator.registry.get(killed)
        if run is not None:
            await run.wait()
        record = await orchestrator.get(killed)
        return [results_in(await stored(orchestrator, killed)), record.result]


def killed(*args: str) -> bool:
    command = [sys.executable, "-m", "tests.race.isolated", "real", __name__, "begin", *args]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], timeout=30, check=False)
    return done.returncode == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "results", "messages"),
    [("asking", [], 3), ("tools", ['{"city": "Oslo", "sky": "clear"}', UNFINISHED], 6)],
)
def test_a_conversation_whose_process_was_killed_goes_on(
    how: str, results: list[str], messages: int, tmp_path: Path
) -> None:
    assert killed(str(tmp_path), "fail", how)
    found = alone(go_on, str(tmp_path), virtual=False)
    assert found == ["hi", results, "fine", messages]


@pytest.mark.slow
def test_a_chat_that_starts_again_takes_up_the_conversation_where_it_was(tmp_path: Path) -> None:
    """The model is not asked again for what it had said, nor the tool that had finished."""
    assert killed(str(tmp_path), "restart", "tools")
    [results, result] = alone(see_it_start_again, str(tmp_path), virtual=False)
    assert results == ['{"city": "Oslo", "sky": "clear"}', "survived"]
    assert (result["reply"], result["turns"], result["messages"]) == ("fine", 2, 5)
    assert result["usage"]["requests"] == 1

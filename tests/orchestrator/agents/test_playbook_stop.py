"""Stops, pauses, restarts and reruns of playbooks, seen from the other end of the wire."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import (
    AgentStopped,
    Context,
    IllegalTransition,
    Orchestrator,
    RunStatus,
    StopMode,
    StopOutcome,
    agent,
    open_orchestrator,
)
from orchestrator.agents.playbook import playbook
from orchestrator.testing import until
from tests.orchestrator.agents.playing import book, started, steps_done
from tests.race.isolated import alone

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.orchestrator.agents.site import Site

BOUND_S = 20


def asks(name: str, url: str, more: str = "") -> str:
    return f"- {{id: {name}, type: http, parameters: {{url: '{url}'{more}}}}}\n"


async def test_a_stop_now_ends_a_step_in_its_middle(orchestrator: Orchestrator, site: Site) -> None:
    site.page("/first")
    site.page("/long", hold=trio.Event())
    site.page("/never")
    steps = "".join(asks(name, site.url(f"/{name}")) for name in ("first", "long", "never"))
    with trio.fail_after(BOUND_S):
        run = await started(orchestrator, steps)
        await site.until(lambda: site.times("/long") == 1)
        receipt = await run.stop(mode=StopMode.NOW)
        await site.until(lambda: site.open == 0)
    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.operations.cut == 1
    assert receipt.clients_closed == 1
    assert receipt.seconds is not None
    assert receipt.seconds < 2
    assert site.targets() == ["/first", "/long"]
    assert [each.cut for each in site.asked] == [False, True]
    partial = await orchestrator.partial(run.id)
    assert list(partial["steps"]) == ["first"]


async def test_a_graceful_stop_lets_a_request_finish_and_keeps_its_answer(
    orchestrator: Orchestrator, site: Site
) -> None:
    go = trio.Event()
    site.page("/long", title="here", hold=go)
    with trio.fail_after(BOUND_S):
        run = await started(orchestrator, asks("a", site.url("/long")) + asks("b", site.url("/b")))
        await site.until(lambda: site.times("/long") == 1)
        run.request_stop()
        go.set()
        receipt = await run.stop()
    assert receipt.reached is StopMode.GRACEFUL
    assert site.targets() == ["/long"]
    partial = await orchestrator.partial(run.id)
    assert "here" in partial["steps"]["a"]["text"]
    assert await steps_done(orchestrator, run) == [("a", False)]


async def test_a_wait_of_a_minute_ends_at_once(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    run = await started(orchestrator, "- {id: a, type: wait, parameters: {seconds: 60}}")
    await trio.sleep(20)
    receipt = await run.stop()
    assert receipt.seconds == 0
    assert run.status == RunStatus.STOPPED


@agent
async def catches_everything(ctx: Context) -> str:
    """Swallow whatever comes, and go on as if nothing had happened."""
    for _ in range(5):
        try:
            await ctx.sleep(60)
        except BaseException:
            continue
    return "went on"


CATCHES = """\
- id: again
  type: retry
  on_error: continue
  parameters:
    attempts: 1000
    delay_s: 0
    steps:
      - id: each
        type: foreach
        on_error: continue
        parameters:
          items: [1, 2, 3]
          limit: 3
          steps:
            - {id: call, type: agent, on_error: continue, parameters: {agent: catches_everything}}
            - {id: after, type: http, on_error: continue, parameters: {url: "http://127.0.0.1:1"}}
- {id: next, type: wait, parameters: {seconds: 60}}
"""


@pytest.mark.parametrize("mode", ["graceful", "now"])
async def test_steps_that_catch_everything_do_not_keep_the_run_alive(
    orchestrator: Orchestrator, autojump_clock: MockClock, mode: str
) -> None:
    orchestrator.agents.add(catches_everything)
    run = await started(orchestrator, CATCHES)
    await trio.sleep(30)
    receipt = await run.stop(mode=mode)
    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.seconds is not None
    assert receipt.seconds < 1
    assert receipt.operations.finished == receipt.operations.cut == 0
    events = [e async for e in await orchestrator.events(run.id, follow=False)]
    stopped = next(n for n, event in enumerate(events) if event.type == "run.stopping")
    assert not [e for e in events[stopped:] if e.type in ("operation.started", "run.started")]


async def test_a_sub_agent_that_somebody_stopped_is_not_started_again(
    orchestrator: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def sleeper(ctx: Context) -> None:
        await ctx.sleep(60)

    orchestrator.agents.add(sleeper)
    steps = """\
        - id: a
          type: retry
          parameters:
            attempts: 5
            steps: [{id: b, type: agent, parameters: {agent: sleeper}}]
        """
    run = await started(orchestrator, steps)
    await trio.sleep(1)
    [child] = run.children
    await child.stop(reason="not this one")
    record = await run.wait()
    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert f"step a.1.b (line 7): {AgentStopped.__name__}" in record.error.message
    assert len(await orchestrator.tree(run.id)) == 2


async def test_one_debug_step_is_one_step_of_the_playbook(
    orchestrator: Orchestrator, site: Site
) -> None:
    names = ["a", "b", "c"]
    for name in names:
        site.page(f"/{name}")
    steps = "".join(asks(name, site.url(f"/{name}")) for name in names)
    with trio.fail_after(BOUND_S):
        run = await started(orchestrator, steps, debug=True)
        await until(run, RunStatus.PAUSED)
        for n in range(3):
            assert len(site.targets()) == n
            await orchestrator.durable(run.request_step())
            await until(run, RunStatus.PAUSED)
        assert site.targets() == ["/a", "/b", "/c"]
        run.request_stop()
        with pytest.raises(IllegalTransition):
            run.request_resume()
        await run.wait()
    assert run.status == RunStatus.STOPPED


async def test_a_pause_holds_the_next_step_and_a_resume_lets_it_go(
    orchestrator: Orchestrator, site: Site
) -> None:
    go = trio.Event()
    site.page("/a", hold=go)
    site.page("/b")
    with trio.fail_after(BOUND_S):
        run = await started(orchestrator, asks("a", site.url("/a")) + asks("b", site.url("/b")))
        await site.until(lambda: site.times("/a") == 1)
        run.request_pause()
        go.set()
        await until(run, RunStatus.PAUSED)
        assert site.targets() == ["/a"]
        run.request_resume()
        await run.wait()
    assert site.targets() == ["/a", "/b"]


async def test_a_rerun_from_a_step_does_not_repeat_what_was_done(
    orchestrator: Orchestrator, site: Site
) -> None:
    """What failed is tried again, what had been dealt with is not."""
    site.page("/a")
    steps = (
        asks("a", site.url("/a"))
        + asks("b", site.url("/missing")).replace("}}\n", "}, on_error: continue}\n")
        + asks("c", site.url("/later"))
    )
    with trio.fail_after(BOUND_S):
        run = await started(orchestrator, steps)
        assert (await run.wait()).status is RunStatus.FAILED
        site.page("/later")
        again = await orchestrator.rerun(run.id, from_step="last")
        record = await again.wait()
    assert record.status is RunStatus.SUCCEEDED
    assert site.targets() == ["/a", "/missing", "/later", "/later"]
    assert record.result["steps"]["b"]["error"]["type"] == "Unexpected"
    assert await steps_done(orchestrator, again) == [("a", True), ("b", True), ("c", False)]


# A process that dies in the middle of a step


class Folder:
    def __init__(self, path: str) -> None:
        self.url = f"sqlite:///{path}/runs.db"
        self.calls = Path(path, "calls")
        self.run = Path(path, "run")

    def note(self, call: str) -> None:
        with self.calls.open("a") as file:
            file.write(f"{call}\n")

    @property
    def noted(self) -> list[str]:
        return self.calls.read_text().split()


@agent
async def note(ctx: Context, path: str, call: str) -> str:
    Folder(path).note(call)
    return call


@agent
async def deadly(ctx: Context, path: str) -> str:
    """Take the process with it, the first time."""
    folder = Folder(path)
    folder.note("deadly")
    if folder.noted.count("deadly") == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


RESTART = {"on_crash": "restart"}
AGENTS = [playbook, note, deadly]


async def begin(path: str) -> None:
    def call(name: str, agent: str = "note") -> str:
        given = f"path: '{path}'" + (f", call: {name}" if agent == "note" else "")
        return f"{{id: {name}, type: agent, parameters: {{agent: {agent}, input: {{{given}}}}}}}"

    steps = f"""\
        - {call("a")}
        - id: b
          type: retry
          parameters:
            attempts: 3
            steps:
              - {call("c")}
              - id: d
                type: if
                parameters: {{condition: "{{{{ steps.c == 'c' }}}}", then: [{call("e", "deadly")}]}}
        - {call("f")}
        """
    folder = Folder(path)
    async with open_orchestrator(folder.url, agents=AGENTS) as orchestrator:
        run = orchestrator.admit(playbook, {"playbook": book(steps)}, options=RESTART)
        folder.run.write_text(run.id)
        await run.wait()


async def go_on(path: str) -> Any:
    folder = Folder(path)
    async with open_orchestrator(folder.url, agents=AGENTS) as orchestrator:
        run = orchestrator.registry.get(folder.run.read_text())
        assert run is not None
        record = await run.wait()
        return [record.status.value, record.attempt, record.result["steps"]]


@pytest.mark.slow
def test_a_playbook_that_starts_again_does_not_repeat_finished_steps(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.race.isolated", "real", __name__, "begin"]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=Path(__file__).parents[3], timeout=30, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert Folder(str(tmp_path)).noted == ["a", "c", "deadly"]
    status, attempt, outputs = alone(go_on, str(tmp_path), virtual=False)
    assert (status, attempt) == ("succeeded", 2)
    assert outputs == {"a": "a", "b": {"c": "c", "d": {"e": "survived"}}, "f": "f"}
    assert Folder(str(tmp_path)).noted == ["a", "c", "deadly", "deadly", "f"]

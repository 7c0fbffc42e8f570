"""The commands that act on runs, against a real server; and a run that asks at the keyboard."""

from __future__ import annotations

import os
import pty
import re
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from api.client import Client
from api.commands.values import read_answer
from orchestrator import RunStatus
from tests.api.processes import Process, Site, invoke, quiesce, read_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from orchestrator import Question, RunRecord

AGENTS = '''
from typing import Any, Literal
import trio
from orchestrator import Context, agent

@agent
async def visit(ctx: Context, url: str, times: int = 3) -> int:
    """Ask for pages, one after the other."""
    for n in range(times):
        await ctx.get(f"{url}/{n}")
    return times

@agent
async def deploy(ctx: Context, where: str = "Deploy where?", within_s: float | None = None) -> str:
    """Ask before it acts."""
    place = await ctx.ask(where, Literal["staging", "production"], within_s=within_s)
    await ctx.log(f"deploying to {place}")
    return f"deployed to {place}"

@agent
async def twice(ctx: Context) -> list[Any]:
    """Have two sub-agents ask."""
    return await ctx.map(deploy, [{"where": "First?"}, {"where": "Second?"}])

@agent
async def name(ctx: Context) -> str:
    """Ask for a text."""
    return await ctx.ask("What is it called?", str)

@agent
async def steps(ctx: Context, url: str) -> list[str]:
    async def fetch(name: str) -> str:
        return (await ctx.get(f"{url}/{name}")).text
    return [await ctx.step(name, fetch, name) for name in ("a", "b")]
'''


@pytest.fixture
def site() -> Iterator[Site]:
    """A website that counts."""
    opened = Site()
    yield opened
    opened.close()


class Server(NamedTuple):
    """A server process with those agents, and a client of it."""

    client: Client
    folder: Path

    def start(self, agent: str, **input: Any) -> str:
        """Start a run, and return its id."""
        return self.client.start(agent, input).id

    def until(self, run_id: str, is_so: Callable[[RunRecord], object]) -> RunRecord:
        """Return the run as soon as it is so."""
        give_up = time.monotonic() + 10
        while not is_so(record := self.client.get(run_id).record):
            assert time.monotonic() < give_up, record
            time.sleep(0.005)  # another process's run: there is no event to wait for
        return record

    def until_paused(self, run_id: str) -> None:
        self.until(run_id, lambda record: record.status is RunStatus.PAUSED)

    def until_it_asks(self, run_id: str) -> Question:
        """Return the run's question as soon as it has one."""
        question = self.until(run_id, lambda record: record.waiting_for).waiting_for
        assert question is not None
        return question


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of this module, which the commands ask unless they are told to."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "mine.py").write_text(AGENTS)
    arguments = ["serve", "--agents", "mine.py", "--port", "0", "--store", "memory://"]
    with quiesce(*arguments, cwd=folder) as process:
        url = process.until("listening on ").removeprefix("listening on ").strip()
        with Client(url) as client, pytest.MonkeyPatch.context() as patch:
            patch.setenv("QUIESCE_SERVER", url)
            yield Server(client, folder)
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def said_in_one_line(*arguments: str) -> str:
    """Return the one line in which a command says why it cannot be done."""
    code, said = invoke(*arguments)
    assert code == 2, said
    assert said.startswith("Error: ")
    assert said.count("\n") == 1
    return said


# Pause, resume, step


@pytest.mark.slow
def test_a_run_is_paused_stepped_and_resumed(server: Server, site: Site) -> None:
    run_id = server.start("visit", url=site.url)
    site.wait_for("asked", 1)
    assert invoke("pause", run_id, "--reason", "lunch") == (0, f"● pausing visit {run_id}\n")
    site.answers.release()
    server.until_paused(run_id)
    assert f"‖ paused   {run_id}" in invoke("ls")[1]
    assert f"‖ paused visit {run_id}" in invoke("show", run_id)[1]
    assert "is paused cannot pause" in said_in_one_line("pause", run_id)
    assert site.asked == ["/0"]

    assert invoke("step", run_id)[0] == 0
    site.wait_for("asked", 2)
    site.answers.release(100)
    server.until_paused(run_id)
    assert site.asked == ["/0", "/1"]

    assert invoke("resume", run_id) == (0, f"● running visit {run_id}\n")
    assert server.client.wait(run_id).record.result == 3
    assert "already ended" in said_in_one_line("resume", run_id)
    said = invoke("tail", run_id)[1]
    for line in ("pausing, asked by anonymous: lunch", "paused", "makes a step", "resumed"):
        assert re.search(rf"  visit  {line}", said), line


@pytest.mark.parametrize("command", ["pause", "resume", "step", "rerun"])
def test_an_unknown_run_is_said_in_one_line(server: Server, command: str) -> None:
    assert "no run has the id 'nope'" in said_in_one_line(command, "nope")


# Answers


def test_a_question_is_shown_and_answered(server: Server) -> None:
    run_id = server.start("deploy")
    server.until_it_asks(run_id)
    shown = invoke("show", run_id)[1]
    assert "asks: Deploy where?" in shown
    assert 'the answer is one of "staging", "production"' in shown
    assert f"`quiesce answer {run_id} ANSWER`" in shown
    assert "Deploy where?" in invoke("ls")[1]

    assert "Input should be 'staging'" in said_in_one_line("answer", run_id, "mars")
    assert "no terminal" in said_in_one_line("answer", run_id)
    code, said = invoke("answer", run_id, "staging")
    assert (code, "has its answer" in said) == (0, True)
    assert server.client.wait(run_id).record.result == "deployed to staging"
    assert "waits for no answer" in said_in_one_line("answer", run_id, "staging")
    assert "already ended" in said_in_one_line("answer", run_id, "some-id", "staging")
    assert 'answered by anonymous: "staging"' in invoke("tail", run_id)[1]


def test_the_question_of_a_sub_agent_is_found(server: Server) -> None:
    run_id = server.start("twice")
    server.until(run_id, lambda _: len(server.client.tree(run_id)) == 3)
    children = server.client.tree(run_id)[1:]
    questions = {child.id: server.until_it_asks(child.id) for child in children}
    said = said_in_one_line("answer", run_id, "staging")
    assert all(child.id in said for child in children)
    first, second = questions
    assert invoke("answer", run_id, questions[first].id, "staging")[0] == 0
    server.until(first, lambda record: record.status.is_terminal)
    assert invoke("answer", run_id, "production")[0] == 0
    server.client.wait(second)
    assert sorted(server.client.wait(run_id).record.result) == [
        "deployed to production",
        "deployed to staging",
    ]


def test_who_nobody_asked_cannot_answer(server: Server) -> None:
    run_id = server.start("deploy")
    server.until_it_asks(run_id)
    assert "does not ask question 'nope'" in said_in_one_line("answer", run_id, "nope", "1")
    server.client.stop(run_id, wait_s=5)


@pytest.mark.parametrize(
    ("typed", "schema", "answer"),
    [
        ("yes", None, "yes"),
        ("3", None, 3),
        ("3", {"type": "string"}, "3"),
        ('"3"', {"type": "string"}, "3"),
        ("null", {"type": "string"}, "null"),
        ("[1", {"type": "array"}, "[1"),
        ("NaN", {"type": "number"}, "NaN"),
    ],
)
def test_what_is_typed_is_json_or_text(typed: str, schema: Any, answer: Any) -> None:
    assert read_answer(typed, schema) == answer


def test_a_negative_number_and_strange_text_are_answers(server: Server) -> None:
    for given in ("-1", "\N{SNOWMAN}", "\udcff"):
        run_id = server.start("name")
        server.until_it_asks(run_id)
        assert invoke("answer", run_id, given)[0] == 0
        assert server.client.wait(run_id).record.result == given


# Deadlines and reruns


def test_a_deadline_is_moved(server: Server) -> None:
    run_id = server.start("deploy")
    server.until_it_asks(run_id)
    code, said = invoke("deadline", run_id, "1000")
    assert (code, bool(re.search(r"has until \d\d:\d\d:\d\d\n", said))) == (0, True)
    assert "deadline: " in invoke("show", run_id)[1]
    assert "has no deadline\n" in invoke("deadline", run_id, "none")[1]
    for wrong in ("-1", "0", "soon", "true", "NaN"):
        assert "deadline_s: Input should be" in said_in_one_line("deadline", run_id, wrong)
    invoke("deadline", run_id, "0.05")
    assert server.client.wait(run_id).record.status is RunStatus.TIMED_OUT
    assert "already ended" in said_in_one_line("deadline", run_id, "5")
    said = invoke("tail", run_id)[1]
    assert "has until " in said
    assert "has no deadline any more, asked by anonymous" in said


def test_a_run_is_repeated_from_a_step(server: Server, site: Site) -> None:
    site.answers.release(100)
    run_id = server.start("steps", url=site.url)
    server.client.wait(run_id)
    code, said = invoke("rerun", run_id, "--from-step", "b")
    match = re.search(r"run_[0-9a-f]{20}", said)
    assert code == 0
    assert match is not None
    assert server.client.wait(match[0]).record.result == ["ok", "ok"]
    assert site.asked == ["/a", "/b", "/b"]
    assert f"rerun of: {run_id}" in invoke("show", match[0])[1]
    tailed = invoke("tail", match[0])[1]
    assert "step a was done before" in tailed
    assert re.search(r"step b done after \S+ s", tailed)
    assert "stored steps: 'a', 'b'" in said_in_one_line("rerun", run_id, "--from-step", "c")


# At the keyboard


class Keyboard:
    """A process at a terminal of its own."""

    def __init__(self, process: Process, terminal: int) -> None:
        self.process = process
        self._terminal = terminal

    def until(self, text: str) -> str:
        """Read up to the text, and return what was read without its colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read_until(self._terminal, text))

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def end(self) -> tuple[int, str]:
        """Read to the end, and return the exit code and the rest."""
        rest = self.until("")
        return self.process.popen.wait(), rest


@contextmanager
def at_a_terminal(*arguments: str, cwd: Path) -> Iterator[Keyboard]:
    ours, theirs = pty.openpty()
    with quiesce(*arguments, cwd=cwd, stdin=theirs, stdout=theirs) as process:
        os.close(theirs)
        yield Keyboard(process, ours)
    os.close(ours)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["here", "there"])
def test_a_run_asks_at_the_terminal_until_the_answer_fits(server: Server, where: str) -> None:
    source = ["--agents", "mine.py"] if where == "here" else ["--server", server.client.url]
    with at_a_terminal("run", "deploy", *source, cwd=server.folder) as keyboard:
        asked = keyboard.until("answer: ")
        assert "Deploy where?" in asked
        assert 'one of "staging", "production"' in asked
        keyboard.type("mars\n")
        assert "Input should be 'staging'" in keyboard.until("answer: ")
        keyboard.type("staging\n")
        code, said = keyboard.end()
    assert code == 0
    assert "deploying to staging" in said
    assert "✓ succeeded deploy" in said
    assert 'result: "deployed to staging"' in said


@pytest.mark.slow
def test_the_questions_of_sub_agents_come_one_after_the_other(server: Server) -> None:
    with at_a_terminal("run", "twice", "--agents", "mine.py", cwd=server.folder) as keyboard:
        for place in ("staging", "production"):
            keyboard.until("answer: ")
            keyboard.type(f"{place}\n")
        code, said = keyboard.end()
    assert code == 0
    assert said.count("deployed to") == 2


@pytest.mark.slow
def test_an_interrupt_stops_a_run_that_asks(server: Server) -> None:
    with at_a_terminal("run", "deploy", "--agents", "mine.py", cwd=server.folder) as keyboard:
        keyboard.until("answer: ")
        keyboard.process.signal()
        code, said = keyboard.end()
    assert code == 130
    assert "■ stopped deploy" in said


@pytest.mark.slow
def test_a_question_whose_time_is_over_asks_no_more(server: Server) -> None:
    arguments = ["run", "deploy", "within_s=0.3", "--agents", "mine.py"]
    with at_a_terminal(*arguments, cwd=server.folder) as keyboard:
        keyboard.until("answer: ")
        code, said = keyboard.end()
    assert code == 1
    assert "NotAnswered: nobody answered within 0.3 s" in said


@pytest.mark.slow
def test_a_question_answered_elsewhere_asks_no_more(server: Server) -> None:
    arguments = ["run", "name", "--server", server.client.url]
    with at_a_terminal(*arguments, cwd=server.folder) as keyboard:
        keyboard.until("answer: ")
        ((run, *_), _) = server.client.runs(agent="name", status="running")
        assert invoke("answer", run.id, "Ada")[0] == 0
        code, said = keyboard.end()
    assert (code, 'result: "Ada"' in said) == (0, True)


@pytest.mark.slow
def test_who_gives_up_the_keyboard_is_told_how_else_to_answer(server: Server) -> None:
    arguments = ["run", "name", "--server", server.client.url]
    with at_a_terminal(*arguments, cwd=server.folder) as keyboard:
        keyboard.until("answer: ")
        keyboard.type("\x04")
        keyboard.until("answer it with `quiesce answer run_")
        ((run, *_), _) = server.client.runs(agent="name", status="running")
        assert invoke("answer", run.id, "Ada")[0] == 0
        assert keyboard.end()[0] == 0


@pytest.mark.slow
def test_without_a_terminal_a_question_says_how_it_can_be_answered(server: Server) -> None:
    with quiesce("run", "name", "--server", server.client.url, cwd=server.folder) as process:
        assert "name  asks: What is it called? (a text)" in process.until("asks")
        line = process.until("answer it with")
        match = re.search(r"`(quiesce answer run_\w+) ANSWER --server", line)
        assert match is not None
        assert invoke(*match[1].split()[1:], "Ada")[0] == 0
        assert process.end() == 0
    with quiesce("run", "name", "--agents", "mine.py", cwd=server.folder) as process:
        process.until("nobody can answer it")
        process.signal()
        assert process.end() == 130


@pytest.mark.slow
def test_the_answer_command_prompts_at_a_terminal(server: Server) -> None:
    run_id = server.start("deploy")
    server.until_it_asks(run_id)
    with at_a_terminal("answer", run_id, cwd=server.folder) as keyboard:
        assert "Deploy where?" in keyboard.until("answer: ")
        keyboard.type("production\n")
        assert keyboard.end()[0] == 0
    assert server.client.wait(run_id).record.result == "deployed to production"

"""The command: arguments and errors in this process, runs and signals in real ones."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import trio
from click.testing import CliRunner

from api.cli import main
from api.commands.loading import CannotLoad, load_agents
from api.commands.run import parse_input
from api.commands.values import Duration
from orchestrator import InvalidInput, open_orchestrator
from tests.api.processes import QUIESCE, Process, Site, invoke, quiesce, read_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator import Receipt

AGENTS = '''
"""Agents that a user might have."""
import gc
import time
import trio
from orchestrator import Context, agent

@agent
async def greet(ctx: Context, name: str, times: int = 1) -> list[str]:
    """Say hello."""
    await ctx.progress(50, "half of it")
    return [f"hello {name}"] * times

@agent
async def fail(ctx: Context) -> None:
    raise ValueError("no good")

@agent
async def visit(ctx: Context, url: str) -> None:
    """Ask for pages, one after the other."""
    for n in range(100):
        await ctx.get(f"{url}/{n}")
        await ctx.partial({"seen": n + 1})

@agent
async def stubborn(ctx: Context, url: str) -> None:
    """Never end, and go on asking."""
    await ctx.log("here we go")
    while True:
        try:
            await ctx.get(url)
            await trio.sleep(1000)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.01)

@agent(cleanup_s=0.1)
async def deaf(ctx: Context, url: str) -> None:
    """Never end."""
    await stubborn(ctx, url)

@agent
async def blocking(ctx: Context) -> None:
    """Hold Trio itself."""
    await ctx.log("here we go")
    await trio.sleep(0.2)
    while True:
        time.sleep(0.1)

IMPORTED = [object()]

@agent
async def collected(ctx: Context) -> bool:
    """Whether collections walk through what this module has made."""
    return any(each is IMPORTED for each in gc.get_objects())
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file of agents."""
    (tmp_path / "mine.py").write_text(AGENTS)
    return tmp_path


@pytest.fixture
def site() -> Iterator[Site]:
    """A website that counts."""
    opened = Site()
    yield opened
    opened.close()


# Arguments


@pytest.mark.parametrize(
    ("whole", "inputs", "parsed"),
    [
        (None, (), {}),
        (None, ("a=1", "b=x", "c=[1, 2]", 'd="1"', "e=true", "f="), None),
        ('{"a": 1, "b": {"c": 2}}', ("a=null",), {"a": None, "b": {"c": 2}}),
        (None, ("a=NaN", "b=-Infinity", "c=1e3"), {"a": "NaN", "b": "-Infinity", "c": 1000.0}),
        (None, ("url=http://x/?a=b",), {"url": "http://x/?a=b"}),
        (None, ("a=" + "[" * 100_000,), {"a": "[" * 100_000}),
    ],
)
def test_values_are_json_if_they_parse(
    whole: str | None, inputs: tuple[str, ...], parsed: dict[str, Any] | None
) -> None:
    everything = {"a": 1, "b": "x", "c": [1, 2], "d": "1", "e": True, "f": ""}
    assert parse_input(whole, inputs) == (everything if parsed is None else parsed)


@pytest.mark.parametrize(
    ("whole", "inputs"), [("[]", ()), ("nonsense", ()), (None, ("a",)), (None, ("=1",))]
)
def test_what_is_no_input(whole: str | None, inputs: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"is not (a JSON object|KEY=VALUE)"):
        parse_input(whole, inputs)


CONTROLS = ("pause", "resume", "step", "answer", "deadline", "rerun")


def test_help_names_every_command() -> None:
    code, said = invoke("--help")
    assert code == 0
    for name in ("serve", "run", "demo", "ls", "show", "tail", "stop", "agents", *CONTROLS):
        assert f"\n  {name} " in said
        assert invoke(name, "--help")[0] == 0
    assert invoke("--version")[1] == "quiesce, version 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["run", "nosuch"],
            "no agent is named 'nosuch'; registered agents: chat, command, crawl, ingest, job,"
            " playbook",
        ),
        (["run", "crawl"], "input.url: Field required"),
        (["run", "crawl", "url=http://x", "--grace-s", "-1"], "options.grace_s"),
        (["run", "crawl", "url=x", "\x1b[2J=1"], "input.\N{MIDDLE DOT}[2J: is not known"),
        (["run", "crawl", "url"], "'url' is not KEY=VALUE"),
        (["run", "crawl", "url=a", "url=b"], "'url' is given twice"),
        (["run", "crawl", "--store", "nosuch://"], "names no store"),
        (["run", "crawl", "--agents", "none.py"], "cannot load agents from none.py"),
        (["serve", "--agents", "os.path"], "has no agents"),
        (["serve", "--store", "nosuch://"], "names no store"),
        (["serve", "--store", "memory://", "--host", "0.0.0.0"], "is not loopback"),
        (["serve", "--store", "memory://", "--port", "99999"], "is not a port"),
        (["ls", "--server", "127.0.0.1:9"], "no server answers at http://127.0.0.1:9"),
        (["run", "crawl", "url=x", "--server", "127.0.0.1:9"], "no server answers"),
        (["tail", "x", "--server", "ftp://x"], "server: 'ftp://x' is not like http"),
        (["stop", "x", "--server", "127.0.0.1:73616"], "with a port from 1 to 65535"),
        (["pause", "x", "--server", "127.0.0.1:9"], "no server answers"),
        (["answer", "x", "a", "b", "c"], "put quotes around an answer of several words"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(arguments: list[str], said: str) -> None:
    code, output = invoke(*arguments)
    assert code == 2
    assert output.startswith("Error: ")
    assert said in output
    assert output.count("\n") == 1


def test_agents_and_store_are_not_for_a_run_on_a_server() -> None:
    assert invoke("run", "crawl", "--server", "x", "--agents", "y")[0] == 2


# Agents from files and modules


def test_every_agent_of_a_file_and_of_a_module_is_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "other_agents.py").write_text(
        "from neighbour import agent, Context\n"
        "from orchestrator.agents.crawl import crawl\n"
        "@agent\nasync def other(ctx: Context) -> None: ...\n"
    )
    (folder / "neighbour.py").write_text("from orchestrator import agent, Context\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = load_agents(["mine.py", "other_agents", str(folder / "mine.py")])
    assert [each.name for each in found] == [
        *("chat", "command", "crawl", "ingest", "job", "playbook"),
        *("greet", "fail", "visit", "stubborn", "deaf", "blocking", "collected", "other"),
    ]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("x = 1", "it has no agents; decorate an async function with @agent"),
        ("import nosuch", "ModuleNotFoundError: No module named 'nosuch'"),
        ("x = (", r"'\(' was never closed \(line 1\)"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(0)", "SystemExit"),
        (
            "from orchestrator import agent\n@agent\nasync def crawl(ctx): ...",
            "another agent is named 'crawl'",
        ),
        ("from orchestrator import agent\n@agent\ndef f(ctx): yield", "TypeError.*async"),
    ],
)
def test_agents_that_cannot_be_loaded(tmp_path: Path, code: str, why: str) -> None:
    (tmp_path / "bad.py").write_text(code)
    with pytest.raises(CannotLoad, match=rf"(?s)cannot load agents from .*bad.py: .*{why}"):
        load_agents([str(tmp_path / "bad.py")])


# Runs in a process of their own


@pytest.mark.slow
def test_a_run_that_succeeds(folder: Path) -> None:
    with quiesce("run", "greet", "name=Ada", "times=2", "--agents", "mine.py", cwd=folder) as run:
        assert run.end() == 0
    lines = [line.split("  ", 1)[-1] for line in run.said.splitlines()]
    assert re.fullmatch(r"greet  queued as run_[0-9a-f]{20}", lines.pop(0))
    said = ["running", "50 %  half of it", "succeeded"]
    assert lines[:3] == [f"greet  {each}" for each in said]
    assert json.loads(run.said.partition("result:")[2]) == ["hello Ada", "hello Ada"]


@pytest.mark.slow
def test_a_run_for_a_program_to_read(folder: Path) -> None:
    command = [QUIESCE, "run", "greet", "name=Ada", "--json", "--agents", "mine.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=60)
    assert done.returncode == 0
    found = json.loads(done.stdout)["run"]
    assert (found["status"], found["result"]) == ("succeeded", ["hello Ada"])
    assert b"50 %  half of it" in done.stderr


@pytest.mark.slow
def test_a_termination_is_the_first_rung_and_named_so(folder: Path, site: Site) -> None:
    with quiesce("run", "visit", f"url={site.url}", "--agents", "mine.py", cwd=folder) as run:
        site.wait_for("asked", 1)
        for _ in range(2):
            run.signal(signal.SIGTERM)
            run.until("stopping… press Ctrl-C to stop now")
        run.signal()
        run.until("visit  escalated to now by user: Ctrl-C")
        assert run.end() == 130
    assert re.search("reason +│ SIGTERM", run.said)
    assert run.said.count("asked again") == 1


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["greet", "name=Ada"], ["greet", "name=Ada", "--json"]])
def test_a_full_disk_is_said_in_one_line(folder: Path, arguments: list[str]) -> None:
    command = [QUIESCE, "run", *arguments, "--agents", "mine.py"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == b"Error: [Errno 28] No space left on device"
    assert b"Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "<&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(folder: Path, closed: str) -> None:
    command = [QUIESCE, "run", "greet", "name=Ada", "--agents", "mine.py"]
    shell = ["sh", "-c", f'exec "$@" {closed}', "sh", *command]
    done = subprocess.run(shell, cwd=folder, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (b"hello Ada" in done.stdout) == (">&-" not in closed.split())


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.1, 0.2, 0.3])
def test_an_interrupt_while_all_is_being_imported_prints_no_traceback(after_s: float) -> None:
    command = [sys.executable, "-c", "import api.cli; print('here', flush=True); api.cli.main()"]
    process = subprocess.Popen(
        [*command, "run", "nosuch"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    with suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert b"Traceback" not in said
    assert process.returncode in (130, 2)


@pytest.mark.slow
def test_a_run_that_fails(folder: Path) -> None:
    with quiesce("run", "fail", "--agents", "mine.py", cwd=folder) as run:
        assert run.end() == 1
    assert "fail  failed: ValueError: no good" in run.said
    assert 'raise ValueError("no good")' in run.said


@pytest.mark.slow
def test_a_run_whose_time_is_over(folder: Path, site: Site) -> None:
    arguments = ["visit", f"url={site.url}", "--deadline-s=0.2", "--grace-s=0"]
    with quiesce("run", *arguments, "--agents", "mine.py", cwd=folder) as run:
        assert run.end() == 1
    assert "timed out" in run.said
    assert "asked by deadline" in run.said
    site.wait_for("open", 0)


@pytest.mark.slow
def test_the_first_interrupt_lets_what_is_in_flight_finish(folder: Path, site: Site) -> None:
    with quiesce("run", "visit", f"url={site.url}", "--agents", "mine.py", cwd=folder) as run:
        site.answers.release()
        site.wait_for("asked", 2)
        run.signal()
        run.until("visit  stopping (graceful")
        site.answers.release(100)
        assert run.end() == 130
    assert site.asked == ["/0", "/1"]
    assert site.left == 0
    assert "stopping… press Ctrl-C again to stop now" in run.said
    assert "1 finished, 0 cut" in run.said
    assert '"seen": 1' in run.said
    site.wait_for("open", 0)


@pytest.mark.slow
def test_the_second_interrupt_cuts_what_is_in_flight(folder: Path, site: Site) -> None:
    with quiesce("run", "visit", f"url={site.url}", "--agents", "mine.py", cwd=folder) as run:
        site.wait_for("asked", 1)
        run.signal()
        run.until("visit  stopping (graceful")
        assert site.left == 0
        run.signal()
        assert run.end() == 130
    assert site.asked == ["/0"]
    site.wait_for("left", 1)
    site.wait_for("open", 0)
    assert "0 finished, 1 cut" in run.said


@pytest.mark.slow
def test_the_third_interrupt_ends_what_will_not_exit(folder: Path, site: Site) -> None:
    with quiesce("run", "stubborn", f"url={site.url}", "--agents", "mine.py", cwd=folder) as run:
        site.wait_for("asked", 1)
        run.signal()
        run.until("stubborn  stopping (graceful")
        run.signal()
        run.until("stubborn  escalated to now by user")
        run.signal()
        run.until("stubborn  escalated to kill by user")
        assert run.end() == 1
    assert site.asked == ["/"]
    site.wait_for("open", 0)
    assert "abandoned: its code would not exit" in run.said
    assert "still running  │ stubborn at " in run.said


@pytest.mark.slow
def test_sigterm_is_graceful_however_often(folder: Path, site: Site) -> None:
    with quiesce("run", "visit", f"url={site.url}", "--agents", "mine.py", cwd=folder) as run:
        site.wait_for("asked", 1)
        for _ in range(3):
            run.signal(signal.SIGTERM)
            run.until("stopping… press Ctrl-C")
        assert site.left == 0
        site.answers.release(100)
        assert run.end() == 130
    assert site.asked == ["/0"]
    assert "1 finished, 0 cut" in run.said


@pytest.mark.slow
def test_code_that_holds_trio_itself_ends_with_the_process(folder: Path) -> None:
    with quiesce("run", "blocking", "--agents", "mine.py", cwd=folder) as run:
        run.until("here we go")
        # While Trio sleeps the first is still heard; then nothing is, but by the last resort.
        threading.Event().wait(0.5)
        for _ in range(3):
            run.signal()
            threading.Event().wait(0.1)
        assert run.end() == 1
    assert "in blocking" in run.said


@pytest.mark.slow
def test_in_a_terminal_there_is_a_live_tree(folder: Path, site: Site) -> None:
    ours, theirs = pty.openpty()
    arguments = ["run", "visit", f"url={site.url}", "--agents", "mine.py"]
    with quiesce(*arguments, cwd=folder, stdout=theirs) as run:
        os.close(theirs)
        said = read_until(ours, "1 in flight")
        run.signal()
        said += read_until(ours, "press Ctrl-C again to stop now")
        site.answers.release(100)
        said += read_until(ours, "")
        assert run.popen.wait() == 130
    os.close(ours)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert "press Ctrl-C to stop it" in shown
    assert "running visit" in shown
    assert "■ stopped visit" in shown.rpartition("stopping…")[2]
    assert said.rfind("\x1b[?25h") > said.rfind("\x1b[?25l") > -1


@pytest.mark.slow
def test_while_it_is_suspended_the_shell_has_the_cursor(folder: Path, site: Site) -> None:
    ours, theirs = pty.openpty()
    arguments = ["run", "visit", f"url={site.url}", "--agents", "mine.py"]
    with quiesce(*arguments, cwd=folder, stdout=theirs) as run:
        os.close(theirs)
        read_until(ours, "1 in flight")
        run.signal(signal.SIGTSTP)
        said = read_until(ours, "\x1b[?25h").rpartition("\x1b[?25h")[2].encode()
        while b"\x1b[?25l" not in said:
            run.signal(signal.SIGCONT)  # before it is suspended this does nothing
            if select.select([ours], [], [], 0.01)[0]:
                said += os.read(ours, 65536)
        run.signal()
        site.answers.release(100)
        assert run.popen.wait() == 130
    os.close(ours)


@pytest.mark.slow
def test_a_terminal_that_is_closed_stops_the_run_gracefully(folder: Path, site: Site) -> None:
    ours, theirs = pty.openpty()
    arguments = ["run", "visit", f"url={site.url}", "--agents", "mine.py", "--store", "sqlite:///r"]
    with quiesce(*arguments, cwd=folder, stdout=theirs) as run:
        os.close(theirs)
        read_until(ours, "1 in flight")
        run.signal(signal.SIGSTOP)  # so that it hears of it before it draws again
        os.close(ours)
        run.signal(signal.SIGHUP)
        run.signal(signal.SIGCONT)
        site.answers.release(100)
        assert run.popen.wait() == 130
    assert (site.asked, site.left) == (["/0"], 0)
    stop = trio.run(stop_in, f"sqlite:///{folder}/r")
    assert (stop.reason, stop.reached, stop.operations.finished) == ("SIGHUP", "graceful", 1)


async def stop_in(store: str) -> Receipt:
    """Return the receipt of the only run in a store."""
    async with open_orchestrator(store) as orchestrator:
        (record,) = (await orchestrator.runs()).runs
    assert record.stop is not None
    return record.stop


@pytest.mark.slow
def test_under_nohup_the_end_of_the_terminal_does_nothing(folder: Path, site: Site) -> None:
    command = ["nohup", QUIESCE, "run", "visit", f"url={site.url}", "--agents", "mine.py"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=-1) as run:
        site.wait_for("asked", 1)
        run.send_signal(signal.SIGHUP)
        site.answers.release(100)
        said, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    assert b"SIGHUP" not in said


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["visit", "deaf"])
def test_a_reader_that_leaves_ends_the_run_and_the_process(
    folder: Path, site: Site, agent: str
) -> None:
    with quiesce("run", agent, f"url={site.url}", "--agents", "mine.py", cwd=folder) as run:
        site.wait_for("asked", 1)
        assert run.popen.stdout is not None
        run.popen.stdout.close()
        # What it says next finds nobody, and so there is nobody to run for.
        run.signal()
        assert run.popen.wait() == 1
    assert len(site.asked) == 1
    site.wait_for("open", 0)


# A server and the commands that ask it


class Server(NamedTuple):
    """A server process with the agents of the file and a store ``runs.db`` in the folder."""

    process: Process
    url: str
    folder: Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests of this module."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "mine.py").write_text(AGENTS)
    store = "sqlite:///runs.db"
    arguments = ["serve", "--agents", "mine.py", "--port", "0", "--store", store]
    with quiesce(*arguments, cwd=folder) as process:
        line = process.until("listening on ")
        yield Server(process, line.removeprefix("listening on ").strip(), folder)
        process.signal(signal.SIGTERM)
        assert process.end() == 0


@pytest.mark.slow
def test_a_run_on_a_server_from_its_start_to_its_receipt(
    server: Server, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.url
    monkeypatch.setenv("QUIESCE_SERVER", url)
    assert invoke("ls", "--agent", "nobody") == (0, "no runs\n")
    assert "greet" in invoke("agents")[1]
    names = [each["name"] for each in json.loads(invoke("agents", "--json")[1])["agents"]]
    assert names == [
        *("blocking", "chat", "collected", "command", "crawl"),
        *("deaf", "fail", "greet", "ingest", "job", "playbook", "stubborn", "visit"),
    ]

    with quiesce("run", "visit", f"url={site.url}", "--server", url, cwd=server.folder) as run:
        site.wait_for("asked", 1)
        (listed,) = json.loads(invoke("ls", "--status", "running", "--json")[1])["runs"]
        run_id = listed["id"]
        assert run_id in invoke("ls")[1]
        assert "● running visit" in invoke("show", run_id)[1]

        code, said = invoke("stop", run_id, "--no-wait", "--reason", "not yet", "--discard")
        assert code == 0
        assert "not settled yet" in said
        assert "graceful so far" in said
        site.answers.release(100)
        assert run.end() == 130
    assert site.asked == ["/0"]
    assert "reason         │ not yet" in run.said

    code, said = invoke("stop", run_id)
    assert code == 0
    assert "1 finished, 0 cut" in said
    shown = json.loads(invoke("show", run_id, "--json")[1])
    assert shown["run"]["status"] == "stopped"
    assert (shown["receipt"]["reason"], shown["receipt"]["discard"]) == ("not yet", True)
    assert shown["tree"]["id"] == run_id
    tailed = invoke("tail", run_id)[1].splitlines()
    assert [int(line.split()[0]) for line in tailed] == list(range(1, len(tailed) + 1))
    assert "visit  stopped" in tailed[-1]
    assert len(invoke("tail", run_id, "--after", "3")[1].splitlines()) == len(tailed) - 3


@pytest.mark.slow
def test_several_runs_are_stopped_side_by_side(server: Server, folder: Path, site: Site) -> None:
    url = server.url
    with (
        quiesce("run", "visit", f"url={site.url}", "--server", url, cwd=folder) as visit,
        quiesce("run", "stubborn", f"url={site.url}", "--server", url, cwd=folder) as stubborn,
        quiesce("run", "greet", "name=Ada", "--server", url, cwd=folder) as greet,
    ):
        assert greet.end() == 0
        site.wait_for("asked", 2)
        listed = json.loads(invoke("ls", "--json", "--limit", "3", "--server", url)[1])["runs"]
        ids = {each["agent"]: each["id"] for each in listed}

        over = invoke("stop", ids["greet"], "--server", url)
        assert over == (0, f"run {ids['greet']} has already ended: it is succeeded\n")
        code, said = invoke("stop", *ids.values(), "--mode", "kill", "--server", url)
        assert code == 1
        assert said.count("Receipt") == 2
        assert said.count("abandoned: ") == 1
        assert (visit.end(), stubborn.end()) == (130, 1)
    code, said = invoke("stop", "nope", ids["visit"], "--server", url)
    assert code == 2
    assert "Error: no run has the id 'nope'" in said
    assert "stopped: every task has exited" in said


@pytest.mark.slow
def test_interrupts_of_a_run_on_a_server_climb_the_ladder_there(
    server: Server, folder: Path, site: Site
) -> None:
    url = server.url
    with quiesce("run", "visit", f"url={site.url}", "--server", url, cwd=folder) as run:
        site.wait_for("asked", 1)
        run.signal()
        run.until("visit  stopping (graceful")
        run.signal()
        assert run.end() == 130
    site.wait_for("left", 1)
    assert site.asked == ["/0"]
    assert "0 finished, 1 cut" in run.said


@pytest.mark.slow
def test_a_server_that_hangs_can_be_left(folder: Path) -> None:
    run = {"id": "run_1", "root_id": "run_1", "agent": "a", "status": "queued", "created_at": "x"}
    body = json.dumps(run).encode()
    head = b"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with quiesce("run", "crawl", "--server", url, cwd=folder) as process:
            start, _ = listener.accept()
            with start:
                start.recv(65536)
                start.sendall(head + body)
            for said in ("to stop now", "to kill", "to leave"):
                process.signal()
                process.until(f"press Ctrl-C again {said}")
            process.signal()
            assert process.end() == 130


@pytest.mark.slow
def test_collections_leave_out_what_was_imported(server: Server) -> None:
    code, said = invoke("run", "collected", "--server", server.url)
    assert code == 0
    assert said.splitlines()[-1] == "result: false"


@pytest.mark.slow
def test_a_store_and_a_port_in_use_are_said_in_one_line(server: Server, folder: Path) -> None:
    port = server.url.rpartition(":")[2]
    store = "sqlite:///runs.db"
    with (
        quiesce("serve", "--port", "0", "--store", store, cwd=server.folder) as second,
        quiesce("serve", "--port", port, cwd=folder) as third,
    ):
        assert (second.end(), third.end()) == (2, 2)
    assert second.said.startswith("Error: ")
    assert "runs.db" in second.said
    assert third.said.startswith(f"Error: cannot listen on 127.0.0.1 port {port}")
    assert (second.said.count("\n"), third.said.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("30d", 2_592_000), ("0s", 0), ("for-ever", None)],
)
def test_a_time_is_typed_with_its_unit(text: str, seconds: float | None) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["30", "d", "-1d", "1w", "forever", "1 d", "99999999d", "nan"])
def test_a_time_without_a_unit_is_refused(text: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--retention", text])
    assert result.exit_code == 2
    assert "is not like 90s, 30m, 12h, 30d or for-ever" in " ".join(result.output.split())

"""What a server writes to its log, and what it never does."""

from __future__ import annotations

import io
import json
import logging
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import structlog
import trio
import trio.testing

from api.answered import Answered
from api.logs import RunLog, configure, log_answer
from api.logs.fields import MOST, clean
from api.logs.writer import Writer
from orchestrator import Context, Orchestrator, agent, open_orchestrator
from tests.api.processes import quiesce

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from trio.testing import MockClock


class Log(io.StringIO):
    """Where the log goes in a test."""

    terminal = False

    def isatty(self) -> bool:
        return self.terminal


@contextmanager
def logging_to(stream: io.StringIO, *arguments: Any) -> Iterator[logging.Handler]:
    """Configure all logging for the body, and have it as it was afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("quiesce")
    before = root.handlers[:], root.level, ours.level
    handler = configure(*arguments, stream=stream)  # type: ignore[misc]  # the format, the level
    try:
        yield handler
    finally:
        handler.close()
        structlog.reset_defaults()
        logging.captureWarnings(False)
        root.handlers[:], level, own = before
        root.setLevel(level)
        ours.setLevel(own)


@contextmanager
def lines(*arguments: Any) -> Iterator[list[dict[str, Any]]]:
    """Collect what is logged in the body, as it is parsed from JSON; filled at its end."""
    stream, found = Log(), list[dict[str, Any]]()
    with logging_to(stream, *(arguments or ("json",))):
        yield found
    found += [json.loads(line) for line in stream.getvalue().splitlines()]


# How it is written


def test_json_has_one_object_a_line_with_time_level_and_logger() -> None:
    with lines() as found:
        logging.getLogger("quiesce.test").info("it %s", "works", extra={"run_id": "run_1", "n": 3})
    (line,) = found
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "it works",
        "level": "info",
        "logger": "quiesce.test",
        "run_id": "run_1",
        "n": 3,
    }


@pytest.mark.parametrize(
    ("format", "terminal", "is_json"),
    [("auto", True, False), ("auto", False, True), ("text", False, False), ("json", True, True)],
)
def test_a_terminal_gets_text_and_a_program_json(
    format: str, terminal: bool, is_json: bool
) -> None:
    stream = Log()
    stream.terminal = terminal
    with logging_to(stream, format):
        logging.getLogger("quiesce.test").info("hello")
    assert stream.getvalue().startswith("{") is is_json
    assert ("\x1b[" in stream.getvalue()) is (terminal and not is_json)


def test_libraries_of_all_kinds_go_the_same_way() -> None:
    with lines() as found:
        logging.getLogger("some.library").warning("old")
        logging.getLogger("some.library").info("unheard")
        structlog.get_logger("another").warning("new", answer=42)
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("careful", UserWarning, stacklevel=1)
    assert [(line["logger"], line["level"]) for line in found] == [
        ("some.library", "warning"),
        ("another", "warning"),
        ("py.warnings", "warning"),
    ]
    assert found[1]["answer"] == 42
    assert "careful" in found[2]["event"]


def test_the_level_is_that_of_our_own_lines() -> None:
    with lines("json", "debug") as found:
        logging.getLogger("quiesce.test").debug("ours")
        logging.getLogger("httpcore").debug("headers, and the secrets in them")
    assert [line["event"] for line in found] == ["ours"]


async def test_what_an_agent_logs_says_which_run_it_is(autojump_clock: MockClock) -> None:
    @agent
    async def talker(ctx: Context) -> None:
        logging.getLogger("library").warning("inside")
        await trio.sleep(1)

    with lines() as found:
        async with open_orchestrator() as orchestrator:
            run = await orchestrator.start(talker)
            logging.getLogger("library").warning("outside")
            await run.wait()
    assert {line["event"]: line.get("run_id") for line in found} == {
        "inside": run.id,
        "outside": None,
    }


# What it never says

SECRETS = {
    "bearer": "Authorization: Bearer abcdefghijklmnop",
    "basic": "Basic dXNlcjpwYXNzd29yZA==",
    "our token": "it was qt_abcdefghijklmnop",
    "webhook secret": "whsec_abcdefghijklmnop",
    "model key": "sk-abcdefghijklmnop",
    "userinfo": "https://abcdefghijklmnop:x@example.org/",
    "query": "Client error '401' for url 'https://example.org/a?key=abcdefghijklmnop&b=1'",
    "assignment": "password=abcdefghijklmnop",
    "mapping": "{'api_key': 'abcdefghijklmnop'}",
}


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_no_secret_is_written(text: str, format: str) -> None:
    stream = Log()
    with logging_to(stream, format):
        log = logging.getLogger("quiesce.test")
        log.warning(text)
        log.warning("in a field", extra={"detail": text})
        log.warning("deep in a field", extra={"detail": {"headers": [text]}})
        try:
            raise ValueError(text)
        except ValueError:
            log.exception("in a traceback")
    written = stream.getvalue()
    assert written.count("***") >= 4
    assert "abcdefghijklmnop" not in written
    assert "dXNlcjpwYXNzd29yZA" not in written


@pytest.mark.parametrize("name", ["Authorization", "api_key", "webhook_secret", "set-cookie"])
def test_fields_that_are_called_a_secret_are_hidden(name: str) -> None:
    assert clean(None, "", {name: "anything", "plain": "anything"}) == {
        name: "***",
        "plain": "anything",
    }


@pytest.mark.parametrize("format", ["text", "json"])
def test_nobody_writes_lines_of_their_own(format: str) -> None:
    hostile = "x\r\n2026-01-01 [error] forged \x1b[31m\x9b31m\x00"
    stream = Log()
    with logging_to(stream, format):
        log = logging.getLogger("quiesce.test")
        log.warning("said %s", hostile, extra={"reason": hostile, "short": "\x1b[2J"})
    assert len(stream.getvalue().splitlines()) == 1
    assert not set(stream.getvalue()) & set("\x1b\x9b\x00\r")


def test_a_line_has_a_bounded_length() -> None:
    with lines() as found:
        logging.getLogger("quiesce.test").warning("x" * 10**6, extra={"reason": "y" * 10**6})
    assert len(json.dumps(found)) < 2 * MOST + 500


# Whoever reads


class Stalled(io.StringIO):
    """A reader that takes the first line, and then nothing until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()
        self.stuck = threading.Event()

    def write(self, text: str) -> int:
        self.stuck.set()
        assert self.let.wait(20)
        return super().write(text)


def test_a_reader_that_stalls_holds_up_nobody_and_is_told_what_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.logs.writer.ROOM", 5)
    stream = Stalled()
    with logging_to(stream, "json") as handler:
        log = logging.getLogger("quiesce.test")
        log.info("0")
        assert stream.stuck.wait(20)
        for n in range(1, 11):
            log.info("%d", n)  # would not return if anybody waited
        stream.let.set()
        handler.close()
        said = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in said if "lost" not in line] == ["0", "1", "2", "3", "4", "5"]
    assert [line["lost"] for line in said if "lost" in line] == [5]


def test_closing_does_not_wait_for_a_reader_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.logs.writer.CLOSE_S", 0.05)
    stream = Stalled()
    writer = Writer(stream)
    record = logging.makeLogRecord({"msg": "x"})
    writer.handle(record)
    assert stream.stuck.wait(20)
    writer.close()
    writer.close()
    stream.let.set()


def test_a_reader_that_is_gone_ends_nothing() -> None:
    tried: list[str] = []

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text.splitlines()[-1])
            raise BrokenPipeError

    writer = Writer(Gone())
    for number in range(3):
        writer.handle(logging.makeLogRecord({"msg": str(number)}))
    writer.close()
    assert tried == ["0", "1", "2"]


# What becomes of runs


@agent
async def sleeper(ctx: Context) -> None:
    await ctx.sleep(1000)


@agent
async def worker(ctx: Context) -> None:
    async with ctx.operation("work"):
        await trio.sleep(1000)


@agent
async def boss(ctx: Context) -> None:
    await ctx.map(worker, [{}, {}])


@pytest.fixture
async def logged() -> AsyncIterator[Orchestrator]:
    """An orchestrator whose runs are logged."""
    async with open_orchestrator(observers=[RunLog()]) as opened:
        yield opened


def about_stops(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    names = ("event", "run_id", "mode", "source", "requested_by", "reason", "result", "reached")
    return [tuple(line.get(name) for name in names) for line in found if "stop" in line["event"]]


async def test_each_stop_is_logged_with_its_id_source_mode_and_result(
    logged: Orchestrator, autojump_clock: MockClock
) -> None:
    with lines() as found:
        run = await logged.start(boss)
        await trio.sleep(1)
        run.request_stop(reason="enough", requested_by="ada", grace_s=60)
        await trio.sleep(1)
        await run.stop(mode="now", reason="at once")
    about = (run.id, "graceful", "user", "ada", "enough")
    assert about_stops(found) == [
        ("stop asked for", *about, None, None),
        ("stop escalated", run.id, "now", None, None, "at once", None, None),
        ("stop settled", run.id, "now", "user", "ada", "enough", "stopped", "now"),
    ]
    settled = found[-1]
    assert (settled["seconds"], settled["runs_stopped"]) == (1.0, 3)
    assert settled["level"] == "info"


async def test_a_stop_before_the_beginning_is_logged_too(
    logged: Orchestrator, autojump_clock: MockClock
) -> None:
    with lines() as found:
        run = logged.admit(sleeper, options={"start_after_s": 100})
        await run.stop()
    assert about_stops(found) == [
        ("stop settled", run.id, "graceful", "user", None, None, "stopped", "graceful")
    ]


async def test_code_that_resists_is_a_warning(
    logged: Orchestrator, autojump_clock: MockClock
) -> None:
    release = trio.Event()

    @agent
    async def stubborn(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    with lines() as found:
        run = await logged.start(stubborn)
        await trio.testing.wait_all_tasks_blocked()
        await run.stop(mode="kill")
        release.set()
    assert [(line["level"], line["result"]) for line in found if "result" in line] == [
        ("warning", "abandoned")
    ]


async def test_ends_without_a_stop_are_logged_and_sub_agents_only_at_debug(
    logged: Orchestrator, autojump_clock: MockClock
) -> None:
    @agent
    async def failing(ctx: Context) -> None:
        raise ValueError("as asked")

    @agent
    async def parent(ctx: Context) -> str:
        try:
            await ctx.call(failing)
        except Exception:
            return "never mind"
        return ""

    with lines() as found:
        first = await logged.start(parent)
        await first.wait()
        second = await logged.start(failing)
        await second.wait()
    assert [(line["event"], line["run_id"], line["level"]) for line in found] == [
        ("run began", first.id, "info"),
        ("run ended", first.id, "info"),
        ("run began", second.id, "info"),
        ("run ended", second.id, "warning"),
    ]
    assert found[-1]["error"] == "ValueError: as asked"
    with lines("json", "debug") as found:
        await (await logged.start(parent)).wait()
    assert [line["level"] for line in found] == ["info", "debug", "debug", "info"]


# Calls


def answered(method: str, status: int, run_id: str = "") -> Answered:
    return Answered(method, "/runs", status, 0.25, run_id, "ada", "127.0.0.1")


@pytest.mark.parametrize(
    ("method", "status", "level"),
    [
        ("GET", 200, "debug"),
        ("GET", 404, "debug"),
        ("GET", 401, "info"),
        ("POST", 201, "info"),
        ("DELETE", 409, "info"),
        ("GET", 500, "warning"),
    ],
)
def test_calls_that_change_something_or_fail_are_heard(
    method: str, status: int, level: str
) -> None:
    with lines("json", "debug") as found:
        log_answer(answered(method, status, "run_1"))
    (line,) = found
    assert line["level"] == level
    assert (line["method"], line["status"], line["seconds"]) == (method, status, 0.25)
    assert (line["run_id"], line["principal"], line["client"]) == ("run_1", "ada", "127.0.0.1")


# The real thing


@pytest.mark.slow
def test_a_server_logs_stops_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "tokens.toml").write_text(
        '[[token]]\ntoken = "qt_this-is-the-very-secret-token"\nprincipal = "ada"\nrole = "admin"\n'
    )
    arguments = ["serve", "--port", "0", "--store", "memory://", "--log-level", "debug"]
    with quiesce(*arguments, "--tokens", "tokens.toml", cwd=tmp_path) as server:
        url = server.until("listening on").split()[-1]
        headers = {"Authorization": "Bearer qt_this-is-the-very-secret-token"}
        with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            order = {"agent": "command", "input": {"argv": ["sleep", "100"]}}
            run = client.post("/runs", json=order).json()
            client.post(f"/runs/{run['id']}/stop", json={"reason": "enough", "wait_s": 20})
            assert client.post("/runs/run_nope/stop").status_code == 404
            client.get("/runs", headers={"Authorization": "Bearer wrong-but-secret-all-the-same"})
        server.signal()
        assert server.end() == 0
    said = [json.loads(line) for line in server.said.splitlines() if line.startswith("{")]
    settled = [line for line in said if line["event"] == "stop settled"]
    assert [(line["run_id"], line["result"]) for line in settled] == [(run["id"], "stopped")]
    calls = {
        (line["route"], line["status"], line.get("run_id")) for line in said if "route" in line
    }
    assert ("/runs/{run_id}/stop", 200, run["id"]) in calls
    assert ("/runs/{run_id}/stop", 404, "run_nope") in calls
    assert ("/runs", 401, None) in calls
    assert "very-secret" not in server.said
    assert "but-secret" not in server.said

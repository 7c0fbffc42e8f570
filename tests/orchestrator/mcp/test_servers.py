"""Servers of the Model Context Protocol: what their tools bring, and what a stop leaves of them."""

from __future__ import annotations

import gc
import json
import sys
import warnings
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypercorn.config
import hypercorn.trio
import pytest
import trio
from mcp.server.mcpserver import Context as Asked
from mcp.server.mcpserver import MCPServer

from orchestrator import (
    Agent,
    InvalidInput,
    Orchestrator,
    Run,
    RunStatus,
    StopMode,
    mcp_process,
)
from orchestrator.procfs import look_at
from tests.orchestrator.mcp import using
from tests.orchestrator.worker.running import BOUND_S, stopped, types

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CALLS = {"words": [], "tools": ["add", "wait", "add"]}
EVERYWHERE: list[tuple[Agent, dict[str, Any]]] = [
    (using.on_trio, {}),
    (using.on_trio, {"isolation": "process"}),
    (using.on_asyncio, {}),
    (using.blocking, {}),
]
NAMES = ["task", "process", "asyncio", "sync"]


async def until_there(file: Path) -> str:
    """Wait until the server has written a note, and return it."""
    there = trio.Path(file)
    while not await there.exists():
        await trio.sleep(0.01)  # another process's file
    return await there.read_text()


async def waiting(orchestrator: Orchestrator, agent: Agent, folder: Path, **options: Any) -> Run:
    """Start a run and wait until its second call has come to its server."""
    given = {"folder": str(folder), **CALLS}
    run = await orchestrator.start(agent, given, options=options)
    await until_there(folder / "waiting")
    return run


def is_gone(folder: Path) -> bool:
    """Whether the server's process is."""
    return not Path("/proc", (folder / "pid").read_text()).exists()


async def test_what_tools_bring(orchestrator: Orchestrator, tmp_path: Path) -> None:
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(using.looking, {"folder": str(tmp_path)})
        record = await run.wait()
        assert record.error is None
        content = [{"type": "text", "text": "3"}]
        added = record.result["added"]
        assert added[:2] == ["3", {"sum": 3}]
        assert [{k: v for k, v in each.items() if v is not None} for each in added[2]] == content
        assert record.result["tools"] == ["add", "fail", "wait"]
        failed, died, dead, closed = record.result["errors"]
        assert failed == "ToolFailed: the tool 'fail' has failed: nothing there"
        assert died.startswith("MCPError: ")
        assert dead.startswith(("MCPError: ", "ToolServerUnavailable: "))
        assert "it is closed" in closed
        assert is_gone(tmp_path)


async def test_its_process_is_gone_when_the_body_is_left(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(using.closing, {"folder": str(tmp_path)})
        assert (await run.wait()).result is True


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "options"), EVERYWHERE, ids=NAMES)
async def test_a_graceful_stop_lets_a_call_finish(
    orchestrator: Orchestrator, tmp_path: Path, agent: Agent, options: dict[str, Any]
) -> None:
    with trio.fail_after(BOUND_S):
        run = await waiting(orchestrator, agent, tmp_path, **options)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stopped, run)
            async for event in await orchestrator.events(run.id):
                if event.type == "run.stopping":
                    break
            (tmp_path / "go").touch()
        receipt = run.record.stop
        assert receipt is not None
        assert (receipt.reached, receipt.error) == (StopMode.GRACEFUL, None)
        assert (receipt.operations.finished, receipt.operations.cut) == (1, 0)
        told = await types(orchestrator, run)
        assert told.count("operation.started") == told.count("operation.finished") == 3
        assert not (tmp_path / "cancelled").exists()
        assert is_gone(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("agent", "options"), EVERYWHERE, ids=NAMES)
async def test_a_stop_now_is_told_to_the_server(
    orchestrator: Orchestrator, tmp_path: Path, agent: Agent, options: dict[str, Any]
) -> None:
    with trio.fail_after(BOUND_S):
        run = await waiting(orchestrator, agent, tmp_path, **options)
        receipt = await stopped(run, mode="now")
        assert (receipt.reached, receipt.operations.cut) == (StopMode.NOW, 1)
        assert "requestId" in json.loads((tmp_path / "cancelled").read_text())
        assert is_gone(tmp_path)


@pytest.mark.parametrize(
    ("then", "status"), [("return", RunStatus.SUCCEEDED), ("raise", RunStatus.FAILED)]
)
async def test_one_that_is_left_open_is_closed_with_its_run(
    orchestrator: Orchestrator, tmp_path: Path, then: str, status: RunStatus
) -> None:
    given = {"folder": str(tmp_path), "then": then}
    with trio.fail_after(BOUND_S):
        record = await (await orchestrator.start(using.leaving_open, given)).wait()
        assert (record.status, record.stop) == (status, None)
        assert is_gone(tmp_path)


@pytest.mark.parametrize(
    "agent",
    [using.leaving_open, pytest.param(using.leaving_open_blocking, marks=pytest.mark.slow)],
    ids=["task", "sync"],
)
async def test_a_stop_closes_one_that_is_left_open_and_opens_no_other(
    orchestrator: Orchestrator, tmp_path: Path, agent: Agent
) -> None:
    given = {"folder": str(tmp_path), "then": "wait"}
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(agent, given)
        await until_there(tmp_path / "waiting")
        receipt = await stopped(run, mode="now")
        assert receipt.reached is StopMode.NOW
        (said,) = receipt.cleanup_errors
        assert "OrchestratorError: the agent's code has ended: no MCP server is opened" in said
        assert is_gone(tmp_path)


@pytest.mark.slow
async def test_a_server_that_does_not_end_is_killed(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    with trio.fail_after(BOUND_S):
        given = {"folder": str(tmp_path), **CALLS, "words": ["stubborn"]}
        run = await orchestrator.start(using.on_trio, given, options={"cleanup_s": 30})
        await until_there(tmp_path / "waiting")
        await stopped(run, mode="now")
        assert is_gone(tmp_path)


@pytest.mark.slow
async def test_a_stop_ends_one_that_is_being_opened(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    """What takes the connection never says a word."""
    note = f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    script = f"import os, pathlib, time; {note}; time.sleep(600)"
    given = {"server": sys.executable, "arguments": ["-I", "-c", script], "options": {}}
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(using.opening, given, options={"cleanup_s": 30})
        while not await until_there(tmp_path / "pid"):
            await trio.sleep(0.01)
        receipt = await stopped(run, mode="now")
        assert receipt.operations.cut == 1
        assert is_gone(tmp_path)


@pytest.mark.parametrize("tools", [["fork"], ["fork", "wait"]], ids=["returns", "is stopped"])
async def test_what_a_server_has_started_ends_with_it(
    orchestrator: Orchestrator, tmp_path: Path, tools: list[str]
) -> None:
    """The server itself ends at once, of its own accord."""
    with trio.fail_after(BOUND_S):
        given = {"folder": str(tmp_path), "words": [], "tools": tools}
        run = await orchestrator.start(using.on_trio, given)
        if "wait" in tools:
            await until_there(tmp_path / "waiting")
            await stopped(run, mode="now")
        else:
            assert (await run.wait()).result == ["forked"]
        assert is_gone(tmp_path)
        child = look_at(int((tmp_path / "child").read_text()))
        assert child is None or child.ended


async def test_a_server_that_says_what_is_no_text_may_go_on(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    given = {"folder": str(tmp_path), "words": [], "tools": ["mumble", "add"]}
    with trio.fail_after(BOUND_S):
        assert (await (await orchestrator.start(using.on_trio, given)).wait()).result == [
            "mumbled",
            "3",
        ]


async def test_the_half_of_a_character_is_replaced(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    """As those servers say it that cut a text anywhere."""
    given = {"folder": str(tmp_path), "words": [], "tools": ["halve"]}
    with trio.fail_after(BOUND_S):
        record = await (await orchestrator.start(using.on_trio, given)).wait()
        assert record.result == ["half ?"]


async def test_an_answer_that_is_none_ends_its_call(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    given = {"folder": str(tmp_path), "words": [], "tools": ["blunder"]}
    with trio.fail_after(BOUND_S):
        record = await (await orchestrator.start(using.on_trio, given)).wait()
        assert record.error is not None
        assert record.error.type == "MCPError"
        assert record.error.message == "what it answered is no answer of the protocol"


async def test_arguments_that_are_no_json_cost_the_session_nothing(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(using.misusing, {"folder": str(tmp_path)})
        refused, other, added = (await run.wait()).result
        assert refused == "arguments: has characters that are no text"
        assert other.startswith("arguments: is not JSON")
        assert added == "3"


async def test_a_server_that_floods_is_ended(
    orchestrator: Orchestrator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it writes without an end of the line is not kept for ever."""
    monkeypatch.setattr(mcp_process, "LONGEST", 1 << 20)
    given = {"folder": str(tmp_path), "words": [], "tools": ["flood"]}
    with trio.fail_after(BOUND_S):
        record = await (await orchestrator.start(using.on_trio, given)).wait()
        assert record.status is RunStatus.FAILED
        assert is_gone(tmp_path)


async def test_a_server_that_asks_and_hears_no_answer_does_not_hold_up_a_stop(
    orchestrator: Orchestrator, tmp_path: Path
) -> None:
    with trio.fail_after(BOUND_S):
        given = {"folder": str(tmp_path), "words": [], "tools": ["nag"]}
        run = await orchestrator.start(using.on_trio, given, options={"cleanup_s": 30})
        await until_there(tmp_path / "waiting")
        receipt = await stopped(run, mode="now")
        assert receipt.seconds is not None
        assert receipt.seconds < 10
        assert is_gone(tmp_path)


async def test_why_a_server_is_gone_is_said_at_the_next_call(
    orchestrator: Orchestrator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_process, "LONGEST", 1 << 20)
    with trio.fail_after(BOUND_S):
        run = await orchestrator.start(using.flooded, {"folder": str(tmp_path)})
        assert "without an end of the line" in (await run.wait()).result


class Site:
    """The library's own server over HTTP, and who is connected to it."""

    def __init__(self) -> None:
        self.connections = 0
        self.open = 0
        self.waiting, self.cancelled = trio.Event(), trio.Event()
        self.url = ""
        self.server = MCPServer("site")
        self.server.tool()(self.add)
        self.server.tool()(self.wait)
        self.server.tool()(self.picture)
        self._nears: set[trio.SocketStream] = set()

    async def add(self, a: int, b: int) -> int:
        """Add."""
        return a + b

    async def wait(self) -> str:
        """Wait for ever."""
        self.waiting.set()
        try:
            await trio.sleep_forever()
        finally:
            self.cancelled.set()
        raise AssertionError

    async def picture(self, context: Asked) -> str:
        """Answer with two MiB, as one event of a stream: what is told before makes it that."""
        await context.session.send_progress_notification("none", 1, related_request_id="this")
        return "x" * (2 << 20)

    def hang_up(self) -> None:
        """End every connection, whatever is on its way."""
        for near in self._nears:
            near.socket.shutdown(trio.socket.SHUT_RDWR)

    async def carry(self, port: int, near: trio.SocketStream) -> None:
        """Carry one connection to the server, and count it until its client has closed it."""
        self.connections += 1
        self.open += 1
        self._nears.add(near)
        far = await trio.open_tcp_stream("127.0.0.1", port)
        try:
            async with near, far, trio.open_nursery() as nursery:
                nursery.start_soon(_pour, far, near)
                await _pour(near, far)
                nursery.cancel_scope.cancel()
        finally:
            self._nears.discard(near)
            self.open -= 1


async def _pour(source: trio.SocketStream, sink: trio.SocketStream) -> None:
    try:
        async for piece in source:
            await sink.send_all(piece)
    except trio.BrokenResourceError:
        pass


@asynccontextmanager
async def open_site() -> AsyncIterator[Site]:
    site, config, over = Site(), hypercorn.config.Config(), trio.Event()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.1
    serve: Any = partial(
        hypercorn.trio.serve,
        site.server.streamable_http_app(),  # type: ignore[arg-type]  # an app like any other
        config,
        shutdown_trigger=over.wait,
    )
    async with trio.open_nursery() as nursery:
        [bound] = await nursery.start(serve)
        port = int(bound.rsplit(":", 1)[1])
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        carry = partial(site.carry, port)
        nursery.start_soon(trio.serve_listeners, carry, [listener])
        site.url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/mcp"
        yield site
        over.set()
        nursery.cancel_scope.cancel()


async def test_over_http_connections_are_closed(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S):
        async with open_site() as site:
            given = {"url": site.url, "tools": ["add", "wait"]}
            run = await orchestrator.start(using.over_http, given)
            await site.waiting.wait()
            assert site.open > 0
            receipt = await stopped(run, mode="now")
            assert receipt.operations.cut == 1
            await site.cancelled.wait()
            while site.open:
                await trio.sleep(0.01)  # the other end of a socket
            run = await orchestrator.start(using.over_http, given | {"tools": ["add"]})
            assert (await run.wait()).result == ["3"]


async def test_over_http_a_connection_that_breaks_costs_its_own_call(
    orchestrator: Orchestrator,
) -> None:
    with trio.fail_after(BOUND_S):
        async with open_site() as site:
            given = {"url": site.url, "tools": ["add", "wait", "add"]}
            run = await orchestrator.start(using.trying, given)
            await site.waiting.wait()
            site.hang_up()
            first, broken, last = (await run.wait()).result
            assert (first, last) == ("3", "3")
            assert broken.startswith("MCPError: ")


async def test_over_http_answers_may_be_as_long_as_over_pipes(orchestrator: Orchestrator) -> None:
    with trio.fail_after(BOUND_S), warnings.catch_warnings():
        # The protocol's library leaves the generators that read a stream to the collector.
        warnings.simplefilter("ignore", ResourceWarning)
        async with open_site() as site:
            given = {"url": site.url, "tools": ["picture"]}
            [answer] = (await (await orchestrator.start(using.trying, given)).wait()).result
            assert len(answer) == 2 << 20
        gc.collect()


@pytest.mark.parametrize(
    ("server", "arguments", "options", "words"),
    [
        ("", [], {}, "server: is missing"),
        ("box", [], {"headers": {"a": "b"}}, "headers: are for a URL"),
        ("http://127.0.0.1:1/mcp", ["x"], {}, "server: is a URL, which takes no arguments"),
        ("http://127.0.0.1:1/mcp", [], {"env": {"A": "b"}}, "takes no arguments, `env` or `cwd`"),
        ("no-such-command-anywhere", [], {}, "FileNotFoundError"),
        (sys.executable, ["-c", ""], {}, "cannot be used"),
        ("http://127.0.0.1:1/mcp", [], {}, "cannot be used"),
    ],
)
async def test_what_cannot_be_used_is_said(
    orchestrator: Orchestrator,
    server: str,
    arguments: list[str],
    options: dict[str, Any],
    words: str,
) -> None:
    with trio.fail_after(BOUND_S):
        given = {"server": server, "arguments": arguments, "options": options}
        record = await (await orchestrator.start(using.opening, given)).wait()
        assert record.status is RunStatus.FAILED
        assert record.error is not None
        kinds = (InvalidInput.__name__, "ToolServerUnavailable")
        assert record.error.type in kinds
        assert words in record.error.message

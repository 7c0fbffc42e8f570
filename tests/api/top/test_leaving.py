"""What is decided in ``quiesce top`` is done, to the run that was meant, and it leaves no trace."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import termios
from typing import TYPE_CHECKING, Any

import pytest
from textual.events import Key

from api.top.follow import follow
from api.top.runs import RunsScreen
from orchestrator import UnknownRun
from tests.api.processes import quiesce, read_until
from tests.api.top.conftest import Terminal, at_terminal, played

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from api.top.follow import Feed
    from tests.browser.looking import Server

pytestmark = pytest.mark.slow


class Held:
    """Holds back whatever is asked of the server."""

    def __init__(self, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked, self.may_go = asyncio.Event(), asyncio.Event()
        self._ask: Callable[..., Any] = terminal.link.ask
        monkeypatch.setattr(terminal.link, "ask", self.ask)

    async def ask(self, *order: Any, **more: Any) -> Any:
        self.asked.set()
        await self.may_go.wait()
        return await self._ask(*order, **more)


async def children_of(server: Server, run: str) -> list[str]:
    """Return the ids of a household's three, once there are as many."""
    while True:
        tree = server.http.get(f"/runs/{run}/tree").json()
        if len(tree["children"]) == 3:
            return [each["id"] for each in tree["children"]]
        await asyncio.sleep(0.02)


@played
async def test_a_stop_arrives_although_its_run_is_closed_at_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = server.start("waiter")
    async with at_terminal(server, run) as terminal:
        held = Held(terminal, monkeypatch)
        await terminal.press("enter")
        await terminal.until(lambda: "● running waiter" in terminal.line("waiter"))
        await terminal.press("s", "enter", "escape")
        await held.asked.wait()
        await terminal.until(lambda: bool(terminal.line(run[4:12])))
        held.may_go.set()
        await terminal.until(lambda: "■ stopped" in terminal.line(run[4:12]))


@played
async def test_a_stop_arrives_although_one_quits_at_once(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = server.start("waiter")
    async with at_terminal(server, run) as terminal:
        held = Held(terminal, monkeypatch)
        await terminal.press("s", "enter")
        await held.asked.wait()
        await terminal.press("q")
        held.may_go.set()
        await terminal.until(lambda: not terminal.app.is_running)
    assert server.wait(run) == "stopped"


@played
async def test_it_quits_although_nobody_answers_an_order(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.top.app.ORDERS_S", 0.1)
    run = server.start("waiter")
    async with at_terminal(server, run) as terminal:
        held = Held(terminal, monkeypatch)
        await terminal.press("s", "enter")
        await held.asked.wait()
        await terminal.press("q")
        await terminal.until(lambda: not terminal.app.is_running)
    server.stop(run)


@played
async def test_the_panel_of_a_run_that_is_gone_goes_with_its_screen(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, gone = server.start("waiter"), asyncio.Event()

    async def until_gone(feed: Feed) -> None:
        following = asyncio.ensure_future(follow(feed))
        await gone.wait()
        following.cancel()
        raise UnknownRun(run)

    async with at_terminal(server, run) as terminal:
        monkeypatch.setattr("api.top.app.follow", until_gone)
        await terminal.press("enter")
        await terminal.until(lambda: "● running waiter" in terminal.line("waiter"))
        await terminal.press("s")
        await terminal.sees("Escape leaves it as it is.")
        gone.set()
        await terminal.until(lambda: isinstance(terminal.app.screen, RunsScreen))
    server.stop(run)


@played
async def test_a_run_that_ends_under_the_cursor_keeps_it(server: Server) -> None:
    other, mine = server.start("waiter"), server.start("waiter")
    async with at_terminal(server) as terminal:
        await terminal.press("l")
        await terminal.until(lambda: terminal.line(mine[4:12]).startswith("> "))
        server.stop(mine)
        await terminal.until(lambda: "■ stopped" in terminal.line(mine[4:12]))
        await terminal.press("p")  # too late; and nobody else's
        assert terminal.line(mine[4:12]).startswith("> ")
        await terminal.press("down")
        await terminal.until(lambda: mine[4:12] not in terminal.text)
        assert terminal.line(other[4:12]).startswith("> ")
    assert server.get(other)["status"] == "running"
    server.stop(other)


@played
async def test_words_that_are_typed_fast_into_the_filter_act_on_no_run(server: Server) -> None:
    """A slow line, or who pastes, brings them all at once."""
    run = server.start("waiter")
    async with at_terminal(server, run) as terminal:
        for character in "/p/s":
            terminal.app.post_message(Key("slash" if character == "/" else character, character))
        await terminal.sees(" p/s", "no run is like that")
    assert server.get(run)["status"] == "running"
    server.stop(run)


@played
async def test_a_sub_agent_that_ends_under_the_cursor_keeps_it(server: Server) -> None:
    run = server.start("household")
    children = await children_of(server, run)
    async with at_terminal(server, run) as terminal:
        await terminal.press("enter")
        await terminal.sees("└─ ● running waiter")
        await terminal.press("l", "down")
        server.stop(children[0])
        await terminal.until(lambda: "■ stopped waiter" in terminal.line("> "))
        await terminal.press("p", "down")
        await terminal.until(lambda: "● running waiter" in terminal.line("> "))
        await terminal.until(lambda: "■ stopped waiter" not in "\n".join(terminal.lines[:8]))
    assert {server.get(each)["status"] for each in children[1:]} == {"running"}
    server.stop(run)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP], ids=["TERM", "HUP"])
def test_a_signal_leaves_the_terminal_as_it_was(
    server: Server, tmp_path: Path, sent: signal.Signals
) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(ours)
    with quiesce("top", "--server", server.url, cwd=tmp_path, stdin=theirs, stdout=theirs) as top:
        os.close(theirs)
        read_until(ours, "live")
        top.signal(sent)
        read_until(ours, "\x1b[?1049l")  # back from the screen that it had for itself
        assert top.popen.wait() == 128 + sent
    assert termios.tcgetattr(ours) == before
    os.close(ours)

"""``quiesce top`` before a real server: what is shown is what the server has said."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.api.processes import invoke
from tests.api.top.conftest import Terminal, at_terminal, played
from tests.browser.looking import Server

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def keys(terminal: Terminal) -> str:
    """Return the line that says what can be done."""
    return terminal.lines[-1]


@played
async def test_a_stop_is_asked_for_with_its_reason_and_followed(server: Server) -> None:
    run = server.start("writer")
    async with at_terminal(server, run) as terminal:
        await terminal.press("s")
        await terminal.sees(f"Stop writer {run}", "graceful", "now", "kill")
        await terminal.press("tab")
        await terminal.type("wrong topic")
        await terminal.press("enter")
        await terminal.until(lambda: "● stopping" in terminal.line(run[4:12]))
        receipt = server.get(run)["stop"]
        assert (receipt["mode"], receipt["reason"]) == ("graceful", "wrong topic")
        server.stop(run, mode="now")
        await terminal.until(lambda: "■ stopped" in terminal.line(run[4:12]))
        await terminal.sees("by user in")


@played
async def test_nothing_is_shown_before_the_server_has_said_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = server.start("waiter")
    async with at_terminal(server, run) as terminal:
        asked, may_go = asyncio.Event(), asyncio.Event()
        ask = terminal.link.ask

        async def hold(*order: Any, **more: Any) -> Any:
            asked.set()
            await may_go.wait()
            return await ask(*order, **more)

        monkeypatch.setattr(terminal.link, "ask", hold)
        await terminal.press("s", "enter")
        await asked.wait()
        await terminal.pilot.pause(0.6)
        assert "● running" in terminal.line(run[4:12])
        may_go.set()
        await terminal.until(lambda: "■ stopped" in terminal.line(run[4:12]))


@played
async def test_a_stop_can_only_be_made_stricter(server: Server) -> None:
    run = server.start("writer")
    async with at_terminal(server, run) as terminal:
        server.stop(run, grace_s=1000, reason="enough")
        await terminal.until(lambda: "graceful by user" in terminal.line(run[4:12]))
        await terminal.press("s")
        await terminal.sees("Make the stop stricter", "now  ", "kill  ")
        assert "graceful  what" not in terminal.text
        await terminal.press("enter")
        await terminal.until(lambda: "■ stopped" in terminal.line(run[4:12]))
    receipt = server.get(run)["stop"]
    assert (receipt["mode"], [each["mode"] for each in receipt["also"]]) == ("now", ["now"])


@played
async def test_the_second_and_third_mode_are_an_arrow_away(server: Server) -> None:
    run = server.start("waiter")
    async with at_terminal(server, run) as terminal:
        await terminal.press("s", "down", "down", "enter")
        await terminal.until(lambda: "■ stopped" in terminal.line(run[4:12]))
    assert server.get(run)["stop"]["mode"] == "kill"


@played
async def test_escape_stops_nothing(server: Server) -> None:
    run = server.start("waiter")
    async with at_terminal(server, run) as terminal:
        await terminal.press("s", "tab")
        await terminal.type("not meant")
        await terminal.press("escape", "escape")
        await terminal.until(lambda: "reason, if you like" not in terminal.text)
    assert server.get(run)["status"] == "running"
    server.stop(run)


@played
async def test_a_run_that_ends_while_the_panel_is_open_cannot_be_stopped(server: Server) -> None:
    run = server.start("waiter")
    async with at_terminal(server, run) as terminal:
        await terminal.press("s")
        await terminal.sees(f"Stop waiter {run}")
        server.stop(run, reason="first")
        await terminal.sees("It has ended: stopped. There is nothing to stop.")
        await terminal.press("enter")
        await terminal.sees("There is nothing to stop.")
    assert server.get(run)["stop"]["also"] == []


@played
async def test_keys_are_offered_where_they_work(server: Server) -> None:
    over, live = server.start("painter"), server.start("waiter")
    assert server.wait(over) == "succeeded"
    async with at_terminal(server, over) as terminal:
        offers = terminal.app.screen.check_action
        assert (offers("stop", ()), offers("pause", ()), offers("rerun", ())) == (None, None, True)
        await terminal.press("s")
        assert "Stop painter" not in terminal.text
    async with at_terminal(server, live) as terminal:
        offers = terminal.app.screen.check_action
        assert (offers("stop", ()), offers("pause", ()), offers("rerun", ())) == (True, True, None)
    server.stop(live)


@played
async def test_a_run_is_paused_goes_on_and_is_repeated(server: Server) -> None:
    run = server.start("waiter")
    async with at_terminal(server, run) as terminal:
        await terminal.press("p")
        await terminal.until(lambda: "‖ paused" in terminal.line(run[4:12]))
        await terminal.press("p")
        await terminal.until(lambda: "● running" in terminal.line(run[4:12]))
        server.stop(run)
        await terminal.until(lambda: "■ stopped" in terminal.line(run[4:12]))
        await terminal.press("r")
        await terminal.notices("is repeated as")
    newest = server.http.get("/runs", params={"limit": 1}).json()["runs"][0]
    assert newest["rerun_of"] == run
    server.stop(newest["id"])


@played
async def test_words_and_life_sift_the_list(server: Server) -> None:
    wanted = server.start("waiter", {"tags": ["blue"]})
    other = server.start("painter", {"tags": ["blue"]})
    server.wait(other)
    async with at_terminal(server) as terminal:
        await terminal.press("slash")
        await terminal.type("blue")
        await terminal.press("enter")
        await terminal.sees(wanted[4:12], other[4:12])
        await terminal.press("l")
        await terminal.until(lambda: other[4:12] not in terminal.text)
        assert wanted[4:12] in terminal.text
        await terminal.press("slash")
        await terminal.type("no such")
        await terminal.sees("no run is like that")
        await terminal.press("escape")
        await terminal.sees(wanted[4:12])
    server.stop(wanted)


@played
async def test_one_sub_agent_is_stopped_from_the_tree(server: Server) -> None:
    run = server.start("household", children=3)
    async with at_terminal(server, run) as terminal:
        await terminal.press("enter")
        await terminal.sees(f"household  {run}", "├─ ● running waiter", "└─ ● running waiter")
        await terminal.sees("waiting, see https://example.org/help")
        await terminal.press("s")
        await terminal.sees(f"Stop household {run} and 3 below it")
        await terminal.press("escape", "down", "down", "s")
        await terminal.sees("Stop waiter run_")
        await terminal.press("down", "enter")
        await terminal.sees("├─ ■ stopped waiter", "stopping (now), asked by user")
        await terminal.press("o")
        await terminal.until(lambda: "household  queued" not in terminal.text)
        await terminal.press("l")
        await terminal.until(lambda: "■ stopped waiter" not in terminal.text)
        await terminal.press("escape")
        await terminal.until(lambda: "● running" in terminal.line(run[4:12]))
    tree = server.http.get(f"/runs/{run}/tree").json()
    assert sorted(child["status"] for child in tree["children"]) == [
        "running",
        "running",
        "stopped",
    ]
    server.stop(run)


@played
async def test_the_log_follows_only_while_one_looks_at_its_end(server: Server) -> None:
    run, other = (server.start("talker", lines=60, seconds=1000) for _ in range(2))
    async with at_terminal(server, run) as terminal:
        await terminal.press("enter")
        await terminal.sees("line 59")
        server.stop(run)
        await terminal.sees("after it was asked to stop")
    async with at_terminal(server, other) as terminal:
        await terminal.press("enter")
        await terminal.sees("line 59")
        log = terminal.app.screen.query_one("#log")
        await terminal.press("tab", "pageup")
        await terminal.until(lambda: "line 59" not in terminal.text)
        at, end = log.scroll_y, log.max_scroll_y
        server.stop(other)
        await terminal.until(lambda: log.max_scroll_y > end)
        assert log.scroll_y == at
        await terminal.press("end")
        await terminal.sees("after it was asked to stop")


@played
async def test_without_a_server_it_says_so_and_then_catches_up(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.running():
        run = server.start("writer")
        async with at_terminal(server) as terminal:
            await terminal.sees("● running")
            server.stop(run, grace_s=1000)
            await terminal.sees("● stopping")
            server.kill()
            await terminal.sees("✗ NO CONNECTION", "● stopping?")
            await terminal.press("s", "enter")
            await terminal.notices("no server answers")
            assert "● stopping?" in terminal.text
            with server.running():
                await terminal.sees("● live", "■ stopped")


@played
async def test_an_open_run_catches_up_too(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.running():
        server.start("household")
        async with at_terminal(server) as terminal:
            await terminal.sees("household")
            await terminal.press("enter")
            await terminal.sees("└─ ● running waiter")
            server.kill()
            await terminal.sees("✗ NO CONNECTION", "└─ ● running? waiter")
            with server.running():
                await terminal.sees("● live", "? lost household", "└─ ? lost waiter")


@pytest.mark.parametrize("width", [80, 120])
def test_every_line_fits(server: Server, width: int) -> None:
    @played
    async def look() -> None:
        run = server.start("asker", question="x" * 300)
        async with at_terminal(server, run, width=width) as terminal:
            await terminal.sees("asks: xxx")
            assert len(terminal.lines) == 24
            assert max(map(len, terminal.lines)) <= width
            assert "s Stop" in keys(terminal)
            assert "q Quit" in keys(terminal)
            assert (run in terminal.line(run[4:12])) == (width == 120)
        server.stop(run)

    look()


@played
async def test_the_colours_may_be_taken_away(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing that is shown has the colour of what is behind it."""
    monkeypatch.setenv("NO_COLOR", "1")
    run = server.start("waiter")
    async with at_terminal(server) as terminal:
        await terminal.sees("● running")
        app = terminal.app
        theme = app.theme_variables
        for strip in app.screen._compositor.render_strips():
            for filter_ in app._filters:
                strip = strip.apply_filter(filter_, app.screen.background_colors[1])
            for segment in strip:
                style = segment.style
                if segment.text.strip() and style is not None and not style.reverse:
                    assert style.color != style.bgcolor, (segment, theme["background"])
    server.stop(run)


def test_without_a_terminal_or_a_server_it_says_so(server: Server) -> None:
    code, said = invoke("top", "--server", server.url)
    assert code == 2
    assert "there is none; `quiesce ls` prints the runs" in said

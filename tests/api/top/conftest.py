"""The dashboard of a terminal, played by a pilot before a real server."""

from __future__ import annotations

import asyncio
import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from api.top.app import Top
from api.top.link import Link
from tests.browser.looking import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from textual.pilot import Pilot

PATIENCE_S = 20.0
LOOK_S = 0.05


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in a process of its own, for all the tests of a module."""
    with Server(tmp_path_factory.mktemp("server")).running() as started:
        yield started


def played(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Let a test run on asyncio, where Textual lives."""

    @functools.wraps(test)
    def play(**given: Any) -> None:
        asyncio.run(test(**given))  # type: ignore[arg-type]  # a coroutine

    return play


class Terminal:
    """What somebody sees and does at a terminal."""

    def __init__(self, app: Top, pilot: Pilot[str]) -> None:
        self.app = app
        self.pilot = pilot
        self.link = app.link

    @property
    def lines(self) -> list[str]:
        """The lines that are shown."""
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    @property
    def text(self) -> str:
        """All that is shown, notices included."""
        return "\n".join(self.lines)

    def line(self, words: str) -> str:
        """Return the row of a list with those words; empty if there is none."""
        rows = (line for line in self.lines if line[:2] in ("> ", "  "))
        return next((row for row in rows if words in row), "")

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until that is so."""
        for _ in range(int(PATIENCE_S / LOOK_S)):
            if holds():
                return
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"it never came to be:\n{self.text}")

    async def sees(self, *words: str) -> None:
        """Wait until all those words are shown."""
        await self.until(lambda: all(each in self.text for each in words))

    async def press(self, *keys: str) -> None:
        """Press keys, each once what the one before has done is shown."""
        for key in keys:
            await self.pilot.press(key)

    async def notices(self, words: str) -> None:
        """Wait until a notice with those words is shown."""
        await self.until(lambda: any(words in each.message for each in self.app._notifications))

    async def type(self, words: str) -> None:
        """Type words."""
        await self.pilot.press(*("space" if each == " " else each for each in words))


@asynccontextmanager
async def at_terminal(
    server: Server, run_id: str = "", *, width: int = 80
) -> AsyncIterator[Terminal]:
    """Sit down at a terminal that shows the runs of a server, or that one alone, once it does."""
    async with Link(server.url) as link:
        app = Top(link, run_id)
        async with app.run_test(size=(width, 24), notifications=True) as pilot:
            terminal = Terminal(app, pilot)
            await terminal.sees("● live", "q Quit")
            await terminal.until(lambda: terminal.line(run_id[4:12]).startswith("> "))
            yield terminal

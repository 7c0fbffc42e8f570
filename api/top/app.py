"""The dashboard of a terminal, put together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from textual.app import App

from api.top.acting import ORDERS
from api.top.board import Board
from api.top.follow import AllRuns, follow
from api.top.one import RunScreen
from api.top.runs import RunsScreen
from orchestrator import OrchestratorError, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from textual.binding import BindingType

    from api.top.link import Link


# Who quits waits for so long at most for the answer to what was asked for last.
ORDERS_S = 10.0
_SILENT = "the server has not said what became of the last order; `quiesce show` does"


class Top(App[str]):
    """The runs of a server, live. It returns why it had to end; None if it was told to.

    Args:
        link: the server; it must stay open for as long as this runs.
        words: what the runs are sifted by at first.
    """

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(self, link: Link, words: str = "") -> None:
        super().__init__()
        # Over a slow line every movement is in the way of what has happened.
        self.animation_level = "none"
        self.link = link
        self._words = words
        self.board = Board()
        self.all_runs = AllRuns(link, self.board)

    def on_mount(self) -> None:
        """Begin to follow everything."""
        # The colours of the terminal itself; they cannot be told apart once they are taken away.
        self.theme = "textual-dark" if self.no_color else "ansi-dark"
        self.push_screen(RunsScreen(self.link, self.board, self.all_runs, self._words))
        self.run_worker(self._watch(follow(self.all_runs)))
        self.run_worker(self._watch(self.all_runs.learn()))

    def on_rows_chosen(self) -> None:
        """Open the run under the cursor."""
        screen = self.screen
        target = screen.target() if isinstance(screen, RunsScreen) else None
        run = self.board.get(target.id) if target is not None else None
        if run is not None:
            opened = RunScreen(self.link, self.board, self.all_runs, run)
            self.push_screen(opened)
            opened.run_worker(self._watch_one(opened))

    async def action_quit(self) -> None:
        """End, as soon as the server has said what became of all that was decided."""
        self.run_worker(self._leave())

    async def _leave(self) -> None:
        orders = [each for each in self.workers if each.group == ORDERS and not each.is_finished]
        answers = [asyncio.ensure_future(each.wait()) for each in orders]
        _, silent = await asyncio.wait(answers, timeout=ORDERS_S) if answers else (set(), set())
        self.exit(_SILENT if silent else None)

    async def _watch(self, watching: Awaitable[None]) -> None:
        try:
            await watching
        except OrchestratorError as error:
            self.exit(str(error))

    async def _watch_one(self, opened: RunScreen) -> None:
        try:
            await follow(opened.feed)
        except UnknownRun as error:
            self.notify(str(error), severity="warning", markup=False)
            while opened in self.screen_stack:  # the panel of a stop may be before it
                self.pop_screen()
        except OrchestratorError as error:
            self.exit(str(error))

"""The screen of one run: its tree, and its log."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Footer, RichLog, Static

from api.terminal import RunTree, line_of
from api.top.acting import Acting
from api.top.follow import OneRun, State
from api.top.panel import Target
from api.top.rows import Rows
from api.top.runs import DRAW_S, TICKS
from api.top.words import head_lines, node_line, state_line

if TYPE_CHECKING:
    from rich.text import Text
    from textual.app import ComposeResult

    from api.terminal import Node
    from api.top.board import Board
    from api.top.follow import AllRuns, Feed
    from api.top.link import Link
    from orchestrator import Event, RunRecord

# Of the log so many lines are kept.
KEPT_LINES = 2000
_NOISE = ("operation.started", "run.progress", "run.partial")


class RunScreen(Acting):
    """One run and everything below it, from its events.

    Args:
        run: the run as it was known when the screen was opened.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "app.pop_screen", "Back"),
        Binding("l", "live", "Live only"),
        Binding("o", "own", "Own log"),
        Binding("q", "app.quit", "Quit"),
    ]
    CSS = """
    #state { height: 1; }
    #head { height: 2; }
    #tree { height: auto; max-height: 40%; min-height: 2; }
    #log { height: 1fr; border-top: solid $foreground; background: $background; }
    """

    def __init__(self, link: Link, board: Board, all_runs: AllRuns, run: RunRecord) -> None:
        super().__init__(link, board)
        self.feed = OneRun(link, run.id, self._take)
        self._all_runs = all_runs
        self._run = run
        self._tree = RunTree()
        self._lines: deque[tuple[str, Text]] = deque(maxlen=KEPT_LINES)
        self._fresh: list[tuple[str, Text]] = []
        self._live = False
        self._own: str | None = None
        self._ticks = 0

    def compose(self) -> ComposeResult:
        """See ``Screen.compose``."""
        yield Static(id="state", markup=False)
        yield Static(id="head", markup=False)
        yield Rows(self._line, "reading…", id="tree")
        yield RichLog(id="log", wrap=True, max_lines=KEPT_LINES, min_width=1)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to draw."""
        self.query_one(Rows).focus()
        self._draw()
        self.set_interval(DRAW_S, self._tick)

    def target(self) -> Target | None:
        """See ``Acting.target``."""
        key = self.query_one(Rows).key
        return None if key is None else self.find(key)

    def find(self, run_id: str) -> Target | None:
        """See ``Acting.find``."""
        node = self._tree.node(run_id)
        if node is None:
            return None
        stop = self._record.stop
        mode = stop.mode if stop is not None and run_id == self._run.id else None
        return Target(node.id, node.agent, node.status, mode, _live_below(node))

    def action_live(self) -> None:
        """Leave out what has ended, or show it again."""
        self._live = not self._live
        self._draw(anew=True)

    def action_own(self) -> None:
        """Show the log of the run under the cursor alone, or that of all again."""
        self._own = None if self._own is not None else self.query_one(Rows).key
        log = self.query_one(RichLog)
        log.border_title = None if self._own is None else f"log of {self._tree.name(self._own)}"
        log.clear()
        for run_id, line in self._lines:
            if self._own in (None, run_id):
                log.write(line)

    def on_rows_moved(self) -> None:
        """Another run is under the cursor: other keys may be offered."""
        self.refresh_bindings()

    @property
    def _record(self) -> RunRecord:
        self._run = self.board.get(self._run.id) or self._run
        return self._run

    def _take(self, event: Event) -> None:
        self._tree.apply(event)
        if event.type not in _NOISE:
            self._fresh.append((event.run_id, line_of(event, self._tree)))
        if event.type in ("run.stopping", "run.escalated") and event.run_id == self._run.id:
            self.board.unsaid.add(self._run.id)

    def _tick(self) -> None:
        self._ticks += 1
        if self._fresh or self.feed.state is not State.OVER or self._ticks % TICKS == 0:
            self._draw()

    def _draw(self, *, anew: bool = False) -> None:
        """Draw all of it; the run under the cursor stays, as in the list of runs."""
        self._write()
        feeds: list[Feed] = [self.feed, self._all_runs]
        state = state_line(self.link.url, feeds, self.board.shown())
        self.query_one("#state", Static).update(state)
        self.query_one("#head", Static).update(head_lines(self._record, self._tree))
        rows = self.query_one(Rows)
        shown = self._tree.rows(live=self._live, keep=None if anew else rows.key)
        self._rows = {node.id: (lead, node) for lead, node in shown}
        rows.fill(list(self._rows))
        self.refresh_bindings()

    def _write(self) -> None:
        fresh, self._fresh = self._fresh, []
        self._lines.extend(fresh)
        log = self.query_one(RichLog)
        # Who reads further up is left in peace.
        follows = log.is_vertical_scroll_end
        for run_id, line in fresh:
            if self._own in (None, run_id):
                log.write(line, scroll_end=False)
        if fresh and follows:
            log.scroll_end(animate=False, immediate=True)

    def _line(self, run_id: str, width: int) -> Text:
        lead, node = self._rows[run_id]
        certain = self.feed.is_certain and self._all_runs.is_certain
        return node_line(lead, node, width, certain=certain)


def _live_below(node: Node) -> int:
    todo, found = list(node.children), 0
    while todo:
        child = todo.pop()
        found += not child.status.is_terminal
        todo.extend(child.children)
    return found

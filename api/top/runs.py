"""The screen of all runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static

from api.top.acting import Acting
from api.top.panel import Target
from api.top.rows import Rows
from api.top.words import run_line, state_line

if TYPE_CHECKING:
    from rich.text import Text
    from textual.app import ComposeResult

    from api.top.board import Board
    from api.top.follow import AllRuns, State
    from api.top.link import Link

# What has changed is drawn so often at most, for the sake of slow lines; and durations go on.
DRAW_S = 0.25
TICKS = 4


class RunsScreen(Acting):
    """The list of runs: live, filtered, with a run under the cursor.

    Args:
        words: what the runs are sifted by at first.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        # Taken before the next key is given to anybody: what one types on would act on runs.
        Binding("slash", "filter", "Filter", key_display="/", priority=True),
        Binding("l", "live", "Live only"),
        Binding("q", "app.quit", "Quit"),
    ]
    CSS = """
    #state { height: 1; }
    #words { display: none; height: 1; border: none; padding: 0 1; }
    #words.open { display: block; }
    #runs { height: 1fr; }
    """

    def __init__(self, link: Link, board: Board, feed: AllRuns, words: str) -> None:
        super().__init__(link, board)
        self._feed = feed
        self._words = words
        self._live = False
        self._drawn: tuple[int, State] | None = None
        self._ticks = 0

    def compose(self) -> ComposeResult:
        """See ``Screen.compose``."""
        yield Static(id="state", markup=False)
        yield Input(self._words, placeholder="words that occur in a run; Enter closes", id="words")
        yield Rows(self._line, "no run is like that", id="runs", opens=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to draw."""
        self.query_one("#words").set_class(bool(self._words), "open")
        self.query_one(Rows).focus()
        self._draw()
        self.set_interval(DRAW_S, self._tick)

    def target(self) -> Target | None:
        """See ``Acting.target``."""
        key = self.query_one(Rows).key
        return None if key is None else self.find(key)

    def find(self, run_id: str) -> Target | None:
        """See ``Acting.find``."""
        run = self.board.get(run_id)
        if run is None:
            return None
        mode = None if run.stop is None else run.stop.mode
        return Target(run.id, run.agent, run.status, mode)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Among the words of the filter a slash is one."""
        if action == "filter":
            return not isinstance(self.focused, Input)
        return super().check_action(action, parameters)

    def action_filter(self) -> None:
        """Ask for the words that a run must have."""
        words = self.query_one("#words", Input)
        words.add_class("open")
        self.set_focus(words)

    def action_live(self) -> None:
        """Leave out what has ended, or show it again."""
        self._live = not self._live
        self._draw(anew=True)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Sift while one types."""
        self._words = event.value
        self._draw(anew=True)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go back to the list; without words it is all of it."""
        event.input.set_class(bool(event.value.strip()), "open")
        self.query_one(Rows).focus()

    def on_key(self, event: object) -> None:
        """Escape leaves the filter, and stops nothing."""
        if getattr(event, "key", "") == "escape" and self.query_one("#words").has_focus:
            self.query_one("#words", Input).clear()
            self.query_one("#words").remove_class("open")
            self.query_one(Rows).focus()

    def on_rows_moved(self) -> None:
        """Another run is under the cursor: other keys may be offered."""
        self.refresh_bindings()

    def _tick(self) -> None:
        self._ticks += 1
        if self._drawn != (self.board.version, self._feed.state) or self._ticks % TICKS == 0:
            self._draw()

    def _draw(self, *, anew: bool = False) -> None:
        """Draw the list. The run under the cursor stays, or a key that was meant for it would do
        something to the next one; unless the list was just chosen ``anew``."""
        if not self.is_current:
            return
        changed = self._drawn != (self.board.version, self._feed.state)
        self._drawn = (self.board.version, self._feed.state)
        runs = self.board.shown()
        self.query_one("#state", Static).update(state_line(self.link.url, [self._feed], runs))
        rows = self.query_one(Rows)
        keep = None if anew else rows.key
        shown = self.board.shown(self._words, live=self._live, keep=keep)
        rows.fill([run.id for run in shown])
        if changed:
            self.refresh_bindings()

    def _line(self, run_id: str, width: int) -> Text:
        run = self.board.get(run_id)
        assert run is not None, "a run that is shown is known"
        return run_line(run, width, certain=self._feed.is_certain)

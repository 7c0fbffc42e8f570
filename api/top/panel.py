"""Where a stop is asked for. Nothing is stopped but by Enter, or a click on the button."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from api.terminal import clean
from api.top.rows import Rows
from api.top.words import MODES
from orchestrator import RunStatus, StopMode

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

_LADDER = list(StopMode)


class Target(NamedTuple):
    """The run that is meant.

    Attributes:
        mode: that of the stop which is under way; None if there is none.
        below: how many runs below it are live.
    """

    id: str
    agent: str
    status: RunStatus
    mode: StopMode | None = None
    below: int = 0

    @property
    def modes(self) -> list[StopMode]:
        """The modes in which it can be stopped: those that are stricter than the present one."""
        if self.status.is_terminal:
            return []
        if self.status is not RunStatus.STOPPING:
            return _LADDER
        return _LADDER[_LADDER.index(self.mode or StopMode.GRACEFUL) + 1 :]


class Order(NamedTuple):
    """What was decided."""

    mode: StopMode
    reason: str


class StopPanel(ModalScreen[Order | None]):
    """Asks in which mode a run is to be stopped, and why.

    Args:
        target: returns the run as it is known now; None if it is gone.
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave it", show=False)]
    CSS = """
    StopPanel { align: center middle; }
    StopPanel > Vertical { width: 72; max-width: 100%; height: auto; border: round $foreground;
        padding: 0 1; background: $background; }
    StopPanel Rows { height: 3; }
    StopPanel Input { border: none; height: 1; padding: 0 2; }
    StopPanel Button { height: 1; border: none; min-width: 20; }
    StopPanel .gap { height: 1; }
    """

    def __init__(self, target: Callable[[], Target | None]) -> None:
        super().__init__()
        self._target = target
        first = target()
        self._modes = [] if first is None else first.modes

    def compose(self) -> ComposeResult:
        """See ``Screen.compose``."""
        with Vertical():
            yield Static(id="about", markup=False)
            yield Static(classes="gap")
            yield Rows(_line, "nothing is stricter", id="modes", opens=True)
            yield Input(id="reason", max_length=2000, placeholder="reason, if you like (Tab)")
            yield Static(classes="gap")
            yield Button("Stop (Enter)", id="stop", variant="error")
            yield Static("Escape leaves it as it is.", classes="hint", markup=False)

    def on_mount(self) -> None:
        """Begin with the gentlest mode that is left."""
        modes = self.query_one(Rows)
        modes.fill([str(mode) for mode in self._modes])
        modes.focus()
        self._look()
        self.set_interval(0.25, self._look)

    def _look(self) -> None:
        target = self._target()
        about = self.query_one("#about", Static)
        over = target is None or not target.modes
        self.query_one("#stop", Button).disabled = over
        if target is None or target.status.is_terminal:
            ended = "is gone" if target is None else f"has ended: {target.status}"
            about.update(Text(f"It {ended}. There is nothing to stop.", "bold"))
            return
        below = f" and {target.below} below it" if target.below else ""
        verb = "Make the stop stricter of" if target.status is RunStatus.STOPPING else "Stop"
        about.update(Text(f"{verb} {clean(target.agent)} {target.id}{below}", "bold"))

    def on_rows_chosen(self, event: Rows.Chosen) -> None:
        """Enter on a mode."""
        event.stop()
        self._decide()

    def on_input_submitted(self) -> None:
        """Enter in the reason."""
        self._decide()

    def on_button_pressed(self) -> None:
        """The button."""
        self._decide()

    def action_leave(self) -> None:
        """Stop nothing."""
        self.dismiss(None)

    def _decide(self) -> None:
        chosen = self.query_one(Rows).key
        target = self._target()
        if chosen is None or target is None or StopMode(chosen) not in target.modes:
            return
        reason = self.query_one("#reason", Input).value.strip()
        self.dismiss(Order(StopMode(chosen), reason))


def _line(mode: str, _: int) -> Text:
    return Text.assemble((f"{mode:<9}", "bold"), f" {MODES[StopMode(mode)]}")

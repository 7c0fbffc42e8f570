"""A list of any length, of which only what can be seen is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual import events

# The row under the cursor is marked by more than its colour.
_MARKS = ("  ", "> ")
_CURSOR = Style(reverse=True)


class Rows(ScrollView, can_focus=True):
    """Rows, each known by a key; the cursor stays on its key when others come and go.

    Args:
        draw: makes the line of a key, for that width.
        empty: what is said when there are none.
        opens: whether a row can be chosen.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-1000000)", "First", show=False),
        Binding("end", "move(1000000)", "Last", show=False),
        Binding("enter", "choose", "Open"),
    ]

    class Moved(Message):
        """The cursor stands on another key."""

    class Chosen(Message):
        """The row under the cursor was chosen."""

    def __init__(
        self, draw: Callable[[str, int], Text], empty: str, *, id: str, opens: bool = False
    ) -> None:
        super().__init__(id=id)
        self._opens = opens
        self._draw = draw
        self._empty = empty
        self._keys: Sequence[str] = ()
        self._at = 0

    @property
    def key(self) -> str | None:
        """The key under the cursor; None if there are no rows."""
        return self._keys[self._at] if self._keys else None

    def fill(self, keys: Sequence[str]) -> None:
        """Show these, and draw anew what can be seen."""
        before = self.key
        if keys != self._keys:
            self._keys = keys
            self.virtual_size = Size(self.size.width, len(keys))
            # What is no more leaves its place to the next one.
            at = keys.index(before) if before in keys else min(self._at, len(keys) - 1)
            self._go(max(at, 0))
        if self.key != before:
            self.post_message(self.Moved())
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Draw one line of what can be seen."""
        width = self.size.width
        index = y + self.scroll_offset.y
        if index >= len(self._keys):
            text = Text(self._empty if not self._keys and y == 0 else "")
            marked = False
        else:
            marked = index == self._at
            text = Text(_MARKS[marked]).append(self._draw(self._keys[index], width - 2))
        text.truncate(width, overflow="ellipsis", pad=True)
        strip = Strip(text.render(self.app.console)).adjust_cell_length(width)
        strip = strip.apply_style(self.rich_style)
        return strip.apply_style(_CURSOR) if marked and self.has_focus else strip

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Nothing is offered that a row does not do."""
        return self._opens or action != "choose"

    def action_move(self, by: int) -> None:
        """Move the cursor by so many rows."""
        before = self._at
        self._go(max(0, min(self._at + by, len(self._keys) - 1)))
        if self._at != before:
            self.post_message(self.Moved())
            self.refresh()

    def action_page(self, by: int) -> None:
        """Move the cursor by so many screens."""
        self.action_move(by * max(1, self.size.height - 1))

    def action_choose(self) -> None:
        """Choose the row under the cursor."""
        if self._keys:
            self.post_message(self.Chosen())

    def on_click(self, event: events.Click) -> None:
        """Move the cursor there; the second click chooses."""
        index = event.y + self.scroll_offset.y
        if index < len(self._keys):
            self.action_move(index - self._at)
            if event.chain == 2 and self._opens:
                self.action_choose()

    def _go(self, at: int) -> None:
        self._at = at
        self.scroll_to_region(Region(0, at, 1, 1), animate=False, force=True)

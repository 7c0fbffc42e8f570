"""Where a run is shown while it goes on: a live tree in a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
import signal
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import trio
from rich.console import Group
from rich.live import Live
from rich.text import Text

from api.terminal.lines import line_of, say_line
from api.terminal.look import AMBER, GREY, RED, REFRESH_S, clean
from api.terminal.tree import RunTree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager

    from rich.console import Console

    from orchestrator import Event

_SHOW_CURSOR, _HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"
# Without a terminal, a run's progress is told at each such step.
TOLD_PERCENT = 10


class Screen(Protocol):
    """Where a run is shown while it goes on."""

    tree: RunTree

    def show(self, event: Event) -> None:
        """Show what has happened."""

    def say(self, hint: str) -> None:
        """Tell the person at the keyboard something."""

    def asking(self, question: Text) -> AbstractContextManager[Callable[[str], None]]:
        """Ask the person at the keyboard, who types for the time of the body.

        Yields:
            asks again, and says what was wrong.
        """


class LiveScreen:
    """The live tree, drawn anew ten times a second; log lines go above it.

    The hint is always there: it keeps the last line short, so that the ``^C`` which a terminal
    writes behind it does not wrap and put the next picture out of place.

    While somebody types nothing is drawn or printed, which would tear their line apart.
    """

    def __init__(self, console: Console, hint: str) -> None:
        self.tree = RunTree()
        self._console = console
        self._live: Live | None = None
        self._held: list[Text] = []
        self._hint = Text(hint, GREY)

    def show(self, event: Event) -> None:
        self.tree.apply(event)
        is_first = event.type == "run.queued" and event.run_id == event.root_id
        if is_first or event.type == "run.log":
            self._held.append(line_of(event, self.tree))
            self._print_held()

    def say(self, hint: str) -> None:
        self._hint = Text(hint, AMBER)

    @contextmanager
    def asking(self, question: Text) -> Iterator[Callable[[str], None]]:
        self.stop()
        try:
            with _prompt(self._console, question) as ask_again:
                yield ask_again
        finally:
            self.start()

    def start(self) -> None:
        """Begin to draw, below whatever stands there."""
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()
        if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
            signal.signal(signal.SIGTSTP, self._suspend)
        self._print_held()

    def stop(self) -> None:
        """Draw a last time, without the hint, and leave that picture there."""
        if self._live is not None:
            if signal.getsignal(signal.SIGTSTP) == self._suspend:
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            self.draw(hint=False)
            self._live.stop()
            self._live = None

    def _suspend(self, number: int, frame: Any) -> None:
        """Lend the shell the cursor for as long as Ctrl-Z has suspended this process."""
        terminal = self._console.file.fileno()
        os.write(terminal, _SHOW_CURSOR)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Here it goes on: when it is told to, or at once if there is no shell that could do so.
        signal.signal(number, self._suspend)
        os.write(terminal, _HIDE_CURSOR)

    def draw(self, *, hint: bool = True) -> None:
        if self._live is not None:
            lines = [self._hint] if hint else []
            self._live.update(Group(self.tree, *lines), refresh=True)

    async def keep_drawing(self) -> None:
        while True:
            self.draw()
            await trio.sleep(REFRESH_S)

    def _print_held(self) -> None:
        if self._live is not None:
            for line in self._held:
                self._console.print(line)
            self._held.clear()


class PlainScreen:
    """A line for each event of interest; progress in steps."""

    def __init__(self, console: Console) -> None:
        self.tree = RunTree()
        self._console = console
        self._told: dict[str, int] = {}

    def show(self, event: Event) -> None:
        self.tree.apply(event)
        if self._is_of_interest(event):
            say_line(self._console, line_of(event, self.tree))

    def say(self, hint: str) -> None:
        say_line(self._console, hint)

    def asking(self, question: Text) -> AbstractContextManager[Callable[[str], None]]:
        return _prompt(self._console, question)

    def _is_of_interest(self, event: Event) -> bool:
        if event.type == "run.progress":
            step = int(event.data["percent"] // TOLD_PERCENT)
            before = self._told.get(event.run_id, -1)
            self._told[event.run_id] = step
            return step != before
        return not event.type.startswith(("operation.", "run.partial", "run.artifact"))


@asynccontextmanager
async def open_screen(
    console: Console, hint: str = "press Ctrl-C to stop it"
) -> AsyncIterator[Screen]:
    """Show a run for the time of the body: live in a terminal, as lines elsewhere.

    Args:
        hint: what stands below the live tree.
    """
    if not console.is_interactive:
        yield PlainScreen(console)
        return
    screen = LiveScreen(console, hint)
    screen.start()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(screen.keep_drawing)
            yield screen
            nursery.cancel_scope.cancel()
    finally:
        screen.stop()


@contextmanager
def _prompt(console: Console, question: Text) -> Iterator[Callable[[str], None]]:
    def ask_again(why: str) -> None:
        if why:
            say_line(console, Text(clean(why), RED))
        console.print("answer: ", end="")

    say_line(console, question)
    ask_again("")
    try:
        yield ask_again
    finally:
        console.print()

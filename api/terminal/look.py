"""Colours, symbols and words; and text made safe to print."""

from __future__ import annotations

import os
import sys
from datetime import datetime

from rich.console import Console
from rich.spinner import Spinner
from rich.text import Text

from orchestrator import RunStatus

# How often what moves is drawn.
REFRESH_S = 0.1
# The width of what is not a terminal: a file or a pipe.
FILE_WIDTH = 120

GREY, BLUE, CYAN, AMBER, GREEN, RED = "grey58", "blue", "cyan", "yellow", "green", "red"

_LOOK: dict[RunStatus, tuple[str, str]] = {
    RunStatus.QUEUED: ("○", GREY),
    RunStatus.RUNNING: ("●", BLUE),
    RunStatus.PAUSING: ("●", CYAN),
    RunStatus.PAUSED: ("‖", CYAN),
    RunStatus.STOPPING: ("●", AMBER),
    RunStatus.SUCCEEDED: ("✓", GREEN),
    RunStatus.FAILED: ("✗", RED),
    RunStatus.STOPPED: ("■", GREY),
    RunStatus.TIMED_OUT: ("◷", AMBER),
    RunStatus.ABANDONED: ("▲", RED),
    RunStatus.LOST: ("?", RED),
}
_MOVING = (RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.STOPPING)
_SPINNER = Spinner("dots")

# C0, DEL and C1 control characters, and those that turn the direction of writing around.
_CONTROL = dict.fromkeys(
    [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\N{MIDDLE DOT}"
)
_LINE = _CONTROL | {ord("\n"): " ", ord("\r"): " ", ord("\t"): " "}
_BLOCK = _CONTROL | {ord("\n"): "\n", ord("\t"): "\t"}


def open_console(*, error: bool = False) -> Console:
    """Return the console for what is said, whatever stands there."""
    stream = sys.stderr if error else sys.stdout
    # Colours can be forced upon a file, but nothing can move in one.
    live = stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    console = Console(
        stderr=error, highlight=False, markup=False, emoji=False, force_interactive=live
    )
    if not stream.isatty() and "COLUMNS" not in os.environ:
        console.width = FILE_WIDTH
    return console


def clean(text: str) -> str:
    """Return the text as one line without control characters."""
    return str(text).translate(_LINE)


def clean_block(text: str) -> str:
    """Return the text without control characters, with its lines."""
    return text.translate(_BLOCK)


def style_of(status: RunStatus) -> str:
    """Return the colour of a status. Stopped is neutral, never red."""
    return _LOOK[status][1]


def chip(status: RunStatus, at_s: float | None = None) -> Text:
    """Return the status with its symbol.

    Args:
        at_s: the time, so that what moves has a spinner; None for a still picture.
    """
    symbol, style = _LOOK[status]
    if at_s is not None and status in _MOVING:
        frames = _SPINNER.frames
        symbol = frames[int(at_s / REFRESH_S) % len(frames)]
    return Text(f"{symbol} {status.replace('_', ' ')}", style)


def elapsed(seconds: float) -> str:
    """Return a duration as people read it."""
    minutes, rest = divmod(max(seconds, 0), 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}:{minutes:02}:{int(rest):02}"
    return f"{minutes}:{int(rest):02}" if minutes else f"{rest:.1f} s"


def clock_of(at: str) -> str:
    """Return a stamp as local time; with its day, unless that is today."""
    local = datetime.fromisoformat(at).astimezone()
    today = local.date() == datetime.now().astimezone().date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def time_of(at: str | None) -> datetime | None:
    """Return the moment of an RFC 3339 stamp."""
    return None if at is None else datetime.fromisoformat(at)

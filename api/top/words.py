"""Runs as lines of text, for whatever width there is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.cells import set_cell_size
from rich.text import Text

from api.terminal import (
    AMBER,
    GREY,
    QUESTION,
    RED,
    chip,
    clean,
    clock_of,
    elapsed,
    style_of,
    took,
)
from api.top.follow import State
from orchestrator import RunStatus, StopMode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from api.terminal import Node, RunTree
    from api.top.follow import Feed
    from orchestrator import Receipt, RunRecord

STATUS_WIDTH = 12
WIDE = 100
MODES = {
    StopMode.GRACEFUL: "what is in flight may finish; nothing new starts",
    StopMode.NOW: "what is in flight is cut",
    StopMode.KILL: "processes are killed, and what does not exit is let go",
}
_COUNTED = [
    (RunStatus.RUNNING, "running"),
    (RunStatus.STOPPING, "stopping"),
    (RunStatus.PAUSED, "paused"),
    (RunStatus.QUEUED, "queued"),
]


def run_line(run: RunRecord, width: int, *, certain: bool) -> Text:
    """Return a run of the list: status, id, agent, how far, for how long, and what it says.

    Args:
        certain: whether it is known to be so now; what may have ended has no time that goes on.
    """
    wide = width >= WIDE
    doubtful = not certain and not run.status.is_terminal
    line = _cell(chip(run.status).append("?" if doubtful else ""), STATUS_WIDTH)
    line.append(set_cell_size(run.id if wide else short(run.id), 26 if wide else 10), GREY)
    line.append(set_cell_size(clean(run.agent), 24 if wide else 14) + " ", "bold")
    line.append(f"{percent_of(run):>5}  ")
    line.append(f"{'' if doubtful else took(run):>8}  ", GREY)
    return line.append(saying(run))


def node_line(lead: str, node: Node, width: int, *, certain: bool) -> Text:
    """Return a run of the tree; see ``run_line``."""
    now = datetime.now(UTC)
    doubtful = not certain and not node.status.is_terminal
    status = chip(node.status).append("?" if doubtful else "")
    name = Text.assemble((lead, GREY), status, " ", (clean(node.agent), "bold"))
    line = _cell(name, max(30, width * 2 // 5))
    line.append("" if node.percent is None else f"{node.percent:.0f} %  ")
    if node.began is not None and not doubtful:
        line.append(f"{elapsed(((node.ended or now) - node.began).total_seconds())}  ", GREY)
    if node.in_flight:
        line.append(f"{node.in_flight} in flight  ", GREY)
    asked = node.asked(now)
    return line.append(
        f"asks: {clean(asked)}" if asked else clean(node.message), QUESTION * bool(asked)
    )


def head_lines(run: RunRecord, tree: RunTree) -> Text:
    """Return what stands above a run's tree: which it is, and what is most worth knowing."""
    until = f"  until {clock_of(run.deadline_at)}" if run.deadline_at else ""
    first = Text.assemble(
        (clean(run.agent), "bold"),
        (f"  {run.id}  ", GREY),
        chip(run.status),
        f"  {took(run)}{until}",
    )
    return Text("\n").join([first, _stop_words(run, tree) or saying(run)])


def saying(run: RunRecord) -> Text:
    """Return what is most worth knowing of a run, in one line."""
    if run.status is RunStatus.STOPPING or (run.stop is not None and run.error is None):
        return Text(_stop_of(run.status, run.stop), style_of(run.status))
    if run.waiting_for is not None:
        return Text(f"asks: {clean(run.waiting_for.question)}", QUESTION)
    if run.error is not None:
        return Text(clean(f"{run.error.type}: {run.error.message}"), RED)
    return Text(clean(run.progress.message))


def _stop_of(status: RunStatus, stop: Receipt | None) -> str:
    if stop is None:
        return "asked to stop"
    by = clean(stop.requested_by) if stop.requested_by not in ("", "anonymous") else stop.source
    why = f": {clean(stop.reason)}" if stop.reason else ""
    if status is RunStatus.STOPPING:
        return f"{stop.mode} by {by} since {clock_of(stop.requested_at)}{why}"
    after = "" if stop.seconds is None else f" in {stop.seconds:.3f} s"
    return f"by {by}{after}{why}"


def _stop_words(run: RunRecord, tree: RunTree) -> Text | None:
    """Return who stops it and what that waits for; None if nobody does."""
    if run.status is not RunStatus.STOPPING:
        return None
    flight = sum(node.in_flight for _, node in tree.rows(live=True))
    waits = f"waits for {flight} in flight" if flight else "cleaning up"
    return Text(f"{_stop_of(run.status, run.stop)} · {waits}", AMBER)


def state_line(url: str, feeds: Iterable[Feed], runs: list[RunRecord]) -> Text:
    """Return whether what is shown is true now, how many runs there are, and of which server."""
    counts = [(sum(run.status is status for run in runs), word) for status, word in _COUNTED]
    numbers = "  ".join(f"{n} {word}" for n, word in counts if n)
    asking = sum(run.waiting_for is not None for run in runs)
    return Text.assemble(
        connection(feeds),
        f"  {numbers}",
        (f"  {asking} asking" if asking else "", QUESTION),
        (f"  {url}", GREY),
    )


def connection(feeds: Iterable[Feed]) -> Text:
    """Return how far what is shown can be trusted: as far as the worst of its feeds."""
    worst = max(feeds, key=lambda feed: _TRUST.index(feed.state))
    match worst.state:
        case State.LIVE | State.OVER:
            return Text("● live", "green")
        case State.CONNECTING:
            return Text("○ reading: this may be out of date", AMBER)
        case State.OFFLINE:
            since = worst.heard.strftime("%H:%M:%S")
            return Text(f"✗ NO CONNECTION: this is what was known at {since}", f"bold {RED}")


_TRUST = [State.OVER, State.LIVE, State.CONNECTING, State.OFFLINE]


def percent_of(run: RunRecord) -> str:
    """Return how far a run says that it is; empty if it says nothing."""
    return f"{run.progress.percent:.0f} %" if run.progress.percent else ""


def short(run_id: str) -> str:
    """Return so much of an id as tells runs apart at a glance."""
    return run_id.removeprefix("run_")[:8]


def _cell(text: Text, width: int) -> Text:
    text.truncate(width - 1, overflow="ellipsis", pad=True)
    return text.append(" ")

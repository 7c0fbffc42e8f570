"""Receipts, lists, and JSON within bounds."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.table import Table
from rich.text import Text

from api.terminal.look import (
    GREY,
    RED,
    chip,
    clean,
    clean_block,
    clock_of,
    elapsed,
    style_of,
    time_of,
)
from api.terminal.questions import QUESTION, usage_words
from orchestrator import RunStatus, StopMode, StopOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import Console

    from orchestrator import Progress, Receipt, RunError, RunRecord

# Of JSON and of lists within a receipt so much is shown.
SHOWN_LINES = 40
SHOWN_CHARS = 4000
SHOWN_ITEMS = 10
SHOWN_TRACE = 12

# What a list of runs can do without on a narrow screen.
_LEFT_OUT_FIRST = ("began", "took", "progress")
AGENT_WIDTH = 12
# Columns of a screen between two of a list, and around it.
BETWEEN = 3

_OUTCOMES = {
    StopOutcome.STOPPING: (RunStatus.STOPPING, "not settled yet"),
    StopOutcome.STOPPED: (
        RunStatus.STOPPED,
        "every task has exited and every client is closed",
    ),
    StopOutcome.FINISHED_FIRST: (
        RunStatus.SUCCEEDED,
        "it had finished before the stop could take effect",
    ),
    StopOutcome.ABANDONED: (RunStatus.ABANDONED, "its code would not exit and was let go"),
    StopOutcome.LOST: (RunStatus.LOST, "its process died, so its end could not be seen"),
}
_RUNGS = {
    StopMode.GRACEFUL: "everything in flight finished",
    StopMode.NOW: "something in flight was cut",
    StopMode.KILL: "a process was killed, or code was abandoned",
}


def receipt_table(receipt: Receipt) -> Table:
    """Return the account of a stop as a table of two columns."""
    status, meaning = _OUTCOMES[receipt.outcome]
    table = Table(
        box=box.ROUNDED, title="Receipt", title_style="bold", border_style=GREY, show_header=False
    )
    table.add_column(style=GREY, no_wrap=True)
    table.add_column(overflow="fold")
    outcome = receipt.outcome.replace("_", " ")
    table.add_row("outcome", Text.assemble((outcome, f"bold {style_of(status)}"), f": {meaning}"))
    for name, value in _receipt_rows(receipt):
        table.add_row(name, Text(value))
    return table


def _receipt_rows(receipt: Receipt) -> Iterator[tuple[str, str]]:
    by = f" ({clean(receipt.requested_by)})" if receipt.requested_by else ""
    mode = f"{receipt.mode} at the strictest, first" if receipt.also else f"{receipt.mode},"
    yield "asked", f"{mode} by {receipt.source}{by}, at {clock_of(receipt.requested_at)}"
    if receipt.reason:
        yield "reason", clean(receipt.reason)
    settled = receipt.outcome is not StopOutcome.STOPPING
    meaning, so_far = (f": {_RUNGS[receipt.reached]}", "") if settled else (" so far", " so far")
    yield "reached", f"{receipt.reached}{meaning}"
    if receipt.seconds is not None:
        yield "took", f"{receipt.seconds:.3f} s"
    yield "runs stopped", f"{receipt.runs_stopped}, previously {receipt.previous_status}"
    counts = receipt.operations
    counted = f"{counts.finished} finished, {counts.cut} cut, {counts.refused} refused"
    yield "operations", f"{counted}{so_far}"
    yield "clients closed", str(receipt.clients_closed)
    if receipt.processes_killed:
        pids = ", ".join(map(str, receipt.killed_pids))
        yield "processes killed", f"{receipt.processes_killed}" + (f" ({pids})" if pids else "")
    if receipt.critical_s:
        yield "held back", f"{receipt.critical_s:.3f} s by critical sections"
    if receipt.error is not None:
        yield "error", clean(f"{receipt.error.type}: {receipt.error.message}")
    yield from _listed("cleanup error", receipt.cleanup_errors)
    standing = (f"{s.agent} at {s.file}:{s.line} in {s.function}" for s in receipt.still_running)
    yield from _listed("still running", standing)
    yield from _listed("left alone", (f"{run_id} (detached)" for run_id in receipt.detached))
    later = (
        f"{r.mode}, by {r.source}, at {clock_of(r.requested_at)}{': ' * bool(r.reason)}{r.reason}"
        for r in receipt.also
    )
    yield from _listed("asked again", later)


def _listed(name: str, items: Iterable[str]) -> Iterator[tuple[str, str]]:
    found = [clean(item) for item in items]
    if len(found) > SHOWN_ITEMS:
        found[SHOWN_ITEMS:] = [f"… and {len(found) - SHOWN_ITEMS} more"]
    if found:
        yield name, "\n".join(found)


def runs_table(records: Sequence[RunRecord], width: int) -> Group:
    """Return a list of runs, one a row, and under it what they ask, each on a line of its own.

    Args:
        width: in columns. What a narrow screen has no room for is left out; never the id.
    """
    columns = _columns(records)
    for name in _LEFT_OUT_FIRST:
        if _width(columns) > width:
            del columns[name]
    if _width(columns) > width:
        columns = {"": [chip[:1] for chip in columns.pop("status")], **columns}
    table = _list_table(*columns)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    asking = [
        Text(f"{record.id} asks: ").append(clean(record.waiting_for.question), QUESTION)
        for record in records
        if record.waiting_for is not None
    ]
    return Group(table, *asking)


def _columns(records: Sequence[RunRecord]) -> dict[str, list[Text]]:
    return {
        "status": [chip(each.status) for each in records],
        "id": [Text(each.id) for each in records],
        "agent": [Text(clean(each.agent)) for each in records],
        "progress": [Text(_done(each.progress)) for each in records],
        "began": [Text(clock_of(each.started_at or each.created_at)) for each in records],
        "took": [Text(took(each)) for each in records],
    }


def _done(progress: Progress) -> str:
    return f"{progress.percent:.0f} %" if progress.percent or progress.message else ""


def _width(columns: dict[str, list[Text]]) -> int:
    """Return how wide a list of such columns is, with long names of agents in several lines."""
    needed = {name: max(map(cell_len, [name, *map(str, cells)])) for name, cells in columns.items()}
    needed["agent"] = min(needed["agent"], AGENT_WIDTH)
    return sum(needed.values()) + BETWEEN * len(needed)


def took(record: RunRecord) -> str:
    """Return how long a run took, or has run by now; empty if it never began."""
    began, ended = time_of(record.started_at), time_of(record.ended_at)
    if began is None:
        return ""
    return elapsed(((ended or datetime.now(UTC)) - began).total_seconds())


def agents_table(agents: Iterable[dict[str, Any]]) -> Table:
    """Return a list of agents with what they take."""
    table = _list_table("agent", "input", "what it does")
    for agent in agents:
        first_line = (agent["description"] or "").partition("\n")[0]
        inputs = " ".join(_inputs(agent["input_schema"]))
        table.add_row(
            Text(clean(agent["name"]), "bold"), Text(clean(inputs)), Text(clean(first_line))
        )
    return table


def _inputs(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the names of an input: those in brackets may be left out."""
    required = schema.get("required", [])
    for name in schema.get("properties", {}):
        yield f"{name}=" if name in required else f"[{name}=]"


def _list_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, border_style=GREY, header_style=GREY, pad_edge=False)
    for name in columns:
        table.add_column(
            name,
            no_wrap=name in ("", "status", "id", "progress", "took", "began"),
            overflow="fold",
        )
    return table


def json_block(value: Any, where: str = "", *, whole: bool = False) -> Text:
    """Return JSON, indented, and not more of it than fits a screen.

    Args:
        where: how to see all of it.
        whole: it is not for a screen, so all of it.
    """
    text = clean_block(json.dumps(value, indent=2, ensure_ascii=False))
    if whole:
        return Text(text)
    lines = text[:SHOWN_CHARS].splitlines()[:SHOWN_LINES]
    shown = "\n".join(lines)
    block = Text(shown)
    if len(shown) < len(text):
        rest = f"\n… {len(text) - len(shown)} more characters"
        block.append(rest + (f"; {where}" if where else ""), GREY)
    return block


def print_json(console: Console, label: str, value: Any, where: str = "") -> None:
    """Print JSON behind a label: so much as fits a screen, and elsewhere all, with no line broken.

    Args:
        where: how to see all of it, on a screen.
    """
    whole = not console.is_interactive
    console.print(label, json_block(value, where, whole=whole), soft_wrap=whole)


def print_end(console: Console, record: RunRecord, partial: Any, where: str = "") -> None:
    """Print what a run has brought and spent, and last, where a screen ends, what became of it.

    Args:
        where: how to see all of what it has brought.
    """
    if record.status is RunStatus.SUCCEEDED:
        print_json(console, "result:", record.result, where)
    elif partial is not None:
        print_json(console, "partial result:", partial, where)
    if spent := usage_words(record.usage):
        console.print("spent:", spent)
    if record.error is not None:
        whole = not console.is_interactive
        console.print(error_block(record.error, whole=whole), soft_wrap=whole)
    if record.stop is not None:
        console.print(receipt_table(record.stop))


def error_block(error: RunError, *, whole: bool = False) -> Text:
    """Return an error with the end of its traceback, where it happened.

    Args:
        whole: it is not for a screen, so with all of its traceback.
    """
    said = error.traceback or f"{error.type}: {error.message}"
    *trace, last = clean_block(said).strip().splitlines()[0 if whole else -SHOWN_TRACE :]
    return Text.assemble(("".join(f"{line}\n" for line in trace), GREY), (last, RED))

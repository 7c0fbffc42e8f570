"""A run and its sub-agents as a tree, fed with events or with records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from api.sse import ending_of
from api.terminal.look import GREY, chip, clean, elapsed, style_of, time_of
from api.terminal.questions import QUESTION, asked_by
from orchestrator import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from orchestrator import Event, Question, RunRecord

# Of the children of one run so many are shown, the live ones first; and of the tree so many rows
# and so many levels.
SHOWN_CHILDREN = 10
SHOWN_ROWS = 40
SHOWN_LEVELS = 8
# Columns below which there is no bar, and of the figures the time only.
NARROW = 60


@dataclass(slots=True, eq=False)
class Node:
    """One run in the tree."""

    id: str
    agent: str
    status: RunStatus = RunStatus.QUEUED
    percent: float | None = None
    message: str = ""
    began: datetime | None = None
    ended: datetime | None = None
    in_flight: int = 0
    steps: int = 0
    questions: dict[str, Question] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)
    parent: Node | None = None

    def asked(self, now: datetime) -> str:
        """Return the oldest question that waits for an answer; empty if none does."""
        for question in self.questions.values():
            until = time_of(question.until_at)
            if until is None or now < until:
                return question.question
        return ""


class RunTree:
    """A run and its sub-agents as they are by the events seen so far; rich can draw it.

    Args:
        now: the wall clock, for how long what runs has run.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._nodes: dict[str, Node] = {}
        self._still = False
        self.root: Node | None = None

    @classmethod
    def of(cls, records: Sequence[RunRecord]) -> RunTree:
        """Return the tree of runs, parents before children."""
        tree = cls()
        tree._still = True
        for record in records:
            node = tree._add(record.id, record.agent, record.parent_id)
            node.status = record.status
            node.began, node.ended = time_of(record.started_at), time_of(record.ended_at)
            if record.waiting_for is not None:
                node.questions[record.waiting_for.id] = record.waiting_for
            if record.progress.percent or record.progress.message:
                node.percent, node.message = record.progress.percent, record.progress.message
        return tree

    def name(self, run_id: str) -> str:
        """Return the agent of a run, with the end of its id if it is not the root."""
        node = self._nodes.get(run_id)
        agent = node.agent if node is not None else "run"
        return clean(agent if node is self.root else f"{agent}·{run_id[-4:]}")

    def node(self, run_id: str) -> Node | None:
        """Return a run of the tree; None if it is none of it."""
        return self._nodes.get(run_id)

    def rows(self, *, live: bool = False, keep: str | None = None) -> list[tuple[str, Node]]:
        """Return every run with the lines that lead to it, parents before children.

        Args:
            live: leave out what has ended, except the root.
            keep: the id of a run that is not left out, nor is any above it.
        """
        kept: list[Node] = []
        node = self._nodes.get(keep or "")
        while node is not None:
            kept.append(node)
            node = node.parent
        found: list[tuple[str, Node]] = []
        todo = [("", "", self.root)] if self.root is not None else []
        while todo:
            lead, below, node = todo.pop()
            found.append((lead, node))
            wanted = [
                each
                for each in node.children
                if not (live and each.status.is_terminal) or each in kept
            ]
            branches = [
                (below + ("├─ ", "└─ ")[last], below + ("│  ", "   ")[last], child)
                for child in wanted
                for last in [child is wanted[-1]]
            ]
            todo.extend(reversed(branches))
        return found

    def apply(self, event: Event) -> None:
        """Take in what has happened. Events come in their order, from the first one on."""
        data = event.data
        if event.type == "run.queued":
            self._add(event.run_id, data["agent"], data["parent_id"])
        node = self._nodes.get(event.run_id)
        if node is None:
            return
        match event.type:
            case "run.started":
                node.status, node.began = RunStatus.RUNNING, time_of(event.at)
            case "run.resumed":
                node.status = RunStatus.RUNNING
            case "run.pausing" | "run.paused" | "run.stopping":
                node.status = RunStatus(event.type.removeprefix("run."))
            case "run.progress":
                node.percent, node.message = data["percent"], data["message"]
            case "operation.started":
                node.in_flight += 1
            case "operation.finished" | "operation.cut":
                node.in_flight -= 1
            case "step.finished":
                node.steps += 1
            case "run.asked":
                node.questions[data["question_id"]] = asked_by(event)
            case "run.answered":
                node.questions.pop(data["question_id"], None)
        status = ending_of(event)
        if status is not None or event.type == "run.stopping":
            node.questions.clear()
        if status is not None:
            node.status, node.ended, node.in_flight = status, time_of(event.at), 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = self._now()
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        # A narrow screen has room for the percentage only.
        bar = 24 if options.max_width >= 100 else 12 if options.max_width >= NARROW else 0
        grid.add_column(no_wrap=True)
        if bar:
            grid.add_column(width=bar)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        grid.add_column(justify="right", no_wrap=True)
        rows = _rows(self.root) if self.root is not None else iter(())
        for lead, content in islice(rows, SHOWN_ROWS):
            grid.add_row(*_cells(lead, content, now, bar, still=self._still))
        yield grid
        if next(rows, None) is not None:
            yield Text("… and more; `quiesce ls --all` lists every run", GREY)

    def _add(self, run_id: str, agent: str, parent_id: str | None) -> Node:
        if run_id in self._nodes:
            return self._nodes[run_id]
        node = self._nodes[run_id] = Node(run_id, agent)
        parent = self._nodes.get(parent_id or "")
        if parent is not None:
            node.parent = parent
            parent.children.append(node)
        self.root = self.root or node
        return node


def _rows(node: Node, lead: str = "", below: str = "") -> Iterator[tuple[str, Node | str]]:
    """Yield the node and what is shown below it, each with the lines that lead to it."""
    yield lead, node
    shown = _most_telling(node.children) if len(below) < SHOWN_LEVELS * 3 else []
    rest = Counter(child.status for child in node.children if child not in shown)
    for child in shown:
        last = child is shown[-1] and not rest
        yield from _rows(
            child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")
        )
    if rest:
        counts = ", ".join(f"{count} {status}" for status, count in rest.items())
        yield f"{below}└─ ", f"… {counts}"


def _most_telling(nodes: list[Node]) -> list[Node]:
    """Return those that are shown, in their order: what is live first, then the latest."""
    if len(nodes) <= SHOWN_CHILDREN:
        return nodes
    ranked = sorted(
        range(len(nodes)),
        key=lambda n: (nodes[n].status.is_terminal, nodes[n].status is RunStatus.QUEUED, -n),
    )
    return [nodes[n] for n in sorted(ranked[:SHOWN_CHILDREN])]


def _cells(
    lead: str, content: Node | str, now: datetime, bar: int, *, still: bool
) -> tuple[RenderableType, ...]:
    if isinstance(content, str):
        return (Text(lead + content, GREY),)
    name = Text.assemble(
        (lead, GREY),
        chip(content.status, None if still else now.timestamp()),
        " ",
        clean(content.agent),
    )
    times = Text(style=GREY)
    if content.in_flight > 0 and bar:
        times.append(f"{content.in_flight} in flight  ")
    if content.steps and bar:
        times.append(f"{content.steps} step{'s' * (content.steps > 1)}  ")
    if content.began is not None:
        times.append(elapsed(((content.ended or now) - content.began).total_seconds()))
    asked = content.asked(now)
    said = Text(f"asks: {clean(asked)}", QUESTION) if asked else Text(clean(content.message))
    if content.percent is None:
        return name, *[""] * bool(bar), "", said, times
    style = style_of(content.status)
    done = ProgressBar(
        100, content.percent, bar, complete_style=style, finished_style=style, style="grey23"
    )
    return name, *[done] * bool(bar), f"{content.percent:.0f} %", said, times

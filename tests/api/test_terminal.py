"""How runs look: the tree, the lines, the receipt, and that strangers' text stays text."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import trio
from rich.console import Console
from rich.text import Text

from api.terminal import (
    RunTree,
    agents_table,
    chip,
    clean,
    error_block,
    json_block,
    line_of,
    open_console,
    open_screen,
    print_end,
    question_block,
    receipt_table,
    runs_table,
    usage_words,
)
from api.terminal.look import elapsed, style_of
from api.terminal.questions import wanted_in
from orchestrator import (
    Event,
    Progress,
    Question,
    Receipt,
    RunError,
    RunId,
    RunRecord,
    RunStatus,
    StopMode,
    StopOutcome,
    StopSource,
    Usage,
)
from orchestrator.model import OperationCounts, Standing, StopRequest

if TYPE_CHECKING:
    from trio.testing import MockClock

AT = "2026-11-21T12:00:00.000Z"
ROOT = RunId("run_root")


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(datetime.fromisoformat(AT).timestamp() + seconds, UTC)


class Feed:
    """Makes the events of one tree, at seconds after ``AT``."""

    def __init__(self) -> None:
        self.seq = 0

    def __call__(self, type: str, run_id: str = ROOT, s: float = 0, **data: Any) -> Event:
        self.seq += 1
        stamp = at(s).isoformat()
        return Event(self.seq, RunId(run_id), ROOT, type, stamp, data)

    def ended(self, status: str, run_id: str = ROOT, s: float = 0, **data: Any) -> Event:
        ending: dict[str, Any] = {"status": status, "result": None, "error": None, "receipt": None}
        return self(f"run.{status}", run_id, s, **(ending | data))

    def begun(self, run_id: str, agent: str, parent: str | None, s: float = 0) -> list[Event]:
        return [
            self("run.queued", run_id, s, agent=agent, parent_id=parent),
            self("run.started", run_id, s, agent=agent, attempt=1),
        ]


@pytest.fixture
def feed() -> Feed:
    """A maker of events."""
    return Feed()


def tree_of(*events: Event | list[Event], s: float = 0) -> RunTree:
    tree = RunTree(now=lambda: at(s))
    for each in events:
        for event in each if isinstance(each, list) else [each]:
            tree.apply(event)
    return tree


def drawn(renderable: Any, width: int = 80, *, color: bool = False) -> list[str]:
    out = io.StringIO()
    console = Console(
        file=out,
        width=width,
        height=50,
        force_terminal=color,
        color_system="standard" if color else None,
        markup=False,
        highlight=False,
    )
    console.print(renderable)
    return [line.rstrip() for line in out.getvalue().splitlines()]


RECEIPT = Receipt(
    mode=StopMode.GRACEFUL,
    reached=StopMode.GRACEFUL,
    requested_at=AT,
    requested_by="ada",
    source=StopSource.USER,
    reason="enough",
    previous_status=RunStatus.RUNNING,
    settled_at=AT,
    seconds=0.25,
    outcome=StopOutcome.STOPPED,
    runs_stopped=3,
    operations=OperationCounts(finished=2, cut=0, refused=1),
    clients_closed=1,
)


QUESTION: dict[str, Any] = {
    "question_id": "q1",
    "question": "Go on?",
    "schema": {"enum": ["yes", "no"], "type": "string"},
    "until_at": None,
}

# The tree


def test_the_tree_at_80_columns(feed: Feed) -> None:
    tree = tree_of(
        feed.begun(ROOT, "digest", None),
        feed.begun("run_a", "summarise", ROOT, s=1),
        feed.begun("run_b", "summarise", ROOT, s=1),
        feed("run.queued", "run_c", agent="summarise", parent_id=ROOT),
        feed("run.progress", percent=50, message="half of everything that was to be done"),
        feed("run.progress", "run_a", percent=100, message="done"),
        feed("operation.started", "run_b", operation=1, kind="http", label="GET /"),
        feed.ended("succeeded", "run_a", s=3),
        s=4,
    )
    lines = drawn(tree)

    spinner = lines[0][0]
    columns = "{:26}{:12}  {:>5}  {:13}  {:>18}"
    assert lines == [
        columns.format(f"{spinner} running digest", "━" * 6, "50 %", "half of ever…", "4.0 s"),
        columns.format("├─ ✓ succeeded summarise", "━" * 12, "100 %", "done", "2.0 s"),
        columns.format(f"├─ {spinner} running summarise", "", "", "", "1 in flight  3.0 s"),
        "└─ ○ queued summarise",
    ]


def test_the_tree_at_120_columns_has_room(feed: Feed) -> None:
    tree = tree_of(
        feed.begun(ROOT, "digest", None),
        feed("run.progress", percent=50, message="half of everything that was to be done"),
        s=75,
    )
    (line,) = drawn(tree, 120)
    assert "━" * 12 + " " in line
    assert "half of everything that was to be done" in line
    assert line.endswith(" 1:15")


def test_what_moves_has_a_spinner_and_what_is_over_stands_still(feed: Feed) -> None:
    events = [*feed.begun(ROOT, "digest", None)]
    moving = {drawn(tree_of(events, s=n / 10))[0][0] for n in range(10)}
    events.append(feed.ended("stopped"))
    still = {drawn(tree_of(events, s=n / 10))[0][0] for n in range(10)}
    assert len(moving) > 5
    assert still == {"■"}


def test_a_wide_tree_shows_what_is_live_and_counts_the_rest(feed: Feed) -> None:
    events = [*feed.begun(ROOT, "map", None)]
    for n in range(30):
        events += feed.begun(f"run_{n:02}", f"leaf{n}", ROOT)
    events += [feed.ended("succeeded", f"run_{n:02}") for n in range(20)]
    events += [feed("run.queued", f"run_{n}", agent=f"leaf{n}", parent_id=ROOT) for n in (30, 31)]
    lines = drawn(tree_of(events))

    assert [line.split()[3] for line in lines[1:-1]] == [f"leaf{n}" for n in range(20, 30)]
    assert lines[-1] == "└─ … 20 succeeded, 2 queued"


def test_a_huge_tree_has_an_end(feed: Feed) -> None:
    events = [*feed.begun(ROOT, "deep", None)]
    parent = ROOT
    for n in range(2000):
        events += feed.begun(f"run_{n}", "deep", parent)
        parent = RunId(f"run_{n}")
    lines = drawn(tree_of(events))
    assert len(lines) == 10
    assert lines[-1].endswith("… 1 running")

    events = [*feed.begun(ROOT, "wide", None)]
    for a in range(10):
        events += feed.begun(f"run_{a}", "wide", ROOT)
        for b in range(10):
            events += feed.begun(f"run_{a}_{b}", "leaf", f"run_{a}")
    lines = drawn(tree_of(events))
    assert len(lines) == 41
    assert lines[-1].startswith("… and more")


def test_a_tree_of_records_is_a_still_picture() -> None:
    record = RunRecord(
        id=ROOT,
        root_id=ROOT,
        agent="digest",
        status=RunStatus.RUNNING,
        created_at=AT,
        started_at=AT,
        ended_at=at(90).isoformat(),
        progress=Progress(percent=25, message="a quarter"),
    )
    child = replace(record, id=RunId("run_child"), parent_id=ROOT, status=RunStatus.STOPPED)
    assert drawn(RunTree.of([record, child])) == [
        "● running digest     ━━━           25 %  a quarter                          1:30",
        "└─ ■ stopped digest  ━━━           25 %  a quarter                          1:30",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-1, "0.0 s"), (3.21, "3.2 s"), (60, "1:00"), (3661.9, "1:01:01")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert elapsed(seconds) == shown


def test_the_tree_shows_what_is_paused_and_what_is_asked(feed: Feed) -> None:
    events = [
        *feed.begun(ROOT, "digest", None),
        *feed.begun("run_a", "leaf", ROOT),
        feed("run.progress", "run_a", percent=50, message="half"),
        feed("run.asked", "run_a", **QUESTION),
        feed("run.asked", "run_a", **(QUESTION | {"question_id": "q2", "question": "Sure?"})),
        feed("step.finished", "run_a", name="build", seconds=1, reused=False),
        feed("run.pausing", "run_a", requested_by="", reason=""),
        feed("run.pausing", requested_by="", reason=""),
        feed("run.paused", "run_a"),
    ]
    root, leaf = drawn(tree_of(events, s=1), 120)
    assert root[1:].startswith(" pausing digest")
    assert leaf.startswith("└─ ‖ paused leaf")
    assert "asks: Go on?" in leaf
    assert leaf.endswith("1 step  1.0 s")
    events.append(feed("run.answered", "run_a", question_id="q1", answer="", answered_by=""))
    assert "asks: Sure?" in drawn(tree_of(events), 120)[1]
    events.append(feed("run.stopping", "run_a", mode="now", grace_s=0, source="user", reason=""))
    assert "asks" not in drawn(tree_of(events), 120)[1]


def test_a_question_whose_time_is_over_is_shown_no_more(feed: Feed) -> None:
    asked = feed("run.asked", **(QUESTION | {"until_at": at(10).isoformat()}))
    events = [*feed.begun(ROOT, "digest", None), asked]
    assert "asks: Go on?" in drawn(tree_of(events, s=9))[0]
    assert "asks" not in drawn(tree_of(events, s=11))[0]


# Questions, and what was spent


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({}, "anything"),
        ({"type": "boolean"}, "true or false"),
        ({"type": "string", "title": "Name"}, "a text"),
        ({"enum": ["a", 1]}, 'one of "a", 1'),
        ({"type": "array"}, '{"type": "array"}'),
        ({"description": "x" * 1000}, '{"description": "' + "x" * 183 + "…"),
        (True, "true"),
    ],
)
def test_what_would_be_an_answer(schema: Any, words: str) -> None:
    assert wanted_in(schema) == words


def test_lists_say_what_is_asked_if_anything_is() -> None:
    record = RunRecord(
        id=ROOT, root_id=ROOT, agent="digest", status=RunStatus.RUNNING, created_at=AT
    )
    question = Question(id="q1", question="Go on?", schema={}, asked_at=AT)
    asking = replace(record, id=RunId("run_other"), waiting_for=question)
    assert "asks" not in "".join(drawn(runs_table([record], 80), 80))
    *rows, last = drawn(runs_table([record, asking], 80), 80)
    assert "Go on?" not in "".join(rows)
    assert last == "run_other asks: Go on?"


@pytest.mark.parametrize(
    ("width", "columns"),
    [
        (100, ["status", "id", "agent", "progress", "began", "took"]),
        (75, ["status", "id", "agent", "progress", "took"]),
        (66, ["status", "id", "agent", "progress"]),
        (55, ["status", "id", "agent"]),
        (45, ["id", "agent"]),
    ],
)
def test_a_narrow_list_keeps_whole_ids(width: int, columns: list[str]) -> None:
    run_id = RunId("run_654bacb58ab1f0123456")
    record = RunRecord(
        id=run_id, root_id=run_id, agent="digest", status=RunStatus.SUCCEEDED, created_at=AT
    )
    head, _, row = drawn(runs_table([record], width), width)[1:4]
    assert head.split() == columns
    assert f" {run_id} " in row
    assert "digest" in row
    assert ("succeeded" in row) == ("status" in columns)


def test_a_narrow_tree_shows_percentages_rather_than_bars(feed: Feed) -> None:
    tree = tree_of(
        feed.begun(ROOT, "digest", None), feed("run.progress", percent=40, message="page 4 of 10")
    )
    (line,) = drawn(tree, 40)
    assert line.split()[1:5] == ["running", "digest", "40", "%"]
    assert "━" not in line


def test_what_was_spent() -> None:
    assert usage_words(Usage()) == ""
    assert usage_words(Usage(requests=2, input_tokens=10, output_tokens=3)) == (
        "2 model calls, 10 tokens in, 3 out"
    )
    assert usage_words(Usage(requests=1, cost=0.00123)).endswith(", $0.0012")


# Colours


def test_stopped_is_never_red() -> None:
    assert style_of(RunStatus.STOPPED).startswith("grey")
    assert style_of(RunStatus.STOPPING) == "yellow"
    assert style_of(RunStatus.PAUSING) == style_of(RunStatus.PAUSED) == "cyan"
    assert style_of(RunStatus.RUNNING) == "blue"
    assert style_of(RunStatus.SUCCEEDED) == "green"
    assert style_of(RunStatus.FAILED) == "red"
    red = {status for status in RunStatus if style_of(status) == "red"}
    assert red == {RunStatus.FAILED, RunStatus.ABANDONED, RunStatus.LOST}


def test_every_status_has_a_symbol_of_one_column() -> None:
    for status in RunStatus:
        symbol, _, word = chip(status).plain.partition(" ")
        assert word == status.replace("_", " ")
        assert Text(symbol).cell_len == 1
        assert chip(status, 0.5).cell_len == chip(status).cell_len


def test_no_red_in_what_is_said_of_a_stopped_run(feed: Feed) -> None:
    tree = tree_of(feed.begun(ROOT, "digest", None), feed.ended("stopped"))
    red = "\x1b[31m"
    said = drawn(tree, color=True) + drawn(receipt_table(RECEIPT), color=True)
    said += drawn(line_of(feed.ended("stopped"), tree), color=True)
    assert not [line for line in said if red in line]
    failed = feed.ended("failed", error={"type": "ValueError", "message": "no"})
    assert red in drawn(line_of(failed, tree), color=True)[0]


# Text of strangers


HOSTILE = "a\x1b[2Jb\x07c\rd\ne\tf\x9b31mg\x7fh\u202ei [bold]j[/] :smile:"
HARMLESS = "a·[2Jb·c d e f·31mg·h·i [bold]j[/] :smile:"


def test_control_characters_are_taken_out() -> None:
    assert clean(HOSTILE) == HARMLESS


def test_nothing_that_is_shown_lets_control_characters_through(feed: Feed) -> None:
    error = {"type": HOSTILE, "message": HOSTILE, "traceback": HOSTILE}
    tree = tree_of(
        feed.begun(ROOT, HOSTILE, None), feed("run.progress", percent=1, message=HOSTILE)
    )
    request = StopRequest(
        mode=StopMode.NOW,
        grace_s=0,
        source=StopSource.USER,
        requested_by=HOSTILE,
        requested_at=AT,
        reason=HOSTILE,
    )
    receipt = replace(
        RECEIPT,
        reason=HOSTILE,
        requested_by=HOSTILE,
        cleanup_errors=(HOSTILE,),
        error=RunError(**error),
        still_running=(
            Standing(run_id=ROOT, agent=HOSTILE, file=HOSTILE, line=1, function=HOSTILE),
        ),
        also=(request,),
    )
    record = RunRecord(
        id=ROOT, root_id=ROOT, agent=HOSTILE, status=RunStatus.RUNNING, created_at=AT
    )
    schema: dict[str, Any] = {"properties": {HOSTILE: {}}}
    shown = [
        tree,
        receipt_table(receipt),
        runs_table([record], 80),
        agents_table([{"name": HOSTILE, "description": HOSTILE, "input_schema": schema}]),
        json_block({HOSTILE: HOSTILE}),
        error_block(RunError(**error)),
        line_of(feed("run.log", message=HOSTILE, level="info"), tree),
        line_of(feed("run.artifact", name=HOSTILE, size=1), tree),
        line_of(feed("some.thing", name=HOSTILE), tree),
        line_of(feed("run.asked", **(QUESTION | {"question": HOSTILE})), tree),
        line_of(feed("run.answered", question_id="", answer=HOSTILE, answered_by=""), tree),
        line_of(feed("run.pausing", requested_by=HOSTILE, reason=HOSTILE), tree),
        line_of(feed("step.finished", name=HOSTILE, seconds=1, reused=False), tree),
        question_block(Question(id="", question=HOSTILE, schema={"a": HOSTILE}, asked_at=AT)),
        tree_of(
            feed.begun(ROOT, "a", None), feed("run.asked", **(QUESTION | {"question": HOSTILE}))
        ),
        line_of(feed.ended("failed", error=error), tree),
        line_of(feed("run.stopping", mode="now", grace_s=0, source="user", reason=HOSTILE), tree),
        line_of(feed("operation.refused", kind=HOSTILE, label=HOSTILE), tree),
    ]
    for renderable in shown:
        text = "\n".join(drawn(renderable, 200))
        assert text.isprintable() or not [
            char for char in text if not char.isprintable() and char != "\n"
        ]
        assert "[bold]" in text
        assert ":smile:" in text


# Lines


def line(event: Event, *before: Event | list[Event]) -> str:
    return line_of(event, tree_of(*before)).plain.split("  ", 1)[1]


def test_what_each_event_says(feed: Feed) -> None:
    root = feed.begun(ROOT, "digest", None)
    child = feed.begun("run_abcd", "leaf", ROOT)
    operation: dict[str, Any] = {"operation": 1, "kind": "http", "label": "GET /"}
    said = [
        line(event, root, child)
        for event in (
            feed("run.queued", agent="digest", parent_id=None),
            feed("run.started", agent="digest", attempt=1),
            feed("run.started", agent="digest", attempt=2),
            feed("run.progress", "run_abcd", percent=12.34, message="so far"),
            feed("run.log", level="warning", message="careful"),
            feed("run.partial", size=12),
            feed("run.artifact", name="a.bin", size=12),
            feed("run.stopping", mode="graceful", grace_s=30, source="user", reason="enough"),
            feed("run.stopping", mode="now", grace_s=0, source="deadline", reason=""),
            feed("run.escalated", mode="now", by="grace", reason="the grace is over"),
            feed("run.pausing", requested_by="ada", reason="lunch"),
            feed("run.pausing", requested_by="", reason=""),
            feed("run.paused"),
            feed("run.resumed", requested_by="ada", step=False),
            feed("run.resumed", requested_by="", step=True),
            feed("run.asked", **QUESTION),
            feed("run.answered", question_id="q1", answer={"a": 1}, answered_by="ada"),
            feed("run.answered", question_id="q1", answer="yes", answered_by=""),
            feed("run.deadline", deadline_at=None, requested_by="ada"),
            feed("step.finished", name="build", seconds=0.1234, reused=False),
            feed("step.finished", name="build", seconds=0.0, reused=True),
            feed("operation.started", **operation),
            feed("operation.finished", **operation, seconds=0.1234, error=None),
            feed("operation.finished", **operation, seconds=2, error="ReadError: gone"),
            feed("operation.cut", **operation, seconds=12.5, effect=""),
            feed("operation.cut", **operation, seconds=1, effect="connection closed"),
            feed("operation.refused", kind="step", label=""),
            feed("order.paid", amount=3),
            feed.ended("succeeded"),
            feed.ended("stopped", receipt={"seconds": 0.25}),
            feed.ended("timed_out", receipt={"seconds": 1}),
            feed.ended("failed", error={"type": "ValueError", "message": "no"}),
        )
    ]
    assert said == [
        "digest  queued as run_root",
        "digest  running",
        "digest  running (attempt 2)",
        "leaf·abcd  12 %  so far",
        "digest  careful",
        "digest  partial result, 12 bytes",
        "digest  artifact a.bin, 12 bytes",
        "digest  stopping (graceful, up to 30 s for what is in flight), asked by user: enough",
        "digest  stopping (now), asked by deadline",
        "digest  escalated to now by grace: the grace is over",
        "digest  pausing, asked by ada: lunch",
        "digest  pausing",
        "digest  paused",
        "digest  resumed, asked by ada",
        "digest  makes a step",
        'digest  asks: Go on? (one of "yes", "no")',
        'digest  answered by ada: {"a": 1}',
        'digest  answered: "yes"',
        "digest  has no deadline any more, asked by ada",
        "digest  step build done after 0.123 s",
        "digest  step build was done before",
        "digest  http GET / started",
        "digest  http GET / finished after 0.123 s",
        "digest  http GET / finished after 2 s: ReadError: gone",
        "digest  http GET / cut after 12.5 s",
        "digest  http GET / cut after 1 s: connection closed",
        "digest  step refused",
        'digest  order.paid {"amount": 3}',
        "digest  succeeded",
        "digest  stopped 0.25 s after it was asked to stop",
        "digest  timed out 1 s after it was asked to stop",
        "digest  failed: ValueError: no",
    ]


# Receipts and JSON


def rows(receipt: Receipt, width: int = 100) -> dict[str, str]:
    cells = [text.split("│")[1:3] for text in drawn(receipt_table(receipt), width) if "│" in text]
    return {name.strip(): value.strip() for name, value in cells if name.strip()}


def test_a_receipt() -> None:
    clock = at(0).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    found = rows(RECEIPT)
    # Of today only the time is shown; the day of this receipt depends on when the test runs.
    assert found.pop("asked").removesuffix(clock).removesuffix(clock[11:]) == (
        "graceful, by user (ada), at "
    )
    assert found == {
        "outcome": "stopped: every task has exited and every client is closed",
        "reason": "enough",
        "reached": "graceful: everything in flight finished",
        "took": "0.250 s",
        "runs stopped": "3, previously running",
        "operations": "2 finished, 0 cut, 1 refused",
        "clients closed": "1",
    }


def test_a_receipt_is_the_last_that_a_screen_shows_of_an_end() -> None:
    screen = io.StringIO()
    run = RunRecord(
        id=ROOT,
        root_id=ROOT,
        agent="digest",
        status=RunStatus.FAILED,
        created_at=AT,
        error=RunError(type="ValueError", message="no"),
        usage=Usage(requests=2),
        stop=RECEIPT,
    )
    console = Console(file=screen, width=100, force_interactive=True)
    print_end(console, run, {"pages": list(range(1000))})
    marks = [
        "partial result: {",
        "more characters",
        "spent:",
        "ValueError: no",
        "Receipt",
    ]
    places = [screen.getvalue().index(mark) for mark in marks]
    assert places == sorted(places)
    assert screen.getvalue().strip().endswith("╯")


def test_a_receipt_of_a_stop_that_went_all_the_way() -> None:
    again = StopRequest(
        mode=StopMode.KILL,
        grace_s=0,
        source=StopSource.ADMIN,
        requested_by="root",
        requested_at=AT,
        reason="now really",
    )
    found = rows(
        replace(
            RECEIPT,
            mode=StopMode.KILL,
            reached=StopMode.KILL,
            outcome=StopOutcome.ABANDONED,
            processes_killed=2,
            killed_pids=(7, 11),
            critical_s=1.5,
            cleanup_errors=tuple(f"callback {n}: not done" for n in range(12)),
            still_running=(
                Standing(run_id=ROOT, agent="digest", file="a.py", line=7, function="digest"),
            ),
            error=RunError(type="ValueError", message="no"),
            detached=(RunId("run_other"),),
            also=(again,),
        )
    )
    assert found["outcome"] == "abandoned: its code would not exit and was let go"
    assert found["asked"].startswith("kill at the strictest, first by user")
    assert found["processes killed"] == "2 (7, 11)"
    assert found["held back"] == "1.500 s by critical sections"
    assert found["cleanup error"] == "callback 0: not done"
    assert found["still running"] == "digest at a.py:7 in digest"
    assert found["error"] == "ValueError: no"
    assert found["left alone"] == "run_other (detached)"
    assert found["asked again"].endswith(": now really")


@pytest.mark.parametrize("outcome", list(StopOutcome))
def test_every_outcome_has_a_meaning(outcome: StopOutcome) -> None:
    found = rows(replace(RECEIPT, outcome=outcome, settled_at=None, seconds=None))
    assert found["outcome"].startswith(f"{outcome.replace('_', ' ')}: ")
    assert "took" not in found


def test_what_is_not_shown_on_a_screen_is_whole_and_no_line_of_it_is_broken() -> None:
    out = io.StringIO()
    trace = "\n".join(f"line {n}" for n in range(100)) + "\nValueError: no\n"
    run = RunRecord(
        id=ROOT,
        root_id=ROOT,
        agent="digest",
        status=RunStatus.FAILED,
        created_at=AT,
        error=RunError(type="ValueError", message="no", traceback=trace),
    )
    value = {"pages": list(range(1000)), "text": "word " * 100}
    print_end(Console(file=out, width=100), run, value)
    shown, _, rest = out.getvalue().removeprefix("partial result: ").partition("\nline 0\n")
    assert json.loads(shown) == value
    assert rest.splitlines()[-1] == "ValueError: no"


def test_a_stop_that_is_not_settled_claims_nothing() -> None:
    found = rows(replace(RECEIPT, outcome=StopOutcome.STOPPING, settled_at=None))
    assert found["outcome"] == "stopping: not settled yet"
    assert found["reached"] == "graceful so far"
    assert found["operations"] == "2 finished, 0 cut, 1 refused so far"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_receipt_fits_the_terminal(width: int) -> None:
    long = replace(RECEIPT, reason="very " * 100)
    assert max(map(len, drawn(receipt_table(long), width))) <= width


def test_json_is_shown_within_bounds() -> None:
    assert json_block({"a": [1]}).plain == '{\n  "a": [\n    1\n  ]\n}'
    many = json_block(list(range(10_000)), "look there").plain.splitlines()
    assert len(many) == 41
    assert many[-1].startswith("… ")
    assert many[-1].endswith(" more characters; look there")
    long = json_block("x" * 1_000_000).plain
    assert len(long) < 5_000
    assert long.endswith("\n… 996002 more characters")


def test_an_error_is_shown_with_the_end_of_its_traceback() -> None:
    traceback = "\n".join(f"line {n}" for n in range(100)) + "\nValueError: no\n"
    shown = error_block(RunError(type="ValueError", message="no", traceback=traceback)).plain
    assert shown.splitlines() == [*(f"line {n}" for n in range(89, 100)), "ValueError: no"]
    assert error_block(RunError(type="ValueError", message="no")).plain == "ValueError: no"


# Screens


async def test_without_a_terminal_there_are_plain_lines(feed: Feed) -> None:
    out = io.StringIO()
    async with open_screen(Console(file=out, width=60)) as screen:
        for event in feed.begun(ROOT, "digest", None):
            screen.show(event)
        for percent in range(101):
            screen.show(feed("run.progress", percent=percent, message=f"{percent} pages"))
        screen.show(feed("operation.started", operation=1, kind="http", label="GET /"))
        screen.show(feed("run.partial", size=1))
        screen.show(feed("run.log", level="info", message="a long line " * 10))
        screen.say("stopping…")
        screen.show(feed.ended("succeeded"))
    lines = [text.split("  ", 1)[-1] for text in out.getvalue().splitlines()]
    assert lines == [
        "digest  queued as run_root",
        "digest  running",
        *(f"digest  {n} %  {n} pages" for n in range(0, 101, 10)),
        "digest  " + "a long line " * 10,
        "stopping…",
        "digest  succeeded",
    ]


async def test_in_a_terminal_the_tree_is_drawn_ten_times_a_second(
    feed: Feed, autojump_clock: MockClock
) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, height=20, force_terminal=True, color_system=None)
    async with open_screen(console, "a hint") as screen:
        for event in feed.begun(ROOT, "digest", None):
            screen.show(event)
        await trio.sleep(0.95)
        assert out.getvalue().count(" running digest") == 10
        assert out.getvalue().count("a hint") == 10
        assert out.getvalue().count("queued as run_root") == 1
        screen.show(feed("run.log", level="info", message="said above"))
        screen.say("stopping…")
        await trio.sleep(0.1)
        assert "stopping…" in out.getvalue()
        screen.show(feed.ended("stopped"))
        before = len(out.getvalue())
    last = out.getvalue()[before:]
    assert "■ stopped digest" in last
    assert "stopping…" not in last
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h") == 1
    assert out.getvalue().count("said above") == 1


async def test_the_cursor_comes_back_when_the_body_raises(feed: Feed) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, height=20, force_terminal=True, color_system=None)
    with pytest.RaisesGroup(ValueError):
        async with open_screen(console):
            raise ValueError
    assert out.getvalue().endswith("\x1b[?25h")


async def test_while_somebody_types_nothing_is_drawn_or_printed(
    feed: Feed, autojump_clock: MockClock
) -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, height=20, force_terminal=True, color_system=None)
    async with open_screen(console) as screen:
        for event in feed.begun(ROOT, "digest", None):
            screen.show(event)
        await trio.sleep(0.5)
        with screen.asking(Text("Go on?")) as ask_again:
            before = out.getvalue()
            assert before.endswith("Go on?\nanswer: ")
            screen.show(feed("run.log", level="info", message="held back"))
            await trio.sleep(1)
            assert out.getvalue() == before
            ask_again("that is none")
            assert out.getvalue() == f"{before}that is none\nanswer: "
        await trio.sleep(0.5)
        assert out.getvalue().count("held back") == 1
    assert out.getvalue().count("\x1b[?25l") == out.getvalue().count("\x1b[?25h") == 2


@pytest.mark.parametrize("forced", [None, "1"])
async def test_nothing_moves_in_what_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], forced: str | None
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if forced:
        monkeypatch.setenv("FORCE_COLOR", forced)
    console = open_console()
    assert console.width == 120
    async with open_screen(console) as screen:
        screen.say("hello")
    assert capsys.readouterr().out == "hello\n"

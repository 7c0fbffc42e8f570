"""``python -m tests.docs.seeds`` writes docs/reference/seeds.md: what is asked, and its tests.

A row counts as tested if there is a test that is named after it, ``test_A1_…``.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from tests.docs.pages import DOCS, ROOT

PAGE = DOCS / "reference" / "seeds.md"

SYSTEMS = {
    "Archon, the analysis of its stop": {
        "A1": "`POST /api/knowledge-items/stop/{progress_id}` answers 200, 404 or 500 as it did",
        "A2": "crawls and uploads run in the background under a progress id",
        "A3": "progress is polled with an ETag; a stop keeps the percentage, and is logged",
        "A4": "a stop goes on when a layer of it fails; a task that is alive is never dropped",
        "A5": "the button: only while active, red, with a spinner and toasts",
        "A6": "each attempt to stop is logged with its id",
    },
    "Archon, the repair of its stop": {
        "B1": "every client that is connected sees `stopping` at once, and then `stopped`",
        "B2": "a crawl that was stopped never comes back",
        "B3": "progress ceases within five seconds of the stop",
        "B4": "a stop that fails is rolled back in the page; HTTP works without the socket",
        "B5": "ten stops at once leak no tasks, sockets or memory",
        "B6": "stale records and orphans are reaped",
        "B7": "metrics: how stops end, how long they take, failures, orphans",
        "B8": "pause and resume, bulk stop, time limits, partial results",
    },
    "Gofannon": {
        "G1": "whether to stop is known to nested code by a context variable",
        "G2": "models, data and agents are asked through a gate; what is in flight finishes",
        "G3": "`POST /runs/{run_id}/stop` answers 202",
        "G4": "Stop beside Run, disabled when nothing runs; `Stopping…` until it has stopped",
        "G5": "`stopped` is a status of its own, grey and never red",
        "G6": "the whole chain of agents stops with its first",
        "G7": "cleanup has run before the run ends",
        "G8": "the stop of one run leaves every other untouched",
    },
    "Beacon": {
        "J1": "what runs is registered until it has ended, also when many cancel at once",
        "J2": "`POST /api/v1/jobs/{id}/cancel` says what it has done",
        "J3": "401 without identity, 403 for another's job, 404 if unknown, 409 if over; wallets",
        "J4": "a cancel closes the connections of executions; what was finished stays",
        "J5": "the button: red, then grey with a spinner, then gone; toasts; the list is read anew",
        "J6": "a reason, bulk cancels, admins, refunds, no stop after so much, webhooks and mail",
        "J7": "metrics and an audit",
    },
    "Ignition": {
        "E1": "`POST /api/executions/{id}/cancel` ends a step in its middle",
        "E2": "pause, resume and debug mode; a resume after a cancel changes nothing",
        "E3": "an execution is registered until it has ended; its record stays for a time",
        "E4": "keep-alives every 15 seconds both ways; connections survive a minute of silence",
        "E5": "a step that catches everything does not keep the execution alive",
        "E6": "playbooks, checked before they start; their session is closed at the end",
        "E7": "a page with a live view of the browser",
    },
}

# What a row asks that its tests do not show.
MISSING: dict[str, str] = {}

HEAD = """\
# The systems that asked for this

Five systems had a stop that did not work, or wanted one. What each of them asks is listed here,
with the tests that show it. `python -m tests.docs.seeds` writes this page.
"""


def named_after_rows() -> dict[str, list[str]]:
    """Return the names of the tests by the row that they are named after."""
    found = defaultdict(set)
    for file in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else ""
            if row := re.match(r"test_([A-Z]\d+)_", name):
                found[row[1]].add(name)
    return {row: sorted(names) for row, names in found.items()}


def page() -> str:
    """Return what the page has to say."""
    tests = named_after_rows()
    parts = [HEAD]
    for system, rows in SYSTEMS.items():
        parts.append(f"\n## {system}\n\n| row | behaviour | test | status |\n|---|---|---|---|\n")
        for row, behaviour in rows.items():
            named = ", ".join(f"`{name}`" for name in tests.get(row, []))
            status = "tested" if named else "no test yet"
            if named and row in MISSING:
                status = f"partly: {MISSING[row]}"
            parts.append(f"| {row} | {behaviour} | {named} | {status} |\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())

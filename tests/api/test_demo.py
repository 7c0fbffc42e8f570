"""The demonstration: what it shows, and that it would say so if something did not hold."""

from __future__ import annotations

import io
import math
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
from rich.console import Console

from api.client import RunView
from api.commands.built_in import BUILT_IN
from api.demo import Stopped, Tap, open_site, page_delay, run_demo, show_proof
from api.dialects import DIALECTS
from orchestrator import RunId, RunRecord, RunStatus
from tests.api.processes import quiesce

QUIESCE = str(Path(sys.executable).with_name("quiesce"))


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A documentation of twenty pages."""
    for n in range(19):
        (tmp_path / f"page-{n:02}.md").write_text(f"# Page {n}\n")
    (tmp_path / "index.md").write_text("# Quiesce\n")
    return tmp_path


async def test_a_crawl_is_stopped_half_way_and_the_other_end_agrees(
    docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.demo.WATCH_S", 0.5)
    monkeypatch.setattr("api.demo.QUIET_S", 0.1)
    out = io.StringIO()
    console = Console(file=out, width=100)
    with trio.fail_after(10):
        assert await run_demo(BUILT_IN, console, port=0, once=True, docs=docs) == 0

    said = out.getvalue()
    assert "half of the pages are done: stopping it" in said
    assert "stopped: every task has exited and every client is closed" in said
    assert said.count("✓") == 4
    assert "✗" not in said
    ((done, known),) = re.findall(r"pages kept +│ (\d+) of (\d+)", said)
    assert (int(known), 10 <= int(done) < 20) == (20, True)
    assert "Try next" not in said


@pytest.mark.slow
def test_the_command_needs_no_terminal() -> None:
    run = subprocess.run(
        [QUIESCE, "demo", "--once"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stderr == ""
    assert run.stdout.count("✓") == 4


@pytest.mark.slow
def test_it_speaks_every_dialect(tmp_path: Path) -> None:
    paths = {
        "archon": "/api/crawl-progress/run_none",
        "beacon": "/api/v1/jobs/run_none",
        "gofannon": "/runs/run_none",
        "ignition": "/api/executions/run_none",
    }
    assert set(paths) == set(DIALECTS)
    with quiesce("demo", "--port", "0", cwd=tmp_path) as demo:
        found = re.search(r"http://127\.0\.0\.1:\d+", demo.until("a server on"))
        assert found is not None
        for path in paths.values():
            answer = httpx.get(found[0] + path)
            assert answer.json()["type"] == "urn:quiesce:unknown-run", path


def test_half_of_the_site_takes_as_long_as_it_is_watched(docs: Path) -> None:
    # The first page alone, then nine more by threes.
    assert page_delay(docs) == pytest.approx(3.2 / 4)


@pytest.mark.parametrize(
    ("status", "tap", "acknowledged", "held"),
    [
        ("stopped", Tap(2, 2, [1, 2]), 3, True),
        ("stopped", Tap(2, 2, [1, 2, 3.5]), 3, False),
        ("stopped", Tap(2, 1, [1, 2]), 3, False),
        ("stopped", Tap(0, 0, [1, 2]), 3, False),
        ("succeeded", Tap(2, 2, [1, 2]), math.inf, False),
        ("abandoned", Tap(2, 2, [1, 2]), 3, False),
    ],
)
def test_what_does_not_hold_is_said(status: str, tap: Tap, acknowledged: float, held: bool) -> None:
    run_id = RunId("run_1")
    record = RunRecord(
        id=run_id, root_id=run_id, agent="crawl", status=RunStatus(status), created_at=""
    )
    view = RunView(record, {"done": 1, "known": 2}, {})
    out = io.StringIO()
    console = Console(file=out, width=100)
    assert show_proof(Stopped(view, acknowledged), tap, console) is held
    assert ("✗" in out.getvalue()) is not held

    nothing_kept = replace(view, partial=None)
    assert not show_proof(Stopped(nothing_kept, acknowledged), tap, console)


async def test_the_tap_sees_every_connection_open_and_close(docs: Path) -> None:
    with trio.fail_after(5):
        async with open_site(docs) as (url, tap):
            port = int(url.rpartition(":")[2])
            connect = partial(trio.open_tcp_stream, "127.0.0.1", port)
            async with await connect() as first, await connect() as second:
                for stream in (first, second):
                    await stream.send_all(b"GET /style.css HTTP/1.1\r\nHost: x\r\n\r\n")
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
                assert (tap.opened, tap.closed, len(tap.requests)) == (2, 0, 2)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert (tap.opened, tap.closed) == (2, 2)

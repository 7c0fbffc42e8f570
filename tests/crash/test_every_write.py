"""Kill -9 at every write of one session: what was acknowledged is true for ever.

What is checked stands in ``aftermath``; the session itself is ``session``.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.crash.aftermath import Heard

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def sweep(folder: Path, *steps: int) -> list[dict[str, Any]]:
    """Return what the sweep says of each point."""
    command = [sys.executable, "-m", "tests.crash.sweep", str(folder), *map(str, steps)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=500)
    assert done.returncode == 0, done.stderr[-5_000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_whatever_a_kill_at_any_write_leaves_behind_is_put_right(tmp_path: Path) -> None:
    found = sweep(tmp_path)
    print(f"{len(found)} points; at the last: {found[-1]}")
    writes = found[-1]["n"]
    assert {(each["n"], each["moment"]) for each in found} >= {
        (n, moment) for n in range(1, writes + 1) for moment in ("before", "after")
    }
    assert any(each["moment"] == "within" for each in found)
    # The session came to its end.
    assert writes > 60
    assert found[-1]["granted"] > 45


def test_so_is_what_is_left_by_processes_that_are_really_killed(tmp_path: Path) -> None:
    first = random.SystemRandom().randrange(1, 30)
    found = sweep(tmp_path, first, 30)
    print(f"{len(found)} kills, from write {first} on")
    assert len(found) >= 6
    assert found[-1]["granted"] > 0


ASKING = {"asking": ["POST", "/runs/stop"], "discarding": []}


def shown(status: str, **more: Any) -> dict[str, Any]:
    return {"run": "r", "status": status, "attempt": 1, **more}


def event(seq: int, status: str) -> dict[str, Any]:
    return shown(status, event=["r", seq, "r", f"run.{status}"])


def test_an_answer_may_be_older_than_events_that_overtook_it_but_not_than_its_question() -> None:
    heard = Heard()
    for each in (event(1, "running"), ASKING, event(2, "stopping"), event(3, "stopped")):
        heard.hear(each)
    heard.hear(shown("stopping"))
    heard.hear(ASKING)
    with pytest.raises(AssertionError, match="r went back"):
        heard.hear(shown("stopping"))
    with pytest.raises(AssertionError, match="r went back"):
        heard.hear(event(4, "stopping"))

"""A short soak; ``make soak`` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Seconds; CI may have more.
SOAK_S = int(os.environ.get("QUIESCE_SOAK_S", "20"))


@pytest.mark.slow
def test_a_server_is_as_it_was_and_its_clients_were_told_the_truth() -> None:
    """``soak`` says what is checked."""
    command = [sys.executable, "-m", "tests.crash.soak", str(SOAK_S), "20", "5"]
    root = Path(__file__).parents[2]
    within_s = 4 * SOAK_S + 120
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=within_s)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-5_000:]

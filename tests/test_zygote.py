"""That a process of the tests that was forked finds itself as one does that was executed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.zygote import EXECUTED, ROOT, Forked

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "tests.zygote.witness", "one", "two words", "ü"]
BOTH = pytest.mark.parametrize("way", [EXECUTED, Forked])


def start(way: type[subprocess.Popen[Any]], folder: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    environment = {**os.environ, "ONLY": "here"}
    return way(
        COMMAND,
        cwd=folder,
        env=environment,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        text=True,
        start_new_session=True,
    )


def test_it_is_as_if_it_had_been_executed() -> None:
    told = []
    for way in (EXECUTED, Forked):
        with start(way, ROOT) as process:
            said, complained = process.communicate("0\n", timeout=30)
        assert (process.returncode, complained) == (0, "told\n")
        told.append(json.loads(said))

    executed, forked = told
    assert executed["arguments"] == COMMAND[3:]
    assert executed["environment"]["ONLY"] == "here"
    assert executed["leads a session"]
    assert forked == executed


@BOTH
def test_its_end_is_told(way: type[subprocess.Popen[Any]]) -> None:
    with start(way, ROOT) as process:
        assert process.poll() is None
        process.communicate("7\n", timeout=30)
    assert process.returncode == 7
    with start(way, ROOT) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    assert not os.path.exists(f"/proc/{process.pid}")


def test_a_folder_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        start(Forked, ROOT / "nowhere")

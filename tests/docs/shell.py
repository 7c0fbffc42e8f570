"""A shell that a page's commands are typed into."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ANSWER_S = 30.0
ENDING_S = 5.0


class Shell:
    """A bash that keeps its variables from one command to the next."""

    MARK = b"\x01status "

    def __init__(self, folder: Path) -> None:
        self._script = folder / ".block.sh"
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            start_new_session=True,
        )

    def run(self, text: str) -> tuple[int, str]:
        """Return the exit status and what was printed. ``exit`` ends the shell with that status."""
        assert self._process.stdin is not None
        self._script.write_text(text)
        call = f". {shlex.quote(str(self._script))} < /dev/null\n"
        self._process.stdin.write(call.encode() + b"printf '\\001status %d\\001' $?\n")
        printed, mark, status = self._read().partition(self.MARK)
        code = int(status[:-1]) if mark else self._process.wait(ANSWER_S)
        return code, printed.decode()

    def close(self) -> None:
        """End the shell, and a command that hangs in it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(ENDING_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stdout.close()

    def _read(self) -> bytes:
        assert self._process.stdout is not None
        printed, until = b"", time.monotonic() + ANSWER_S
        while not (self.MARK in printed and printed.endswith(b"\x01")):
            left = until - time.monotonic()
            ready, _, _ = select.select([self._process.stdout], [], [], max(left, 0))
            assert ready, f"no answer within {ANSWER_S} s; so far: {printed.decode()}"
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                break
            printed += piece
        return printed

"""Asks a server how it is, again and again, and prints what each answer took, in ms.

A process of its own, so that it measures the server and not the test. Beside it stands what is
left without the time in which the server was ready to answer, or this process to ask, and the
machine had no processor for it.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import httpx

PAUSE_S = 0.02


def ask(url: str, pid: int) -> None:
    """Ask until killed, or until there is another answer than 200."""
    with httpx.Client(base_url=url, timeout=60) as client:
        while True:
            before, began = _waited_s(pid), time.monotonic()
            client.get("/healthz").raise_for_status()
            took = time.monotonic() - began
            waited = _waited_s(pid) - before
            print(f"{took * 1e3:.1f} {max(0.0, took - waited) * 1e3:.1f}", flush=True)
            time.sleep(PAUSE_S)


def _waited_s(pid: int) -> float:
    """Return how long the first threads of the server and of this process have waited for a
    processor until now."""
    said = [Path(f"/proc/{each}/schedstat").read_text() for each in (pid, os.getpid())]
    return sum(int(each.split()[1]) for each in said) / 1e9


if __name__ == "__main__":
    ask(sys.argv[1], int(sys.argv[2]))

"""Asks a server how it is, again and again, and prints what each answer took, in ms.

A process of its own, so that it measures the server and not the test. Beside it stands for how
long the loop of the server has worked meanwhile, on this and on everything that it did before
this: what is left is the time in which the machine had no processor for the one or the other.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx

PAUSE_S = 0.02


def ask(url: str, pid: int) -> None:
    """Ask until killed, or until there is another answer than 200."""
    with httpx.Client(base_url=url, timeout=60) as client:
        while True:
            before, began = _worked_s(pid), time.monotonic()
            client.get("/healthz").raise_for_status()
            took, worked = time.monotonic() - began, _worked_s(pid) - before
            print(f"{took * 1e3:.1f} {worked * 1e3:.1f}", flush=True)
            time.sleep(PAUSE_S)


def _worked_s(pid: int) -> float:
    """Return how long the first thread of a process has had a processor until now."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


if __name__ == "__main__":
    ask(sys.argv[1], int(sys.argv[2]))

"""Asks a server how it is, again and again, and prints how long each answer took, in ms.

A process of its own, so that it measures the server and not the test.
"""

from __future__ import annotations

import sys
import time

import httpx

PAUSE_S = 0.02


def ask(url: str) -> None:
    """Ask until killed, or until there is another answer than 200."""
    with httpx.Client(base_url=url, timeout=60) as client:
        while True:
            began = time.monotonic()
            client.get("/healthz").raise_for_status()
            print(f"{(time.monotonic() - began) * 1e3:.1f}", flush=True)
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    ask(sys.argv[1])

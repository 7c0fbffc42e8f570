"""Agents that print more than anybody reads."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from orchestrator import agent

if TYPE_CHECKING:
    from orchestrator import SyncContext


@agent
def flooding(ctx: SyncContext, lines: int) -> int:
    """Print so many lines on each stream; then return."""
    for _ in range(lines // 1000):
        for fd in (1, 2):
            _write_all(fd, b"x\n" * 1000)
    print("the last one", end="")
    return lines


@agent
def endless(ctx: SyncContext, what: str) -> None:
    """Print for ever."""
    print("ready", flush=True)
    data = what.encode() * 1000
    while True:
        sys.stdout.buffer.write(data)


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]

"""Which process has a database, put so that whoever takes it next can tell whether that is gone.

A process that is cut off from its database loses the lock and goes on: its runs are at work, and it
cannot learn that another has the database. So a free lock proves nothing about its runs.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from orchestrator.procfs import look_at

# What a holder that has left with all its runs at rest puts in place of itself.
NOBODY = "null"
# Of a process that does not know what it is.
UNKNOWN = ""


def this_process() -> str:
    """Return which process this is, of all on all machines; ``UNKNOWN`` without ``/proc``."""
    process = look_at(os.getpid()) if (place := _place()) else None
    return UNKNOWN if process is None else json.dumps([*place, process.pid, process.started])


def is_gone(holder: str) -> bool:
    """Return whether a process, as it said which one it is, is proved to have ended.

    That takes the same machine, not started anew since, and the same container: a process of
    another place is beyond our sight.
    """
    if holder in (NOBODY, UNKNOWN):
        return holder == NOBODY
    *place, pid, started = json.loads(holder)
    if place != _place():
        return False
    process = look_at(pid)
    return process is None or process.started != started or process.ended


def _place() -> list[str]:
    """Return what tells one run of a machine's kernel, and one of its sets of process ids, from
    all others; empty if it cannot be told."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return [boot, os.readlink("/proc/self/ns/pid")]
    return []

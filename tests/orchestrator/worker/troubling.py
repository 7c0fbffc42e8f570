"""Agents that get their warden into trouble, or have one that is."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from orchestrator import StopRequested, agent

if TYPE_CHECKING:
    from orchestrator import SyncContext

LONG_S = 1000


@agent
def stubborn(ctx: SyncContext, stops_warden: bool = False) -> None:
    """Say who it and its warden are, and do not end."""
    ctx.emit("process.told", {"pid": os.getpid(), "warden": os.getppid()})
    if stops_warden:
        os.kill(os.getppid(), signal.SIGSTOP)
    while True:
        try:
            ctx.log("ready")
            time.sleep(LONG_S)
        except BaseException:
            continue


@agent
def obedient(ctx: SyncContext) -> None:
    """The same, but end when told to."""
    ctx.emit("process.told", {"pid": os.getpid(), "warden": os.getppid()})
    ctx.log("ready")
    try:
        time.sleep(LONG_S)
    except StopRequested:
        ctx.log("cleaned up")
        raise

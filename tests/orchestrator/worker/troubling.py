"""Agents that get their warden into trouble, or have one that is."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from orchestrator import Context, StopRequested, agent

if TYPE_CHECKING:
    from orchestrator import SyncContext

LONG_S = 1000
# How long a critical section may hold a stop back: longer than any bound of its run.
HOLD_S = 20


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
def parent(ctx: SyncContext) -> None:
    """Have a child of each kind, and end when told to."""
    pids = {}
    for kind in ("dies of it", "handles it", "ignores it"):
        read, write = os.pipe()
        pids[kind] = os.fork()
        if not pids[kind]:
            if kind != "dies of it":
                handler = signal.SIG_IGN if kind == "ignores it" else lambda *_: os._exit(0)
                signal.signal(signal.SIGTERM, handler)
            os.write(write, b"up")
            time.sleep(LONG_S)
            os._exit(0)
        os.read(read, 2)
    ctx.emit("process.told", {"pid": os.getpid(), "warden": os.getppid(), **pids})
    ctx.log("ready")
    try:
        time.sleep(LONG_S)
    finally:
        # Until they have had the signal.
        os.waitpid(pids["dies of it"], 0)
        os.waitpid(pids["handles it"], 0)


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


@agent
def vanishing(ctx: SyncContext, how: str) -> None:
    """Be gone before the clean-up is done."""
    ctx.on_stop(print, "never said")
    if how == "in a compensation":
        ctx.on_stop(os._exit, 7)
    ctx.emit("process.told", {"pid": os.getpid(), "warden": os.getppid()})
    ctx.log("ready")
    try:
        time.sleep(LONG_S)
    finally:
        if how == "exits":
            os._exit(7)
        if how == "crashes":
            os.kill(os.getpid(), signal.SIGSEGV)


@agent(isolation="process")
async def busy(ctx: Context, folder: str, effect: bool) -> None:
    """Hear of nothing until a stop or pause is acknowledged; then begin a critical section."""
    print("ready", flush=True)
    while not Path(folder, "acknowledged").exists():  # noqa: ASYNC240
        time.sleep(0.01)  # noqa: ASYNC251  # it blocks its loop
    with ctx.critical("commit", HOLD_S):
        if effect:
            async with ctx.operation("effect"):
                Path(folder, "effect").touch()  # noqa: ASYNC240
        await trio.sleep_forever()

"""Agents that do not want to end, for a server that is to end them.

Each process that comes of one keeps the file ``held`` of its folder open, so that a test finds it
in ``/proc`` whatever it does; once all of them are there, a file ``ready`` is.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from orchestrator import agent

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator import AsyncioContext, Context, SyncContext

LONG_S = 1000
CHILDREN = 3


def _hold(folder: str) -> None:
    os.set_inheritable(os.open(Path(folder, "held"), os.O_RDWR | os.O_CREAT), True)


def _ready(folder: str) -> None:
    Path(folder, "ready").touch()


def _is_there(folder: str, name: str) -> bool:
    return Path(folder, name).exists()


@agent
def sleeping(ctx: SyncContext, folder: str) -> None:
    """Sleep."""
    _hold(folder)
    _ready(folder)
    time.sleep(LONG_S)


@agent
def spinning(ctx: SyncContext, folder: str) -> None:
    """Spin."""
    _hold(folder)
    _ready(folder)
    while True:
        pass


@agent
def holding_the_lock(ctx: SyncContext, folder: str) -> None:
    """Hold the lock of the interpreter, in C."""
    _hold(folder)
    _ready(folder)
    re.match(r"(a|aa)+$", "a" * 1000 + "b")


@agent
def swallowing(ctx: SyncContext, folder: str) -> None:
    """Swallow every exception."""
    _hold(folder)
    _ready(folder)
    while True:
        try:
            time.sleep(LONG_S)
        except BaseException:
            continue


@agent
def ignoring_sigterm(ctx: SyncContext, folder: str) -> None:
    """Ignore every signal that can be ignored."""
    _hold(folder)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue
    _ready(folder)
    time.sleep(LONG_S)


def _fork(folder: str, prepare: Callable[[], object]) -> None:
    for _ in range(CHILDREN):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            prepare()
            time.sleep(LONG_S)
            os._exit(0)


@agent
def forking(ctx: SyncContext, folder: str) -> None:
    """Have children."""
    _hold(folder)
    _fork(folder, lambda: None)
    _ready(folder)
    time.sleep(LONG_S)


@agent
def forking_sessions(ctx: SyncContext, folder: str) -> None:
    """Have children in sessions of their own."""
    _hold(folder)
    _fork(folder, os.setsid)
    _ready(folder)
    time.sleep(LONG_S)


@agent
def flooding(ctx: SyncContext, folder: str) -> None:
    """Print for ever."""
    _hold(folder)
    _ready(folder)
    while True:
        os.write(1, b"x" * 200 + b"\n")


@agent(memory_mib=256)
def exhausting_memory(ctx: SyncContext, folder: str) -> None:
    """Take all the memory that there is, and hold on to it."""
    _hold(folder)
    held: list[bytearray] = []
    ready = f"{folder}/ready"
    while True:
        try:
            held.append(bytearray(1 << 16))
        except MemoryError:
            # There is hardly any memory for this.
            os.close(os.open(ready, os.O_CREAT))


@agent(runtime="asyncio")
async def swallowing_cancellation(ctx: AsyncioContext, folder: str) -> None:
    """Swallow every ``CancelledError``."""
    _hold(folder)
    _ready(folder)
    while True:
        try:
            await asyncio.sleep(LONG_S)
        except asyncio.CancelledError:
            continue


class Steps(trio.abc.Instrument):
    """Measures the steps of all tasks of a loop, in processor time.

    Attributes:
        longest_s: that of the longest one.
    """

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._began = time.thread_time()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """A step begins."""
        self._began = time.thread_time()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """It has ended."""
        self.longest_s = max(self.longest_s, time.thread_time() - self._began)


@agent
async def bystander(ctx: Context, folder: str) -> dict[str, float]:
    """Count, until somebody says that it is enough; see how long anything holds up its loop."""
    ticks, steps = 0, Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        _ready(folder)
        while not _is_there(folder, "enough"):
            async with ctx.operation("tick", str(ticks)):
                ticks += 1
            await ctx.sleep(0.05)
    finally:
        trio.lowlevel.remove_instrument(steps)
    return {"ticks": ticks, "longest_ms": steps.longest_s * 1e3}


# With how many processes each has, and how many of them at least have to be killed.
BEASTS = {
    "sleeping": (1, 0),
    "spinning": (1, 0),
    "holding_the_lock": (1, 1),
    "swallowing": (1, 1),
    "ignoring_sigterm": (1, 1),
    "forking": (1 + CHILDREN, CHILDREN),
    "forking_sessions": (1 + CHILDREN, CHILDREN),
    "flooding": (1, 0),
    "exhausting_memory": (1, 0),
    "swallowing_cancellation": (1, 1),
}

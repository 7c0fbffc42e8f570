"""Agents that are plain functions."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from orchestrator import (
    Context,
    OperationCut,
    OperationRefused,
    SyncContext,
    agent,
    current_context,
)
from orchestrator import StopRequested as Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG_S = 600
# Longer than it takes until code that swallows a stop is interrupted again.
CLEANING_S = 1.2


@agent
async def double(ctx: Context, x: int) -> int:
    """Return twice as much."""
    if x < 0:
        raise ValueError("less than nothing")
    return 2 * x


@agent
async def waiting_child(ctx: Context) -> None:
    """Wait."""
    await ctx.sleep(LONG_S)


@agent
def everything(ctx: SyncContext) -> dict[str, Any]:
    """Use all that a context has."""
    found: dict[str, Any] = {"current": is_current(ctx), "run_id": ctx.run_id}
    ctx.progress(50, "half")
    ctx.log("hello", "warning")
    ctx.emit("sum.made", {"n": 1})
    growing = {"so": "far"}
    ctx.partial(growing)
    growing["so"] = "later"
    ctx.artifact("a.txt", b"1")
    ctx.artifact("a.txt", b"2", append=True)
    with ctx.operation("op", "x"):
        time.sleep(0.01)
    ctx.data.set("k", [1])
    space = ctx.data.namespace("other")
    space.set("o", 2)
    found["data"] = [ctx.data.get("k"), ctx.data.list(), space.get("o"), space.delete("o")]
    found["step"] = ctx.step("one", _in_a_step, ctx, 1)
    found["call"] = ctx.call(double, x=3)
    child = ctx.start("double", x=4)
    found["child"] = child.wait()
    found["map"] = ctx.map(double, [{"x": 1}, {"x": 2}])
    with ctx.critical("commit", 5):
        ctx.data.set("k", [2])
    ctx.checkpoint()
    ctx.sleep(0.01)
    found |= {"left": ctx.deadline - time.monotonic(), "stop": ctx.should_stop}
    return found


def _in_a_step(ctx: SyncContext, n: int) -> dict[str, Any]:
    with ctx.operation("op", "in a step"):
        return {"n": n, "current": is_current(ctx), "thread": in_main_thread()}


def is_current(ctx: object) -> bool:
    """Return whether it is the context of the code at hand."""
    return ctx is current_context()


def in_main_thread() -> bool:
    """Return whether the code at hand runs in the main thread."""
    return threading.current_thread() is threading.main_thread()


@agent
def failing(ctx: SyncContext, how: str) -> Any:
    """End in one of many ways."""
    match how:
        case "raises":
            raise LookupError("nothing there")
        case "exits":
            sys.exit(3)
        case "stops itself":
            raise Stopped("I stop")
        case "gives a coroutine":
            return double.function(ctx, x=1)
        case "has a sub-agent that fails":
            return ctx.call(double, x=-1)
        case "is refused":
            with ctx.operation("op", "outer"):
                ctx.call(double, x=1)
        case "says too much":
            ctx.progress(101)
    return None


@agent
def waiting(ctx: SyncContext, how: str) -> None:
    """Wait in one of many ways, and then clean up at leisure."""
    ctx.on_stop(undo, "it")
    try:
        WAYS[how](ctx)
    finally:
        ctx.log("cleaning up")
        time.sleep(CLEANING_S)
        ctx.log("cleaned up")


def undo(what: str) -> None:
    """Undo something, in an operation."""
    ctx: Any = current_context()
    with ctx.operation("undo", what):
        time.sleep(0.01)
    ctx.log(f"undid {what} in the main thread: {in_main_thread()}")


def ready(wait: Callable[[SyncContext], object]) -> Callable[[SyncContext], object]:
    """Say that it is about to wait."""

    def waits(ctx: SyncContext) -> None:
        ctx.log("ready")
        wait(ctx)

    return waits


def _spin(ctx: SyncContext) -> None:
    while True:
        pass


def _read(ctx: SyncContext) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


def _lock(ctx: SyncContext) -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _program(ctx: SyncContext) -> None:
    process = subprocess.Popen(["sleep", str(LONG_S)])
    try:
        # Not before: one whose start is interrupted is nobody's yet, and has to be killed.
        ctx.log("ready")
        process.wait()
    finally:
        process.kill()
        process.wait()


@contextmanager
def _slow_to_enter() -> Iterator[None]:
    time.sleep(LONG_S)
    yield


def _manager(ctx: SyncContext) -> None:
    with _slow_to_enter():
        pass


def _thread(ctx: SyncContext) -> None:
    with ThreadPoolExecutor() as pool:
        pool.submit(ctx.sleep, LONG_S).result()


def _program_in_a_step(ctx: SyncContext) -> None:
    ctx.step("one", _program, ctx)


WAYS = {
    "sleeps": ready(lambda ctx: time.sleep(LONG_S)),
    "spins": ready(_spin),
    "reads": ready(_read),
    "locks": ready(_lock),
    "runs a program": _program,
    "enters": ready(_manager),
    "has a thread": ready(_thread),
    "sleeps in its context": ready(lambda ctx: ctx.sleep(LONG_S)),
    "calls": ready(lambda ctx: ctx.call(waiting_child)),
    "does a step": ready(lambda ctx: ctx.step("one", time.sleep, LONG_S)),
    "runs a program in a step": _program_in_a_step,
}


@agent
def swallowing(ctx: SyncContext, times: int) -> str:
    """Swallow the stop so often, or for ever if negative."""
    while times:
        try:
            print("ready")
            time.sleep(LONG_S)
        except BaseException:
            times -= 1
            print("swallowed")
    return "done"


def linger(ctx: SyncContext, seconds: float) -> None:
    """Wait for the stop, and for so many seconds after that."""
    ctx.log("ready")
    while not ctx.should_stop:
        time.sleep(0.01)
    time.sleep(seconds)


@agent
def operating(ctx: SyncContext, seconds: float) -> None:
    """Take that long for an operation."""
    with ctx.operation("op", "long"):
        linger(ctx, seconds)
        ctx.log("operation done")
    print("never said")


@agent
def threading_(ctx: SyncContext, seconds: float) -> None:
    """Take that long for an operation in another thread."""

    def operate() -> None:
        with ctx.operation("op", "in a thread"):
            linger(ctx, seconds)

    with ThreadPoolExecutor() as pool:
        pool.submit(operate)
        time.sleep(LONG_S)


@agent
def delegating(ctx: SyncContext) -> list[Any]:
    """Let plain threads, which inherit no context variables, find the context for themselves."""
    found: list[Any] = []

    def work() -> None:
        with current_context().operation("op", "in a thread"):  # type: ignore[attr-defined]
            found.append(is_current(ctx))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    with ThreadPoolExecutor() as pool:
        found.append(pool.submit(is_current, ctx).result())
    return found


@agent
def committing(ctx: SyncContext, seconds: float, max_seconds: float) -> None:
    """Take that long for a critical section."""
    try:
        with ctx.critical("commit", max_seconds):
            linger(ctx, seconds)
            ctx.data.set("k", 1)
            with ctx.operation("op", "inside"):
                time.sleep(0.01)
            print(f"stored {ctx.data.get('k')}")
    except OperationCut:
        print("was cut")
        raise
    time.sleep(LONG_S)


@agent
def stepping(ctx: SyncContext) -> None:
    """Do a step whose operation a stop meets."""

    def fetch() -> str:
        with ctx.operation("op", "fetch"):
            linger(ctx, 0.2)
        return "fetched"

    ctx.step("fetch", fetch)
    print("never said")


@agent
def refused(ctx: SyncContext) -> None:
    """Try in a clean-up what nobody may after a stop."""
    try:
        ctx.log("ready")
        time.sleep(LONG_S)
    finally:
        try:
            with ctx.operation("op", "too late"):
                print("never said")
        except OperationRefused:
            ctx.log("was refused")


@agent
def counting(ctx: SyncContext, to: int) -> int:
    """Count in operations, with a question at the end."""
    for n in range(to):
        with ctx.operation("count", str(n)):
            time.sleep(0.01)
        ctx.checkpoint()
    answer: int = ctx.ask("How many?", int)
    return answer


@agent
def forking(ctx: SyncContext) -> list[bool]:
    """Return whether the process that it forks has its signals as any process has them."""
    read, write = os.pipe()
    if os.fork() == 0:
        mine = [signal.getsignal(n) is signal.SIG_DFL for n in (signal.SIGTERM, signal.SIGURG)]
        os.write(write, bytes(mine))
        os._exit(0)
    os.wait()
    return [bool(each) for each in os.read(read, 2)]


@agent
def trailing(ctx: SyncContext) -> str:
    """Leave threads behind: one in an operation, one that tells something now and then."""
    begun = threading.Event()

    def operate() -> None:
        with ctx.operation("op", "in a thread"):
            begun.set()
            time.sleep(0.3)

    def tell() -> None:
        while True:
            ctx.log("tick")
            time.sleep(0.05)

    threading.Thread(target=operate).start()
    threading.Thread(target=tell, daemon=True).start()
    begun.wait()
    return "returned"


@agent
def descending(ctx: SyncContext, depth: int) -> int:
    """Call itself, as a sub-agent in a process of its own."""
    return 1 + ctx.call("descending", depth=depth - 1) if depth else 0


@agent
def timed(ctx: SyncContext) -> list[float]:
    """Say from when to when it was at work, on a clock that all processes share."""
    began = time.monotonic()
    time.sleep(0.1)
    return [began, time.monotonic()]


@agent
def having_timed(ctx: SyncContext) -> list[list[float]]:
    """Have several at work at once, if there may be."""
    found: list[list[float]] = ctx.map(timed, [{}] * 3)
    return found

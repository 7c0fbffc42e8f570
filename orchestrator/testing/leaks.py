"""What must not be left over: tasks, slots, sockets, child processes, threads."""

from __future__ import annotations

import os
import stat
import sys
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio
import trio.testing

from orchestrator.stack import frames_of, task_tree
from orchestrator.testing.places import innermost, place_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.testing.places import Place

T = TypeVar("T")

# Real seconds that what is about to end is given: threads and children end a moment after the
# task that they worked for.
PATIENCE_S = 2.0


class Leaked(AssertionError):
    """Something is left over; the message names each."""

    def __init__(self, left: list[str]) -> None:
        super().__init__("left over:\n" + "\n".join(f"  - {each}" for each in left))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the process holds: threads, sockets (by file descriptor and inode), children."""

    threads: frozenset[threading.Thread]
    sockets: frozenset[tuple[int, int]]
    children: frozenset[int]

    @classmethod
    def take(cls) -> Snapshot:
        """Look at the process as it is now."""
        return cls(frozenset(_busy_threads()), frozenset(_sockets()), frozenset(_children()))

    def left_since(self) -> list[str]:
        """Return in words what is there now and was not then, after a little patience."""
        return patiently(self._left)

    def threads_left(self) -> list[threading.Thread]:
        """Return the threads that are there now and were not then, after a little patience."""
        return patiently(lambda: sorted(_busy_threads() - self.threads, key=lambda t: t.name))

    def _left(self) -> list[str]:
        now = Snapshot.take()
        return [
            *(
                f"thread {each.name!r}{standing_at(place_of(each))}"
                for each in now.threads - self.threads
            ),
            *(f"socket, file descriptor {fd}" for fd, _ in now.sockets - self.sockets),
            *(f"child process {pid}" for pid in now.children - self.children),
        ]


@contextmanager
def no_leaks_in() -> Iterator[None]:
    """Check after the body that it left no thread, socket or child process.

    Raises:
        Leaked: it did.
    """
    before = Snapshot.take()
    yield
    if left := before.left_since():
        raise Leaked(left)


async def check_loop() -> None:
    """Check that only the caller's task is left in the loop, and no slot for threads is taken.

    A checkpoint.

    Raises:
        Leaked: more is left.
    """
    await trio.testing.wait_all_tasks_blocked()
    mine = trio.lowlevel.current_task()
    left = [
        f"task {task.name}{standing_at(place_of(task))}" for task in tasks() if task is not mine
    ]
    slots = trio.to_thread.current_default_thread_limiter().borrowed_tokens
    if slots:
        left.append(f"{slots} slots for threads")
    if left:
        raise Leaked(left)


def tasks() -> list[trio.lowlevel.Task]:
    """Return every task of the loop but Trio's own."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    machinery = f"{Path(trio.__file__).parent}{os.sep}_core{os.sep}"
    return [
        task
        for task in task_tree(root)
        if not getattr(task.coro, "cr_code").co_filename.startswith(machinery)  # noqa: B009
    ]


def standing_at(place: Place | None) -> str:
    """Return where something stands, in words to append; empty if it is in nobody's code."""
    return f", which stands at {place}" if place is not None else ""


def place_of(stands: trio.lowlevel.Task | threading.Thread) -> Place | None:
    """Return the innermost line of an agent's own code at which a task or thread stands."""
    if isinstance(stands, threading.Thread):
        return place_in(sys._current_frames().get(stands.ident or 0))
    return innermost(frames_of(stands))[0]


def patiently(look: Callable[[], list[T]]) -> list[T]:
    """Look until nothing is left, for two real seconds at most, and return what is."""
    until = time.perf_counter() + PATIENCE_S
    while (left := look()) and time.perf_counter() < until:
        time.sleep(0.001)  # threads and processes have no event to wait for together
    return left


def _busy_threads() -> set[threading.Thread]:
    """The threads but those that Trio keeps for later use."""
    return {each for each in threading.enumerate() if not each.name.startswith("Trio thread ")}


def _sockets() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):
            seen = os.fstat(int(name))
            if stat.S_ISSOCK(seen.st_mode):
                yield int(name), seen.st_ino


def _children() -> Iterator[int]:
    """The child processes; none are seen where there is no /proc."""
    for listed in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, listed.read_text().split())

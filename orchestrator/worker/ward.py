"""One worker as the warden sees it, and how the warden ends it with everything that it started."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.procfs import all_processes, below, dies_of, reap, signal_exactly
from orchestrator.worker.kernel import kill_marked, mark_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.procfs import Process

# How long the killing goes on before the survivors are named.
KILL_S = 5.0
# Between two looks at what is being killed: at first, and at most.
_SOON_S, _LATER_S = 0.0005, 0.032


class Exit(NamedTuple):
    """How the worker's own process ended: ``status`` is a code, or minus a signal's number."""

    status: int
    cpu_s: float
    oom: bool


class Ward:
    """A worker from its birth until nothing is left of it.

    Its pid stays its own, and that of its process group, until ``exit`` is set: only then is it
    reaped, as the last of its tree.

    Attributes:
        exit: how it ended; None as long as anything of it is there.
        ending: it has exited or is to be killed, so its whole tree is.
        killed: whom we killed.
        told: how many of those have been reported.
        surviving: those that are still there although they were killed ``KILL_S`` ago.
        next_look: when its tree is looked at again while that is ending, on the monotonic clock.
        stands_back: its session has a smaller share of the processors than ours.
    """

    def __init__(self, number: int, pid: int, mark: int) -> None:
        self.number = number
        self.pid = pid
        self.mark = mark
        self.pidfd = os.pidfd_open(pid)
        self.exit: Exit | None = None
        self.ending = False
        self.killed: dict[int, None] = {}
        self.told = 0
        self.surviving: list[int] = []
        self.next_look = 0.0
        self.stands_back = False
        self._pause_s = _SOON_S
        self._until = 0.0
        self._oom_before = _oom_kills()

    def end(self) -> None:
        """Have its tree killed, beginning with the next look."""
        self.ending = True
        self.surviving = []
        self._until = time.monotonic() + KILL_S
        self.look_soon()

    def look_soon(self) -> None:
        """Let the next look be now: something has happened."""
        self._pause_s = _SOON_S
        self.next_look = 0.0

    def terminate(self, tree: list[Process]) -> None:
        """Send SIGTERM to its process group, and to those of its tree outside of it.

        Those that die of it count as killed; the worker itself is asked to exit.
        """
        doomed = [each for each in tree if not each.ended and dies_of(each.pid, signal.SIGTERM)]
        self.killed.update((each.pid, None) for each in doomed)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)
        for each in tree:
            with suppress(PermissionError):
                if not each.ended and _group_of(each.pid) != self.pid:
                    signal_exactly(each, signal.SIGTERM)

    def note_killed(self, pids: Iterable[int]) -> None:
        """These were just killed. As long as there are new ones, the next look is soon."""
        before = len(self.killed)
        self.killed.update(dict.fromkeys(pids))
        new = len(self.killed) > before
        self._pause_s = _SOON_S if new else min(2 * self._pause_s, _LATER_S)

    def sweep(self, own: Process, tree: list[Process]) -> None:
        """Kill what has not the mark; reap the worker once nothing else is left.

        Args:
            tree: whatever comes from it, as just looked at; empty is proof that it is so, since
                a child of ours is always seen, and only we reap those.
        """
        if own.ended and not tree:
            self._reap_worker()
            return
        alive = [each for each in (own, *tree) if not each.ended]
        for each in alive:
            if mark_of(each.pid) != self.mark:
                with suppress(PermissionError):
                    if signal_exactly(each, signal.SIGKILL):
                        self.killed[each.pid] = None
        # All of its group at once: nobody there forks any more.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        now = time.monotonic()
        if now > self._until:
            self.surviving = [each.pid for each in alive]
        self.next_look = now + self._pause_s

    def _reap_worker(self) -> None:
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            oom = _oom_kills() > self._oom_before
            self.exit = Exit(code, usage.ru_utime + usage.ru_stime, oom)


def sweep_all(wards: Iterable[Ward]) -> None:
    """Kill what there is of those wards that are ending and whose turn it is."""
    wards, now = list(wards), time.monotonic()
    due = [ward for ward in wards if ward.ending and ward.next_look <= now]
    if not due:
        return
    killed = kill_marked({ward.mark for ward in due})
    for ward in due:
        ward.note_killed(pid for pid, mark in killed.items() if mark == ward.mark)
    processes = all_processes()
    for ward in due:
        ward.sweep(processes[ward.pid], tree_of(ward, wards, processes))
    workers = {ward.pid for ward in wards}
    # Only now: a worker's tree counts as empty only if not even a zombie of it was seen.
    reap(each for each in processes.values() if each.pid not in workers)


def tree_of(ward: Ward, wards: list[Ward], processes: dict[int, Process]) -> list[Process]:
    """Return what comes from a worker, without itself.

    That is what descends from it, and what came to us when its parents died. The mark says whose
    it is; what has somehow another one is everybody's who is ending.
    """
    live = {each.mark for each in wards} - {ward.mark}
    pids = {each.pid for each in wards}
    found = below(ward.pid, processes)
    for each in processes.values():
        if each.parent == os.getpid() and each.pid not in pids and mark_of(each.pid) not in live:
            found += [each, *below(each.pid, processes)]
    return found


def end_everything() -> None:
    """Kill and reap whatever is below this process, until nothing is, or for ``KILL_S``."""
    until = time.monotonic() + KILL_S
    while (left := below(os.getpid(), all_processes())) and time.monotonic() < until:
        for each in left:
            with suppress(PermissionError):
                signal_exactly(each, signal.SIGKILL)
        reap(left)
        time.sleep(_SOON_S)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _oom_kills() -> int:
    """Return how many processes the kernel has killed since boot because memory ran out."""
    with suppress(OSError), open("/proc/vmstat", "rb") as file:
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0

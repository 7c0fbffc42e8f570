"""Processes as ``/proc`` shows them, and signals that cannot reach a wrong one."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Process(NamedTuple):
    """One process at the moment it was looked at.

    Attributes:
        started: when it started, in clock ticks since boot: with ``pid``, which process it is.
        ended: no thread of it runs any more; it waits to be reaped.
    """

    pid: int
    parent: int
    started: int
    ended: bool


def pids() -> Iterator[int]:
    """Yield the id of every process there is."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def look_at(pid: int) -> Process | None:
    """Return a process; None if it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        stat = os.read(fd, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    # The name, in brackets, may hold anything, so what follows is counted from its end.
    fields = stat[stat.rindex(b")") + 2 :].split()
    # A leader that has exited is shown as a zombie while its other threads go on.
    ended = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    return Process(pid, int(fields[1]), int(fields[19]), ended)


def all_processes() -> dict[int, Process]:
    """Return every process by its id.

    They are looked at one after the other, so a chain of parents may be torn. Whoever exists
    all the while is in it: among them each unreaped child of the caller.
    """
    return {seen.pid: seen for seen in map(look_at, pids()) if seen is not None}


def below(root: int, processes: Mapping[int, Process]) -> list[Process]:
    """Return what descends from a process, without itself; parents before children."""
    children: dict[int, list[Process]] = {}
    for each in processes.values():
        children.setdefault(each.parent, []).append(each)
    found = list(children.get(root, ()))
    for each in found:
        found.extend(children.get(each.pid, ()))
    return found


def dies_of(pid: int, number: int) -> bool:
    """Whether a signal would end a process at once: it neither handles, ignores nor blocks it."""
    try:
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":\t", 1) for line in status if line.startswith("Sig"))
    except OSError:
        return False
    masks = (int(fields.get(name, "0"), 16) for name in ("SigBlk", "SigIgn", "SigCgt"))
    return not any(mask >> number - 1 & 1 for mask in masks)


def signal_exactly(seen: Process, number: int) -> bool:
    """Signal a process that was looked at earlier, and never one that has got its id since.

    Returns:
        Whether it was still there.
    """
    try:
        fd = os.pidfd_open(seen.pid)
    except ProcessLookupError:
        return False
    try:
        now = look_at(seen.pid)
        if now is None or now.started != seen.started:
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def reap(seen: Iterable[Process]) -> None:
    """Reap those of the caller's own children among ``seen`` that have ended."""
    for each in seen:
        if each.ended and each.parent == os.getpid():
            os.waitid(os.P_PID, each.pid, os.WEXITED | os.WNOHANG)

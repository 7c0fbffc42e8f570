"""What is asked of the Linux kernel beyond Python's own modules: prctl, and marks.

A mark is a number that a process and everything it starts carry for good: the hard limit
``RLIMIT_LOCKS``, which the kernel has ignored since 2.4.25. It passes through fork and exec,
``setsid`` and an emptied environment, only a privileged process can raise it again, and it is
read in a microsecond. A token stands for one warden; its high bits are the same in all marks.
"""

from __future__ import annotations

import ctypes
import os
import resource
import secrets
import select
import signal
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.procfs import pids
from orchestrator.worker.errors import WardenUnavailable

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER, _GET_CHILD_SUBREAPER = 1, 36, 37
_RLIMIT_LOCKS = 10
_M_ARENA_MAX = -8
_NUMBER_BITS = 28
_HIGHEST = 1 << 62

# How far workers stand back for the one who must stop them, and for everybody else: enough that
# a loop gets a processor at once, whatever spins beside it. Costs nothing on an idle machine.
NICENESS = 10


def check_system() -> None:
    """Check that processes can be held and found here.

    Raises:
        WardenUnavailable: they cannot; it says what is missing.
    """
    missing = []
    if sys.platform != "linux":
        missing.append("Linux")
    elif not Path("/proc/self/stat").exists():
        missing.append("/proc")
    elif not hasattr(os, "pidfd_open"):
        missing.append("a Python built for Linux 5.4 or newer (os.pidfd_open)")
    else:
        missing += _missing_calls()
    if not sys.executable:
        missing.append("a Python interpreter of its own (sys.executable)")
    if missing:
        raise WardenUnavailable(
            f"runs cannot have processes of their own here: that needs {', '.join(missing)}"
        )


def _missing_calls() -> Iterator[str]:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        yield "Linux 5.4 or newer (pidfd_open)"
    try:
        _is_subreaper()
    except OSError:
        yield "child subreapers (prctl)"


def become_subreaper() -> None:
    """Make orphans below this process its children, whatever sessions they made for themselves."""
    _prctl(_SET_CHILD_SUBREAPER, 1)


@contextmanager
def subreaping() -> Iterator[None]:
    """Be a subreaper for the time of the body. Bodies may overlap within a process."""
    if not _subreaping and _is_subreaper():
        # Somebody else wants that too, for longer than we know.
        yield
        return
    body = object()
    _subreaping.add(body)
    become_subreaper()
    try:
        yield
    finally:
        _subreaping.discard(body)
        if not _subreaping:
            _prctl(_SET_CHILD_SUBREAPER, 0)


_subreaping: set[object] = set()


def _is_subreaper() -> bool:
    found = ctypes.c_int()
    _prctl(_GET_CHILD_SUBREAPER, ctypes.byref(found))
    return bool(found.value)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent's calling thread dies.

    Args:
        parent: who the parent must be; this process ends at once if that one is dead already.
    """
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def go_on_without_parent() -> None:
    """Have the kernel continue this process, should it be stopped, when its parent dies.

    The kernel does so by itself only where nobody of our session is left who could do it. It does
    so too when only the thread has exited that launched us, which does no harm.
    """
    _prctl(_SET_PDEATHSIG, signal.SIGCONT)


def stand_back() -> None:
    """Let others have the processor before this process and everything that it will start."""
    os.nice(NICENESS)


def stand_back_as_session(leader: int) -> bool:
    """Let other sessions have the processor before the one of that leader.

    Where the kernel groups tasks by session (``sched_autogroup_enabled``), each new session gets
    as large a share as any other, and niceness counts only within one.

    Returns:
        Whether there is nothing more to do. If not, try again soon: there is no such session yet,
        or the kernel has just done this for somebody, which it does ten times a second at most.
    """
    try:
        if os.getsid(leader) != leader:
            return False
        share = Path(f"/proc/{leader}/autogroup")
        if not share.read_text().endswith(f" nice {NICENESS}\n"):
            share.write_text(str(NICENESS))
    except BlockingIOError:
        return False
    except OSError:
        # It is gone, or there are no such groups.
        return True
    return True


def _prctl(option: int, argument: object) -> None:
    if _libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


_libc = ctypes.CDLL(None, use_errno=True)


def save_address_space() -> None:
    """Keep threads that will be started from reserving 64 MiB of address space each."""
    with suppress(AttributeError):
        _libc.mallopt(_M_ARENA_MAX, 1)


def new_token() -> int:
    """Return a token that is this process's to give to one warden.

    Raises:
        WardenUnavailable: the limit that makes the marks is too low already.
    """
    hard = resource.getrlimit(_RLIMIT_LOCKS)[1]
    highest = (_HIGHEST if hard == resource.RLIM_INFINITY else hard) >> _NUMBER_BITS
    if highest < 2:
        raise WardenUnavailable(
            "runs cannot have processes of their own here: the unused limit on file locks, by"
            f" which they are recognised, is only {hard}; raise it (ulimit -x unlimited)"
        )
    return 1 + secrets.randbelow(highest - 1)


def mark_for(token: int, number: int | None = None) -> int:
    """Return the mark of a worker by its number from 0 on, or that of the warden itself."""
    highest = (1 << _NUMBER_BITS) - 1
    return (token << _NUMBER_BITS) | (highest if number is None else number % highest)


def token_in(mark: int) -> int:
    """Return the token that a mark was made for."""
    return mark >> _NUMBER_BITS


def take_mark(mark: int) -> None:
    """Mark this process and everything that it will start."""
    resource.setrlimit(_RLIMIT_LOCKS, (mark, mark))


def kill_marked(wanted: Container[int]) -> dict[int, int]:
    """Kill every process that has one of those marks, as soon as it is seen.

    Between look and signal are a few microseconds, so that even what forks and exits, over and
    over, is hit. What the process descriptor stands for is what has the mark, so a pid that
    passes to another process meanwhile does no harm.

    Returns:
        The marks of those that were alive, by their pids.

    Raises:
        OSError: there are too many open files.
    """
    killed = {}
    for pid in pids():
        if mark_of(pid) not in wanted:
            continue
        with suppress(ProcessLookupError, PermissionError):
            pidfd = os.pidfd_open(pid)
            try:
                mark = mark_of(pid)
                if mark in wanted and not has_ended(pidfd):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    killed[pid] = mark
            finally:
                os.close(pidfd)
    return killed


def reap_marked(pid: int, wanted: Container[int]) -> bool:
    """Reap a process if it is a child of ours, has one of those marks, and has ended.

    Returns:
        Whether that was so, and it had been killed.

    Raises:
        OSError: it is gone, or there are too many open files.
    """
    pidfd = os.pidfd_open(pid)
    ended = None
    try:
        if mark_of(pid) in wanted:
            with suppress(ChildProcessError):
                ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    finally:
        os.close(pidfd)
    return ended is not None and (ended.si_code, ended.si_status) == (os.CLD_KILLED, signal.SIGKILL)


def has_ended(pidfd: int) -> bool:
    """Whether no thread of a process runs any more."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def mark_of(pid: int) -> int:
    """Return the mark of a process; -1 if it has none, is gone, or is another user's."""
    try:
        return resource.prlimit(pid, _RLIMIT_LOCKS)[1]
    except (ProcessLookupError, PermissionError):
        return -1

"""How a process that was just made becomes a worker."""

from __future__ import annotations

import gc
import importlib
import os
import resource
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, TextIO

from orchestrator.worker.kernel import (
    become_subreaper,
    die_with_parent,
    save_address_space,
    stand_back,
    stand_back_as_session,
    take_mark,
)
from orchestrator.worker.packets import read_file
from orchestrator.worker.values import NO_MEMORY

if TYPE_CHECKING:
    from orchestrator.model import Json

# Where the worker's control socket is, after stdin, stdout and stderr.
CONTROL_FD = 3


def main(setup_fd: int, warden: int, control: int, out: int = 1, err: int = 2) -> NoReturn:
    """Become a worker, do its work, and exit.

    Called in a process that the warden has just forked, or in a fresh interpreter.

    Args:
        setup_fd: the file in memory that says what it is to be.
        warden: the pid of the parent, without whom it must not live.
        control, out, err: descriptors of its control socket, stdout and stderr.
    """
    code = 1
    try:
        setup = read_file(setup_fd)
        # First of all, so that nothing can be started that is not found again.
        take_mark(setup["mark"])
        _belong(warden)
        _attach(control, out, err)
        _settle_in(setup)
        code = _work(setup["entry"], setup["argument"])
    except BaseException:
        with suppress(BaseException):
            traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
        with suppress(BaseException):
            sys.stderr.flush()
        # Not an ordinary exit: what was inherited from the warden is not for us to finish.
        os._exit(code)


def _belong(warden: int) -> None:
    if os.getsid(0) != os.getpid():
        os.setsid()
    die_with_parent(warden)
    become_subreaper()
    stand_back()
    stand_back_as_session(os.getpid())
    # When memory runs out, the kernel is to take this process and not who looks after it.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _attach(control: int, out: int, err: int) -> None:
    """Hold stdin, stdout, stderr and the control socket, and nothing else."""
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, place in ((null, 0), (out, 1), (err, 2)):
        if fd != place:
            os.dup2(fd, place)
    if control != CONTROL_FD:
        os.dup2(control, CONTROL_FD)
    os.set_inheritable(CONTROL_FD, False)
    os.closerange(CONTROL_FD + 1, os.sysconf("SC_OPEN_MAX"))
    # Fresh ones: those of the warden know that what they wrote to was no pipe.
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), _text(1), _text(2)


def _text(fd: int) -> TextIO:
    return open(fd, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def _settle_in(setup: Json) -> None:
    """Take the environment, the folder and the limits that were given."""
    os.environ.clear()
    os.environ.update(setup["env"])
    time.tzset()
    os.chdir(setup["cwd"])
    sys.path[:] = setup["path"]
    gc.enable()
    if setup["memory_mib"] is not None:
        save_address_space()
        _limit(resource.RLIMIT_AS, setup["memory_mib"] << 20)
    if setup["cpu_s"] is not None:
        # At the soft limit comes SIGXCPU, which can be ignored; a second later SIGKILL.
        _limit(resource.RLIMIT_CPU, setup["cpu_s"], spare=1)


def _limit(which: int, limit: int, spare: int = 0) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        # A stricter limit from outside stays.
        limit, spare = min(limit, hard), min(spare, max(0, hard - limit))
    resource.setrlimit(which, (limit, limit + spare))


def _work(entry: str, argument: Json) -> int:
    """Call the entry; return the exit code."""
    try:
        module, _, function = entry.partition(":")
        call = getattr(importlib.import_module(module), function)
        call(socket.socket(fileno=CONTROL_FD), argument)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    except MemoryError:
        traceback.print_exc()
        return NO_MEMORY
    return 0

"""That a store is open once: an advisory lock on a file beside it.

The operating system lets go of it when the process ends, however it ends. The file stays, since
removing it would let two processes lock two files of that name.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from orchestrator.errors import InvalidInput, StoreInUse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of the store at ``path``, which is absolute and resolved.

    A process forked from this one holds it too, until it ends or executes another program.

    Raises:
        StoreInUse: somebody holds it, this process included.
        InvalidInput: the lock file cannot be made, for want of permission perhaps.
    """
    beside = path.with_name(path.name + ".lock")
    try:
        fd = os.open(beside, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        why = f"{beside} cannot be made ({error.strerror}); choose a folder that can be written"
        raise InvalidInput([("store", why)]) from error
    try:
        _take(fd, path)
        yield
    finally:
        os.close(fd)


def is_locked(path: Path) -> bool:
    """Whether a process has the store at ``path`` open at this moment."""
    try:
        fd = os.open(path.with_name(path.name + ".lock"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


def _take(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise StoreInUse(f"{path} is open in {_holder(fd)}; {_REMEDY}") from None
    # Whose it is serves the message above only, so a disk too full to say it is no obstacle.
    with suppress(OSError):
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)


_REMEDY = "stop that first, or use another file"


def _holder(fd: int) -> str:
    pid = os.pread(fd, 20, 0).decode(errors="replace")
    if pid == str(os.getpid()):
        return "this process already"
    return f"process {pid}" if pid.isdigit() else "another process"

"""What runs in workers under test, most of it badly behaved.

Every process that comes of a worker here keeps a certain file open, so that a test finds them all
in ``/proc`` by what the kernel says of their files, and not by what the code under test knows.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_LONG_S = 1000


def holders(witness: Path) -> list[int]:
    """Return the processes that have the file open, or any file in that folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        # A process whose first thread has exited has no files of its own, but its threads have.
        folders = [f"/proc/{pid}"]
        if not _names(f"/proc/{pid}/fd"):
            folders = [f"/proc/{pid}/task/{thread}" for thread in _names(f"/proc/{pid}/task")]
        if any(_holds(folder, str(witness)) for folder in folders):
            found.append(int(pid))
    return sorted(found)


def _holds(folder: str, witness: str) -> bool:
    for fd in _names(f"{folder}/fd"):
        with suppress(OSError):
            target = os.readlink(f"{folder}/fd/{fd}")
            if target == witness or target.startswith(f"{witness}/"):
                return True
    return False


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def animal(control: socket.socket, argument: dict[str, Any]) -> None:
    """Hold the witness, behave as the kind says, and say ``up`` once everything is there."""
    witness = Path(argument["witness"])
    os.set_inheritable(os.open(witness, os.O_RDWR | os.O_CREAT), True)
    kind = argument["kind"]
    count, prepare, then = KINDS[kind]
    prepare()
    while count > 1 and len(holders(witness)) < count:
        time.sleep(0.005)
    control.sendall(b"up")
    then()


def say(control: socket.socket, argument: Any) -> None:
    """Say what is seen from inside, as JSON, and wait to be released."""
    import json

    report = {
        "argument": argument,
        "env": dict(os.environ),
        "env_of_a_child": _env_of_a_child(),
        "cwd": os.getcwd(),
        "fds": {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]},
        "session": os.getsid(0) == os.getpgid(0) == os.getpid(),
        "status": Path("/proc/self/status").read_text(),
        "threads": threading.active_count(),
        "preloaded": argument in sys.modules if isinstance(argument, str) else None,
    }
    Path("made here").write_text("something")
    control.sendall(json.dumps(report).encode() + b"\n")
    control.recv(1)


def _env_of_a_child() -> list[str]:
    said = subprocess.check_output(["/usr/bin/env"])
    return said.decode(errors="surrogateescape").splitlines()


def leave(control: socket.socket, argument: Any) -> None:
    """End by itself, in one way or another."""
    match argument:
        case "return":
            print("the last words")
        case "raise":
            raise LookupError("nothing there")
        case "exit":
            sys.exit(4)
        case "_exit":
            os._exit(3)
        case "segfault":
            ctypes.string_at(0)
        case "memory":
            held = [bytearray(1 << 20) for _ in range(1 << 20)]
            print(len(held))
        case "cpu":
            _spin()
        case "cpu, ignored":
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)
            _spin()
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "daemon":
            _daemon("sleep")
            control.sendall(b"up")


def _nothing() -> None:
    pass


def _sleep() -> None:
    time.sleep(_LONG_S)


def _spin() -> None:
    while True:
        pass


def _hold_gil() -> None:
    print(pow(3, 10**9) % 7)


def _flood() -> None:
    while True:
        os.write(1, b"x" * 4096)


def _ignore_signals() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            continue


def _fork(do: Callable[[], None]) -> None:
    if os.fork() == 0:
        do()
        os._exit(0)


def _children() -> None:
    for _ in range(3):
        _fork(_sleep)


def _session() -> None:
    _run("setsid", "sleep", str(_LONG_S))


def _unmarked() -> None:
    _run("env", "-i", "setsid", "sleep", str(_LONG_S))


def _run(*words: str) -> None:
    subprocess.Popen(words, close_fds=False, start_new_session=True)


def _daemon(name: str = "") -> None:
    def detach() -> None:
        os.setsid()
        _ignore_signals()
        _fork(_sleep)

    _fork(detach)
    os.wait()


def _disown() -> None:
    """Take back everything that was arranged for its end, then leave a daemon."""
    libc = ctypes.CDLL(None)
    libc.prctl(1, 0)
    libc.prctl(36, 0)
    _daemon()
    _ignore_signals()


def _lower_mark() -> None:
    """Change the mark, which nobody can raise, and leave a daemon."""
    import resource

    resource.setrlimit(10, (17, 17))
    _daemon()


def _leaderless() -> None:
    """Go on in another thread when the first has exited."""
    threading.Thread(target=_sleep).start()


def _leave_first_thread() -> None:
    ctypes.CDLL(None).pthread_exit(None)


def _bomb(depth: int = 4) -> None:
    """Keep three children, each in a session of its own, and replace whichever dies."""

    def burst() -> None:
        os.setsid()
        _ignore_signals()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _bomb(depth - 1)

    alive = 0
    while True:
        while depth and alive < 3:
            _fork(burst)
            alive += 1
        if not depth:
            _sleep()
        os.wait()
        alive -= 1


def _start_bomb() -> None:
    _fork(_bomb)


def _comet() -> None:
    """Fork and exit, over and over, each time in a new session: its pid never stays."""

    def fly() -> None:
        while os.fork() == 0:
            os.setsid()
        os._exit(0)

    _fork(fly)


# How many processes there are at least, what makes them, and what the worker then does.
KINDS: dict[str, tuple[int, Callable[[], None], Callable[[], None]]] = {
    "sleeps": (1, _nothing, _sleep),
    "spins": (1, _nothing, _spin),
    "holds the GIL": (1, _nothing, _hold_gil),
    "floods stdout": (1, _nothing, _flood),
    "ignores signals": (1, _ignore_signals, _sleep),
    "has children": (4, _children, _sleep),
    "has a child with a session": (2, _session, _sleep),
    "has a child without environment": (2, _unmarked, _sleep),
    "has a daemon": (2, _daemon, _sleep),
    "disowns": (2, _disown, _sleep),
    "changes its mark": (2, _lower_mark, _sleep),
    "has lost its first thread": (1, _leaderless, _leave_first_thread),
    "is a bomb": (60, _start_bomb, _sleep),
    "is a comet": (1, _comet, _sleep),
}

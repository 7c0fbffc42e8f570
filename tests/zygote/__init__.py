"""Processes that start at once: forked off one that has imported everything.

A process that imports Quiesce spends a second of processor time on that, and the tests start more
than a thousand. So commands of the tests, ``quiesce …`` and ``python -m tests.…``, are forked by a
small process that is kept for that (``__main__``), with arguments, environment, folder and streams
of their own. Everything else, and all that Quiesce itself starts, is executed as ever.

``subprocess.Popen`` stays the one way to start something; ``install`` replaces how it does so.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
QUIESCE = str(Path(sys.executable).with_name("quiesce"))
# What ``Popen`` hands to ``_execute_child`` after the arguments and the executable.
GIVEN = (
    *("preexec_fn", "close_fds", "pass_fds", "cwd", "env", "startupinfo", "creationflags", "shell"),
    *("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite", "restore_signals"),
    *("gid", "gids", "uid", "umask", "start_new_session", "process_group"),
)
HANDLES = [name for name in GIVEN if name.endswith(("read", "write"))]
# Who asks for one of these has the command executed.
UNHEARD_OF = ("preexec_fn", "pass_fds", "shell", "gid", "gids", "uid")
# More than an environment and the arguments of a command.
MESSAGE = 1 << 18


class _Zygote:
    """The process that forks, started when it is first asked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: dict[str, Any], fds: list[int]) -> Any:
        with self._lock:
            if self._socket is None:
                self._socket = self._start()
            socket.send_fds(self._socket, [json.dumps(question).encode()], fds)
            answer = self._socket.recv(MESSAGE)
        assert answer, "the process that forks the processes of tests has died"
        return json.loads(answer)

    def _start(self) -> socket.socket:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            # It ends when our end of the socket is closed, so with this process.
            self._process = EXECUTED(
                [sys.executable, "-m", "tests.zygote", str(its.fileno())],
                cwd=ROOT,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
        return ours


EXECUTED = subprocess.Popen
_zygote = _Zygote()


class Forked(EXECUTED[Any]):
    """A ``Popen`` that has the commands of tests forked instead of executed.

    The process is a child of the zygote, which is asked for its exit status.
    """

    _ours = False

    def _execute_child(self, args: Any, executable: Any, *rest: Any) -> None:
        given = dict(zip(GIVEN, rest, strict=True))
        command = [str(each) for each in args] if isinstance(args, (list, tuple)) else []
        environment = dict(os.environ if given["env"] is None else given["env"])
        if executable or not _can_be_forked(command, given, environment):
            super()._execute_child(args, executable, *rest)  # type: ignore[misc]
            return
        question = {
            "command": command[1:] if command[0] == sys.executable else command,
            "cwd": str(Path(given["cwd"] or ".").resolve(strict=True)),
            "environment": environment,
            "session": given["start_new_session"],
            "group": given["process_group"],
        }
        ends = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
        streams = [standard if end == -1 else end for standard, end in enumerate(ends)]
        self.pid = _zygote.ask(question, streams)
        self._ours = self._child_created = True
        self._close_pipe_fds(*(given[name] for name in HANDLES))  # type: ignore[attr-defined]

    def _try_wait(self, flags: int) -> tuple[int, int]:
        if not self._ours:
            return super()._try_wait(flags)  # type: ignore[misc, no-any-return]
        if not flags & os.WNOHANG:
            _wait_until_dead(self.pid)
        pid, status = _zygote.ask({"wait": self.pid}, [])
        return pid, status

    def _internal_poll(self, *args: Any, **more: Any) -> int | None:
        if not self._ours:
            return super()._internal_poll(*args, **more)  # type: ignore[misc, no-any-return]
        if self.returncode is None and self._waitpid_lock.acquire(blocking=False):  # type: ignore[attr-defined]
            try:
                pid, status = self._try_wait(os.WNOHANG)
                if pid == self.pid:
                    self._handle_exitstatus(status)  # type: ignore[attr-defined]
            finally:
                self._waitpid_lock.release()  # type: ignore[attr-defined]
        return self.returncode


def install() -> None:
    """Let ``subprocess.Popen`` fork what it can. May be called twice."""
    subprocess.Popen = Forked  # type: ignore[misc]


def _can_be_forked(command: list[str], given: dict[str, Any], environment: dict[str, str]) -> bool:
    match command:
        case [program, *_] if program == QUIESCE:
            pass
        case [program, "-m", module, *_] if program == sys.executable:
            if not module.startswith("tests."):
                return False
        case _:
            return False
    # What an interpreter reads when it starts, a child of one that has started would not read.
    same = _of_python(environment) == _of_python(os.environ)
    return same and all(given[name] in (None, False, (), -1) for name in UNHEARD_OF)


def _of_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


def _wait_until_dead(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        select.select([fd], [], [])
    finally:
        os.close(fd)

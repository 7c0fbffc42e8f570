"""The warden: the parent of all workers, in a process of its own.

It has one thread and never waits for anybody, so that nothing keeps it from noticing that the
orchestrator has gone. It allocates little, and does not trust what it starts.
"""

from __future__ import annotations

import fcntl
import gc
import importlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NoReturn

from orchestrator.procfs import all_processes
from orchestrator.worker import birth
from orchestrator.worker.kernel import (
    become_subreaper,
    go_on_without_parent,
    mark_for,
    stand_back_as_session,
    take_mark,
)
from orchestrator.worker.packets import (
    BOOT,
    LONGEST,
    PIDS,
    STARTING_FDS,
    pack,
    read_file,
    unpack,
)
from orchestrator.worker.ward import Ward, end_everything, sweep_all, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.model import Json

# Signals that others send to a whole terminal or service. Blocked, not ignored: a worker that
# was just forked takes them when it is ready, instead of missing them.
_NOT_FOR_US = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# Between two tries to have a new worker's session stand back.
_SHARE_S = 0.02


def main(setup_fd: int, wire_fd: int) -> NoReturn:
    """Be the warden until the orchestrator has gone; a fresh interpreter calls this.

    Args:
        setup_fd: the file in memory that says how; wire_fd: the socket to the orchestrator.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, _NOT_FOR_US)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    gc.disable()
    setup = read_file(setup_fd)
    become_subreaper()
    # Any code in a worker can stop us, and nobody is to outlive the orchestrator by that.
    go_on_without_parent()
    take_mark(mark_for(setup["token"]))
    with _ending_with(wire_fd):
        notes = _preload(setup["preload"])
    threads = len(os.listdir("/proc/self/task"))
    # What is there now stays as it is, so that workers can share its memory.
    gc.freeze()
    folder = tempfile.mkdtemp(prefix="quiesce-")
    try:
        warden = WardenProcess(socket.socket(fileno=wire_fd), setup, forks=threads == 1)
        ready = {"is": "ready", "threads": threads, "notes": notes, "folder": folder}
        warden.say(ready)
        warden.serve()
    except BaseException:
        traceback.print_exc()
    finally:
        end_everything()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


@contextmanager
def _ending_with(wire_fd: int) -> Iterator[None]:
    """End at once when the lifeline does, while whatever is imported has the only thread."""
    flags = fcntl.fcntl(wire_fd, fcntl.F_GETFL)
    # The default of SIGIO is to end the process; we are sent nothing before we are ready.
    fcntl.fcntl(wire_fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(wire_fd, fcntl.F_SETFL, flags | os.O_ASYNC)
    poll = select.poll()
    poll.register(wire_fd, select.POLLIN)
    if poll.poll(0):
        os._exit(0)
    yield
    fcntl.fcntl(wire_fd, fcntl.F_SETFL, flags)


def _preload(modules: list[str]) -> list[str]:
    """Import what workers will need; return in words what cannot be imported."""
    failed = []
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
    return failed


class WardenProcess:
    """The warden's loop: orders in, reports out, and children looked after."""

    def __init__(self, wire: socket.socket, setup: Json, *, forks: bool) -> None:
        self._wire = wire
        self._wire.setblocking(False)
        self._token: int = setup["token"]
        self._forks = forks
        self._unsent: deque[bytes] = deque()
        self._wards: dict[int, Ward] = {}
        self._poll = select.poll()
        self._wire_is_polled = False
        # The socket alone would not do: a process that the program forks holds its other end.
        self._parent = os.pidfd_open(setup["parent"])
        self._poll.register(self._parent, select.POLLIN)
        self._held = os.getppid() == setup["parent"]

    def serve(self) -> None:
        """Serve until the lifeline has ended and nothing is left of any worker."""
        while self._held or self._wards or self._unsent:
            self._listen()
            for fd, _ in self._poll.poll(self._patience_ms()):
                self._attend(fd)
            if not self._held:
                for ward in self._wards.values():
                    if not ward.ending:
                        ward.end()
            for ward in self._wards.values():
                ward.stands_back = ward.stands_back or stand_back_as_session(ward.pid)
            sweep_all(self._wards.values())
            for ward in list(self._wards.values()):
                self._report(ward)
            self._flush()

    def say(self, message: dict[str, Json]) -> None:
        """Report something, as soon as the orchestrator takes it."""
        self._unsent.append(pack(message))
        self._flush()

    def _patience_ms(self) -> float | None:
        now = time.monotonic()
        looks = [ward.next_look for ward in self._wards.values() if ward.ending]
        if not all(ward.stands_back for ward in self._wards.values()):
            looks.append(now + _SHARE_S)
        return max(0.0, min(looks) - now) * 1000 if looks else None

    def _listen(self) -> None:
        wanted = (select.POLLIN if self._held else 0) | (select.POLLOUT if self._unsent else 0)
        if wanted:
            self._poll.register(self._wire, wanted)
        elif self._wire_is_polled:
            self._poll.unregister(self._wire)
        self._wire_is_polled = bool(wanted)

    def _attend(self, fd: int) -> None:
        if fd == self._wire.fileno():
            if self._held:
                self._receive()
        elif fd == self._parent:
            self._held = False
            self._poll.unregister(fd)
            # Nobody listens any more, whoever else may have the other end open.
            self._wire.shutdown(socket.SHUT_RDWR)
        else:
            self._poll.unregister(fd)
            for ward in self._wards.values():
                if ward.pidfd == fd:
                    ward.look_soon() if ward.ending else ward.end()

    def _receive(self) -> None:
        try:
            packet, fds, _, _ = socket.recv_fds(
                self._wire, LONGEST, STARTING_FDS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            packet, fds = b"", []
        if not packet:
            self._held = False
            return
        order = unpack(packet)
        ward = self._wards.get(order["worker"])
        match order["do"]:
            case "start":
                self._start(order["worker"], fds)
            case "kill" if ward is not None:
                ward.end()
            case "terminate" if ward is not None:
                processes = all_processes()
                ward.terminate(tree_of(ward, list(self._wards.values()), processes))

    def _start(self, number: int, fds: list[int]) -> None:
        try:
            if len(fds) != STARTING_FDS:
                raise OSError("the warden has too many open files")
            pid = self._fork(*fds) if self._forks else self._spawn(*fds)
            ward = self._take_in(number, pid)
        except OSError as error:
            self.say({"is": "refused", "worker": number, "why": str(error)})
            return
        finally:
            for fd in fds:
                os.close(fd)
        self._wards[number] = ward
        self._poll.register(ward.pidfd, select.POLLIN)
        self.say({"is": "started", "worker": number, "pid": pid})

    def _take_in(self, number: int, pid: int) -> Ward:
        try:
            return Ward(number, pid, mark_for(self._token, number))
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def _fork(self, setup_fd: int, control: int, out: int, err: int) -> int:
        warden = os.getpid()
        pid = os.fork()
        if pid == 0:
            birth.main(setup_fd, warden, control, out, err)
        return pid

    def _spawn(self, setup_fd: int, control: int, out: int, err: int) -> int:
        """Start a fresh interpreter: with several threads here, a fork might never wake up."""
        boot = BOOT.format(module="birth")
        numbers = map(str, (setup_fd, os.getpid(), control))
        started = subprocess.Popen(
            [sys.executable, "-I", "-c", boot, *numbers],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            pass_fds=(setup_fd, control),
            start_new_session=True,
        )
        # We reap it ourselves, once nothing is left of its tree.
        started.returncode = 0
        return started.pid

    def _report(self, ward: Ward) -> None:
        killed = list(ward.killed)
        for first in range(ward.told, len(killed), PIDS):
            pids = killed[first : first + PIDS]
            self.say({"is": "killed", "worker": ward.number, "pids": pids})
        ward.told = len(killed)
        if ward.exit is not None:
            del self._wards[ward.number]
            with suppress(KeyError):
                # Or its number, once reused, would be taken for the end of another worker.
                self._poll.unregister(ward.pidfd)
            os.close(ward.pidfd)
            self.say({"is": "gone", "worker": ward.number, **ward.exit._asdict()})
        elif ward.surviving:
            self.say({"is": "surviving", "worker": ward.number, "pids": ward.surviving[:PIDS]})
            ward.end()

    def _flush(self) -> None:
        """Send what can be sent at once. Whoever does not listen must not make us wait."""
        try:
            while self._unsent:
                self._wire.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()

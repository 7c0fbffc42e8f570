"""One warden, from its start to its end, as the orchestrator sees it.

Its socket is the lifeline: the warden ends everything when that ends, be it because the
orchestrator was killed, be it because it closes the warden.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded
from orchestrator.worker.adoption import KILL_S, Remains
from orchestrator.worker.errors import WorkerNotStarted
from orchestrator.worker.kernel import mark_for, new_token
from orchestrator.worker.packets import (
    BOOT,
    LONGEST,
    pack,
    search_path,
    unpack,
    with_fds,
    write_file,
)
from orchestrator.worker.process import WorkerProcess, open_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from orchestrator.model import Json
    from orchestrator.worker.values import WorkerSpec

_log = logging.getLogger("quiesce.worker")

# How long a warden may take to end all workers and itself, before it is killed.
CLOSE_S = 7.5
# A warden that takes longer to start a worker may have been stopped by somebody.
WAKE_S = 1.0
# Likewise for its folder, if the warden has not removed it.
REMOVE_S = 5.0
# Of our environment, what an interpreter needs to start. Workers can see it in the warden's
# memory, so secrets must not be in it.
_NEEDED = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")


class Lifeline:
    """The connection to one warden, and the workers that it has.

    Attributes:
        ready: set when the warden has said what it can do, or is over.
        over: set when the warden is no more, and nothing of its workers either.
        threads: of the warden; workers are forked if there is one, else spawned.
        failure: why there is no warden; None while there is one.
        heard: how many packets it has sent that were read.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self.ready = trio.Event()
        self.over = trio.Event()
        self.threads = 1
        self.failure: str | None = None
        self.heard = 0
        self._preload = list(preload)
        self._token = new_token()
        # Where its workers have theirs. The warden makes and removes it; we do, if it was killed.
        self._folder = ""
        self._removals = trio.CapacityLimiter(1)
        self._numbers = itertools.count()
        self._workers: dict[int, WorkerProcess] = {}
        self._process: trio.Process | None = None
        self._orders, self._unsent = trio.open_memory_channel[tuple[bytes, list[int]]](inf)

    @property
    def pid(self) -> int | None:
        """The warden's; None if there is none (any more)."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def serve(self) -> None:
        """Start the warden and listen to it until it is no more; then end what it left."""
        # Not cancelled from outside: somebody must see what becomes of the workers.
        with bounded(inf):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with trio.socket.from_stdlib_socket(ours) as wire:
                try:
                    with theirs:
                        self._process = await self._launch(theirs)
                except OSError as error:
                    self.failure = str(error)
                else:
                    await self._converse(wire, self._process)
                    self.failure = "it has ended; its stderr may say why"
            await self._bury()

    def order_worker(self, spec: WorkerSpec, release: Callable[[], None]) -> WorkerProcess:
        """Order a worker that is to be awaited by ``begin``. Not a checkpoint.

        Args:
            release: called once nothing is left of it, or it never came to be.

        Raises:
            TypeError, ValueError: its argument has no JSON form.
            OSError: there are too many open files, or there is no room for a folder.
        """
        number = next(self._numbers)
        folder = os.path.join(self._folder, str(number))
        if spec.cwd is None:
            os.mkdir(folder)
        fds = [write_file(self._setup(spec, number, folder))]
        try:
            streams, theirs = open_streams()
        except OSError:
            _close(fds)
            raise
        worker = WorkerProcess(spec, number, self, streams, release)
        self._workers[number] = worker
        self.order("start", number, [*fds, *theirs])
        return worker

    async def begin(self, worker: WorkerProcess) -> WorkerProcess:
        """Wait until a worker is there. Cancelled, it sees to it that there is none.

        Raises:
            WorkerNotStarted: the warden could not, or died meanwhile.
        """
        try:
            while not worker.begun.is_set():
                with trio.move_on_after(WAKE_S):
                    await worker.begun.wait()
                    break
                self.wake()
        except trio.Cancelled:
            worker.begin_kill()
            worker.close_streams()
            raise
        if not worker.pid:
            worker.close_streams()
            raise WorkerNotStarted(f"no worker was started: {worker.refused or 'its warden died'}")
        return worker

    def order(self, do: str, worker: int, fds: Sequence[int] = ()) -> None:
        """Send an order; the descriptors are closed once it is sent. Not a checkpoint."""
        try:
            self._orders.send_nowait((pack({"do": do, "worker": worker}), list(fds)))
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            _close(fds)

    def wake(self) -> None:
        """Have the warden go on, if somebody has stopped it. Not a checkpoint."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def condemn(self) -> None:
        """Kill the warden, and thereby all its workers. Not a checkpoint."""
        if self._process is not None:
            self._process.kill()

    async def aclose(self) -> None:
        """End all workers and the warden. May be called twice."""
        for worker in self._workers.values():
            worker.begin_kill()
        self._orders.close()
        self.wake()
        with trio.move_on_after(CLOSE_S):
            await self.over.wait()
        self.condemn()
        await self.over.wait()

    def _setup(self, spec: WorkerSpec, number: int, folder: str) -> dict[str, Json]:
        return {
            "path": search_path(),
            "mark": mark_for(self._token, number),
            "entry": spec.entry,
            "argument": spec.argument,
            "env": dict(spec.env),
            "cwd": folder if spec.cwd is None else os.fspath(spec.cwd.absolute()),
            "memory_mib": spec.memory_mib,
            "cpu_s": spec.cpu_s,
        }

    async def _launch(self, theirs: socket.socket) -> trio.Process:
        setup = {
            "path": search_path(),
            "token": self._token,
            "parent": os.getpid(),
            "preload": self._preload,
        }
        fds = [write_file(setup), theirs.fileno()]
        try:
            return await trio.lowlevel.open_process(
                [sys.executable, "-I", "-c", BOOT.format(module="warden_process"), *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=fds,
                env={name: os.environ[name] for name in _NEEDED if name in os.environ},
                # Out of reach of the terminal's Ctrl-C.
                process_group=0,
            )
        finally:
            os.close(fds[0])

    async def _converse(self, wire: trio.socket.SocketType, process: trio.Process) -> None:
        async def end_with_it() -> None:
            # What it has sent is still read. Without this, a process that was forked while the
            # warden was launched, and so has its end of the wire, would keep us waiting.
            await process.wait()
            wire.shutdown(socket.SHUT_RD)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(end_with_it)
            nursery.start_soon(self._write, wire)
            with suppress(ConnectionResetError):
                while packet := await wire.recv(LONGEST):
                    self._take(unpack(packet), nursery)
            nursery.cancel_scope.cancel()

    async def _write(self, wire: trio.socket.SocketType) -> None:
        async for packet, fds in self._unsent:
            # When the warden has died, the reader knows.
            with suppress(OSError):
                try:
                    await wire.sendmsg([packet], with_fds(fds))
                finally:
                    _close(fds)
        with suppress(OSError):
            wire.shutdown(socket.SHUT_WR)

    def _take(self, report: dict[str, Json], nursery: trio.Nursery) -> None:
        self.heard += 1
        match report.pop("is"):
            case "ready":
                self.threads, self._folder = report["threads"], report["folder"]
                if self.threads > 1:
                    _log.warning("preloaded modules started threads: workers start slowly")
                for note in report["notes"]:
                    _log.warning("the warden of workers cannot load %s", note)
                self.ready.set()
            case "started":
                self._workers[report["worker"]].was_started(report["pid"])
            case "refused":
                self._workers.pop(report["worker"]).was_refused(report["why"])
            case "killed":
                self._workers[report["worker"]].were_killed(report["pids"])
            case "surviving":
                self._workers[report["worker"]].still_there(report["pids"])
            case "gone":
                number = report.pop("worker")
                self._workers.pop(number).is_gone(**report)
                nursery.start_soon(self._remove, os.path.join(self._folder, str(number)))

    async def _bury(self) -> None:
        """The warden is no more, or nearly: end it, and what it left behind."""
        self._orders.close()
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                _close(self._unsent.receive_nowait()[1])
        if self._process is not None:
            self._process.kill()
            with trio.move_on_after(KILL_S):
                await self._process.wait()
        remains = Remains(self._token)
        await remains.end()
        for number, worker in self._workers.items():
            mark = mark_for(self._token, number)
            worker.were_killed([pid for pid in remains.killed if remains.killed[pid] == mark])
            worker.is_lost([pid for pid, its in remains.surviving.items() if its == mark])
        self._workers.clear()
        with trio.move_on_after(REMOVE_S):
            await self._remove(self._folder)
        self.ready.set()
        self.over.set()

    async def _remove(self, folder: str) -> None:
        remove = partial(shutil.rmtree, folder, ignore_errors=True)
        await trio.to_thread.run_sync(remove, abandon_on_cancel=True, limiter=self._removals)


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)

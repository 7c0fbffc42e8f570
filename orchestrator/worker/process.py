"""A worker process, as the orchestrator sees it."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple, Protocol

import trio

from orchestrator.cleanup import bounded
from orchestrator.worker.errors import NotEnded
from orchestrator.worker.values import Death, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from orchestrator.worker.values import WorkerSpec

# A warden that has said nothing for so long, beyond its own bound, does not answer at all. Counted
# in turns: a loop that is blocked for that time, or slow, has not heard what the warden has said.
PATIENCE_S = 7.5
_TURNS = 15


class Streams(NamedTuple):
    """This side's ends of what a worker is connected by."""

    control: trio.SocketStream
    stdout: trio.lowlevel.FdStream
    stderr: trio.lowlevel.FdStream


def open_streams() -> tuple[Streams, list[int]]:
    """Return streams to a new worker, and the descriptors of the worker's ends.

    Raises:
        OSError: there are too many open files.
    """
    with ExitStack() as opened:
        pipes = []
        for _ in range(2):
            pipes.append(os.pipe())
            for fd in pipes[-1]:
                opened.callback(os.close, fd)
        ours, theirs = socket.socketpair()
        opened.pop_all()
    (stdout, out), (stderr, err) = pipes
    control = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    streams = Streams(control, trio.lowlevel.FdStream(stdout), trio.lowlevel.FdStream(stderr))
    return streams, [theirs.detach(), out, err]


class Keeper(Protocol):
    """What a worker needs of whoever talks to its warden.

    Attributes:
        heard: how much the warden has said so far, of whatever worker.
    """

    heard: int

    def order(self, do: str, worker: int, fds: Sequence[int] = ()) -> None:
        """Send an order; the descriptors are closed once it is sent. Not a checkpoint."""

    def wake(self) -> None:
        """Have a warden go on that somebody has stopped. Not a checkpoint."""

    def condemn(self) -> None:
        """End a warden that does not answer, and all its workers. Not a checkpoint."""


class WorkerProcess:
    """A worker process. Made by ``Warden.start``; to be closed with ``aclose``.

    Attributes:
        pid: of its first process, which is also its session and its process group.
        control: the other end of the socket that its entry is given.
        stdout, stderr: what it prints. Unread, they fill up and make it wait.
        exited: set when nothing is left of it, neither itself nor anything that it started
            (or when that could not be ended; see ``death.surviving``).
        death: how it ended; None until ``exited``.
        killed: the pids that were killed so far, by us or with their warden.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        number: int,
        keeper: Keeper,
        streams: Streams,
        release: Callable[[], None],
    ) -> None:
        self.pid = 0
        self.control = streams.control
        self.stdout = streams.stdout
        self.stderr = streams.stderr
        self.exited = trio.Event()
        self.death: Death | None = None
        self.killed: tuple[int, ...] = ()
        self.surviving: tuple[int, ...] = ()
        # Set once the warden has started or refused it, or is no more.
        self.begun = trio.Event()
        self.refused: str | None = None
        self._spec = spec
        self._number = number
        self._keeper = keeper
        self._release = release
        self._terminated = False
        self._answered = trio.Event()

    async def __aenter__(self) -> WorkerProcess:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def terminate(self) -> None:
        """Send SIGTERM to its process group, and to everything else that it started.

        Not a checkpoint. May be called at any time; nothing happens once it has exited. When
        its first process exits, what that leaves behind is killed.
        """
        self._terminated = True
        self._order("terminate")

    def begin_kill(self) -> None:
        """Have SIGKILL sent as ``kill`` does, without waiting. Not a checkpoint."""
        self._order("kill")

    async def kill(self) -> tuple[int, ...]:
        """Send SIGKILL to it and everything that it started, until nothing is left.

        A checkpoint, and bounded. May be called twice, and after it has exited. A cancellation
        ends the waiting only, not the killing.

        Returns:
            The pids that were killed; empty if all had exited by themselves.

        Raises:
            NotEnded: something is still there, after about 5 s. It is seen to further on.
        """
        if not self.exited.is_set():
            if self._answered.is_set():
                self._answered, self.surviving = trio.Event(), ()
            self.begin_kill()
            await self._hear_answer()
            if not self._answered.is_set():
                self._keeper.condemn()
                await self.exited.wait()
        if self.surviving:
            raise NotEnded(self.surviving)
        await trio.lowlevel.checkpoint()
        return self.killed

    async def aclose(self) -> None:
        """Kill it if it is still there, and close its streams. May be called twice.

        Raises:
            NotEnded: see ``kill``.
        """
        try:
            with bounded(2 * PATIENCE_S):
                await self.kill()
        finally:
            self.close_streams()

    def close_streams(self) -> None:
        """Close this side of its socket and pipes. Not a checkpoint; may be called twice."""
        self.control.socket.close()
        self.stdout.close()
        self.stderr.close()

    async def _hear_answer(self) -> None:
        """Wait until the warden has answered, or has been silent for too long."""
        silent = 0
        while silent < _TURNS and not self._answered.is_set():
            heard = self._keeper.heard
            with trio.move_on_after(PATIENCE_S / _TURNS):
                await self._answered.wait()
            silent = silent + 1 if self._keeper.heard == heard else 0
            if silent:
                # Any code in a worker can do that to its parent.
                self._keeper.wake()

    def _order(self, do: str) -> None:
        if not self.exited.is_set():
            self._keeper.order(do, self._number)

    # What its warden reports

    def was_started(self, pid: int) -> None:
        """It is there."""
        self.pid = pid
        self.begun.set()

    def was_refused(self, why: str) -> None:
        """It never came to be."""
        self.refused = why
        self._end(Death(words=f"could not be started: {why}"))

    def were_killed(self, pids: Sequence[int]) -> None:
        """These were killed."""
        self.killed = tuple(dict.fromkeys((*self.killed, *pids)))

    def still_there(self, pids: Sequence[int]) -> None:
        """These were killed and are there all the same."""
        self.surviving = tuple(pids)
        self._answered.set()

    def is_gone(self, status: int, cpu_s: float, oom: bool) -> None:
        """Nothing is left of it."""
        self.surviving = ()
        # An order to kill it may have found that it was dead.
        asked = self.pid in self.killed if status == -signal.SIGKILL else self._terminated
        self._end(
            Death(
                words=in_words(self._spec, status, cpu_s, asked=asked, oom=oom),
                code=status if status >= 0 else None,
                signal=-status if status < 0 else None,
                cpu_s=cpu_s,
                left_behind=tuple(pid for pid in self.killed if pid != self.pid),
            )
        )

    def is_lost(self, surviving: Sequence[int]) -> None:
        """Its warden has died, and it with it."""
        self.surviving = tuple(surviving)
        left_behind = tuple(pid for pid in self.killed if pid != self.pid)
        words = "died with its warden, which was killed or crashed"
        self._end(Death(words=words, left_behind=left_behind, surviving=self.surviving))

    def _end(self, death: Death) -> None:
        self.death = death
        self._release()
        self.begun.set()
        self._answered.set()
        self.exited.set()

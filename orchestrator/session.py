"""A process that leads a session of its own, and whatever it starts there. Linux only."""

from __future__ import annotations

import os
from contextlib import suppress
from signal import SIGKILL
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded
from orchestrator.procfs import look_at, pids

if TYPE_CHECKING:
    from collections.abc import Iterable

# How long the kernel may take to end what got SIGKILL. Less than a killed run gets to exit.
KILLED_S = 0.3


class Session:
    """A process and all others of the session that it leads.

    The leader is not reaped before ``reap``: until then its id, which is also that of its session
    and group, cannot become another's, so no signal can reach a stranger.

    Attributes:
        process: its streams; it is signalled and waited for by the session alone.
    """

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._id = process.pid
        self._pidfd = os.pidfd_open(process.pid)
        self._over = False

    async def exited(self) -> None:
        """Wait until the leader has exited. May be called again."""
        await trio.lowlevel.wait_readable(self._pidfd)

    def members(self) -> list[int]:
        """Return the ids of the processes in the session that have not ended. Not a checkpoint."""
        if self._over:
            return []
        return [pid for pid in pids() if self._has(pid) and _is_alive(pid)]

    def signal(self, number: int) -> list[int]:
        """Send a signal to everything in the session, and return whom. Not a checkpoint.

        By groups, so that a process which forks meanwhile cannot slip through.
        """
        members = self.members()
        for group in _groups_of(members):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, number)
        return members

    async def emptied(self) -> None:
        """Wait until everything in the session has ended."""
        while members := self.members():
            await self._wait_for(members)

    async def kill(self) -> list[int]:
        """Kill what is left of the session, and wait for some time until that has ended. Shielded.

        Returns:
            whom; nobody if nothing was left.
        """
        killed: set[int] = set()
        with bounded(KILLED_S):
            while members := self.signal(SIGKILL):
                killed.update(members)
                await self._wait_for(members)
        return sorted(killed)

    async def reap(self) -> int | None:
        """Take the leader's exit status, negative for a signal, and close everything.

        Returns:
            None if it does not even end when it is killed. Shielded; to be called once.
        """
        status: int | None = None
        with bounded(KILLED_S):
            await self.exited()
            self._over = True
            status = await self.process.wait()
        os.close(self._pidfd)
        with bounded(KILLED_S):
            for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
                if stream is not None:
                    await trio.aclose_forcefully(stream)
        return status

    def _has(self, pid: int) -> bool:
        try:
            return os.getsid(pid) == self._id
        except ProcessLookupError:
            return False

    async def _wait_for(self, members: Iterable[int]) -> None:
        for pid in members:
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                continue
            try:
                # Otherwise it has ended, and another process has got its id.
                if self._has(pid):
                    await trio.lowlevel.wait_readable(fd)
            finally:
                os.close(fd)


def _is_alive(pid: int) -> bool:
    seen = look_at(pid)
    return seen is not None and not seen.ended


def _groups_of(members: Iterable[int]) -> set[int]:
    groups = set()
    for pid in members:
        with suppress(ProcessLookupError):
            groups.add(os.getpgid(pid))
    return groups

"""A process that leads a session of its own, and whatever it starts there. Linux only."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress
from signal import SIGKILL
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded
from orchestrator.errors import InvalidInput
from orchestrator.procfs import look_at, pids
from orchestrator.worker.kernel import stand_back_as_session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

# How long the kernel may take to end what got SIGKILL. Less than a killed run gets to exit.
KILLED_S = 0.3
# Between two tries to have a new session stand back.
SHARE_S = 0.02


class CommandNotStarted(InvalidInput):
    """The command cannot be started."""


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

    async def stand_back(self) -> None:
        """Let others have the processor before the session."""
        while not stand_back_as_session(self._id):  # noqa: ASYNC110  # no event tells
            await trio.sleep(SHARE_S)

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


async def start(
    argv: Sequence[str], *, cwd: str | None, env: Mapping[str, str], with_stdin: bool
) -> Session:
    """Start a program in a session of its own, with pipes for what it says.

    Args:
        with_stdin: with a pipe to its standard input too, which is /dev/null otherwise.

    Raises:
        CommandNotStarted: it names the program, or the folder, and what is wrong with it.
    """
    try:
        process = await trio.lowlevel.open_process(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.PIPE if with_stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise _not_started(error, argv[0], cwd) from None
    try:
        return Session(process)
    except BaseException:
        process.kill()
        raise


def _not_started(error: OSError, program: str, cwd: str | None) -> CommandNotStarted:
    if cwd is not None and error.filename == cwd and cwd != program:
        why = error.strerror or type(error).__name__
        return CommandNotStarted([("input.cwd", f"{cwd!r} cannot be worked in: {why}")])
    match error.errno:
        case errno.ENOENT if "/" in program:
            why = "it does not exist, or what its first line names does not"
        case errno.ENOENT:
            why = "it is in no folder of PATH"
        case errno.EACCES:
            why = "it may not be executed (permission denied)"
        case _:
            why = error.strerror or type(error).__name__
    return CommandNotStarted([("input.argv.0", f"{program!r} cannot be started: {why}")])


def _is_alive(pid: int) -> bool:
    seen = look_at(pid)
    return seen is not None and not seen.ended


def _groups_of(members: Iterable[int]) -> set[int]:
    groups = set()
    for pid in members:
        with suppress(ProcessLookupError):
            groups.add(os.getpgid(pid))
    return groups

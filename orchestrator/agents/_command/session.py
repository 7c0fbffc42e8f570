"""Starting a command in a session of its own."""

from __future__ import annotations

import errno
import subprocess
from typing import TYPE_CHECKING

import trio

from orchestrator.errors import InvalidInput
from orchestrator.session import Session
from orchestrator.worker.kernel import stand_back_as_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Between two tries to have a new session stand back.
SHARE_S = 0.02


class CommandNotStarted(InvalidInput):
    """The command cannot be started."""


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


async def stand_back(session: Session) -> None:
    """Let others have the processor before the session."""
    while not stand_back_as_session(session.process.pid):  # noqa: ASYNC110  # no event tells
        await trio.sleep(SHARE_S)

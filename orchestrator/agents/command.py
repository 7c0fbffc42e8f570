"""The built-in agent for any program: a command as a run.

The command is one operation, so it is shielded from a stop until the grace is over; but it is told
of the stop at once. How it is made to end stands in ``_command.attending``.
"""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from orchestrator.agent import agent
from orchestrator.agents._command.attending import Attendance, name_of
from orchestrator.agents._command.session import start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from orchestrator.context import Context
    from orchestrator.model import Json

# What a command gets of its run's own environment, unless ``env`` says otherwise.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
# Variables that are there for commands to take, each under its own name.
OFFERED = "QUIESCE_ENV_"
LABEL = 120
# Of what it said last on stderr so much stands in the error of a command that failed.
LAST_LINES = 10
LAST = 2_000


def _no_half(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not have half a surrogate pair, which has no UTF-8") from None
    return text


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not have NUL characters")
    return _no_half(text)


def _variable(name: str) -> str:
    if not name or "=" in name:
        raise ValueError("is not the name of a variable")
    return _no_nul(name)


Text = Annotated[str, AfterValidator(_no_nul)]
Argv = Annotated[list[Text], Field(min_length=1)]
Env = dict[Annotated[str, AfterValidator(_variable)], Text | None]
Seconds = Annotated[float, Field(gt=0, le=10 * 365 * 86_400)]


class CommandFailed(RuntimeError):
    """A command exited with another code than 0, or was ended by a signal."""


class CommandTimedOut(CommandFailed):
    """A command was not done within its time limit."""


@agent(name="command", isolation="process")
async def command(
    ctx: Context,
    argv: Argv,
    cwd: Text | None = None,
    env: Env | None = None,
    stdin: Annotated[str, AfterValidator(_no_half)] | None = None,
    timeout_s: Seconds | None = None,
) -> dict[str, Json]:
    """Run a program, tell what it says, and make certain that it ends.

    Each line of its stdout is a log line, each line of its stderr a warning. A line of its stdout
    that is a JSON object means more: `{"progress": 40, "message": "…"}`, `{"log": "…", "level":
    "…"}`, `{"partial": …}`, `{"artifact": "name", "data": "text"}` (or `"base64": "…"`).

    The result is `{"exit_code", "signal", "seconds", "timed_out", "lines": {"stdout", "stderr"},
    "left_out", "stdout_tail", "stderr_tail"}`. A command that exits with another code than 0 has
    failed; then the same is the partial result.

    At a graceful stop everything in its session gets SIGINT; when the grace is over, or at a stop
    now, SIGTERM; and what is there at the end of the cleanup time, or at a kill, SIGKILL.

    - `argv`: the program and its arguments; no shell has a part in it.
    - `cwd`: the folder to run it in; if left out, an empty one that is removed afterwards.
    - `env`: variables beside PATH, HOME, LANG, LC_ALL, LC_CTYPE, TZ; null for the value that the
      orchestrator's environment has for it as `QUIESCE_ENV_NAME`.
    - `stdin`: what it can read; nothing if left out.
    - `timeout_s`: it gets SIGTERM after so many seconds, SIGKILL after the cleanup time, and has
      failed.
    """
    label = shlex.join(argv)
    async with ctx.operation("command", label if len(label) <= LABEL else f"{label[:LABEL]}…"):
        session = await start(
            argv, cwd=cwd, env=environment(env or {}, ctx.run_id), with_stdin=stdin is not None
        )
        attendance = Attendance(ctx, session, timeout_s)
        await attendance.attend(stdin)
    if not attendance.succeeded:
        raise _failure(argv[0], attendance, timeout_s)
    return attendance.summary


def environment(given: Mapping[str, str | None], run_id: str) -> dict[str, str]:
    """Return the whole environment of a command: the minimum, the run's id, and what is given."""
    wanted = dict.fromkeys(INHERITED) | {"QUIESCE_RUN_ID": run_id} | dict(given)
    found = {
        name: os.environ.get(OFFERED + name, os.environ.get(name)) if value is None else value
        for name, value in wanted.items()
    }
    return {name: value for name, value in found.items() if value is not None}


def _failure(program: str, attendance: Attendance, timeout_s: float | None) -> CommandFailed:
    status = attendance.status
    if status is None:
        how = "did not end, although it was killed"
    elif status < 0:
        how = f"was ended by {name_of(-status)}"
    else:
        how = f"exited with code {status}"
    last = "\n".join(attendance.stderr.tail.splitlines()[-LAST_LINES:])[-LAST:]
    said = f"; it said last on stderr:\n{last}" if last else "; it said nothing on stderr"
    if attendance.timed_out:
        return CommandTimedOut(f"{program} was not done within {timeout_s:g} s, and {how}{said}")
    return CommandFailed(f"{program} {how}{said}")

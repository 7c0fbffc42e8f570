"""``quiesce exec``: any program as a run, shown live, and stopped by Ctrl-C."""

from __future__ import annotations

import os
from signal import Signals
from typing import TYPE_CHECKING, Any

import click
import trio

from api.commands.interrupts import interrupts
from api.commands.run import climb, leave
from api.commands.target import Here
from api.terminal import open_console, open_screen, receipt_table
from orchestrator import InvalidInput, RunStatus, open_orchestrator
from orchestrator.agents.command import command

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from rich.console import Console

    from api.commands.interrupts import Presses
    from api.commands.target import Target
    from orchestrator import RunRecord

# What shells, and ``timeout`` and ``env``, exit with.
STOPPED, TIMED_OUT, NOT_STARTED, BY_SIGNAL = 130, 124, 127, 128


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARG]...")
@click.option("--cwd", metavar="DIR", help="The folder to run it in.")
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable.")
@click.option("--stdin", type=click.File("rb"), metavar="FILE", help="What it reads; - for ours.")
@click.option(
    "--timeout-s", "--timeout", type=float, metavar="SECONDS", help="End it after so many seconds."
)
@click.option("--grace-s", type=float, help="After SIGINT, SIGTERM follows so much later.")
@click.option("--store", default="memory://", show_default=True, metavar="URL")
@click.pass_context
def exec_(
    ctx: click.Context,
    *,
    argv: tuple[str, ...],
    cwd: str | None,
    variables: tuple[str, ...],
    stdin: BinaryIO | None,
    timeout_s: float | None,
    grace_s: float | None,
    store: str,
) -> None:
    """Run any COMMAND and show what it says live. It has the environment of this one.

    The first Ctrl-C sends SIGINT to the command and all that it has started, a second one SIGTERM,
    a third one SIGKILL; each follows the one before by itself in time. The exit code is that of
    the command, or 128 and the number of the signal that ended it; 130 if it was stopped, 124 if
    its time was up, 127 if it could not be started.
    """
    given = {
        "argv": list(argv),
        "cwd": os.path.abspath(cwd or "."),
        "env": environment(os.environ, variables),
        "stdin": None if stdin is None else read_text(stdin),
        "timeout_s": timeout_s,
    }
    # Offered to the command, whose run has a process and an environment of its own.
    os.environ.update({f"QUIESCE_ENV_{name}": value for name, value in os.environ.items()})
    input = {name: value for name, value in given.items() if value is not None}
    options = {} if grace_s is None else {"grace_s": grace_s}
    ctx.exit(trio.run(execute, input, options, store, open_console()))


def environment(own: Iterable[str], variables: Iterable[str]) -> dict[str, str | None]:
    """Return the variables for the command: our own by name alone, so that their values are
    written nowhere, and those that are given.

    Raises:
        InvalidInput: one is not ``NAME=VALUE``.
    """
    found: dict[str, str | None] = {name: None for name in own if name and name.isprintable()}
    for each in variables:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise InvalidInput([("--env", f"{each!r} is not NAME=VALUE")])
        found[name] = value
    return found


def read_text(file: BinaryIO) -> str:
    """Return what a file holds.

    Raises:
        InvalidInput: it is not UTF-8.
    """
    try:
        return file.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidInput([("--stdin", f"is not text: {error}")]) from None


async def execute(
    input: dict[str, Any],
    options: dict[str, Any],
    store: str,
    console: Console,
) -> int:
    """Run the command in this process and return the exit code."""
    with interrupts(here=True) as presses:
        async with open_orchestrator(store, agents=[command]) as orchestrator:
            started = await orchestrator.start("command", input, options=options)
            code = 1
            try:
                code = await watch(Here(orchestrator, started), presses, console)
            finally:
                await leave(orchestrator, code)
    return code


async def watch(target: Target, presses: Presses, console: Console) -> int:
    """Show the command until it has ended, let Ctrl-C stop it, and return the exit code."""
    ending: dict[str, Any] | None = None
    async with open_screen(console) as screen, trio.open_nursery() as nursery:
        nursery.start_soon(climb, target, presses, screen)
        async with target.events() as events:
            async for event in events:
                screen.show(event)
                if event.type == "command.exited":
                    ending = event.data
        record = (await target.end()).record
        nursery.cancel_scope.cancel()
    if record.stop is not None:
        console.print(receipt_table(record.stop))
    return exit_code(record, ending)


def exit_code(record: RunRecord, ending: dict[str, Any] | None) -> int:
    """Return what a shell would see of a command with that run and that end."""
    if record.status is RunStatus.STOPPED:
        return STOPPED
    if record.error is not None and record.error.type == "CommandNotStarted":
        return NOT_STARTED
    match ending:
        case {"timed_out": True}:
            return TIMED_OUT
        case {"signal": str(name)}:
            return BY_SIGNAL + number_of(name)
        case {"exit_code": int(code)}:
            return code
        case _:
            return 1


def number_of(signal: str) -> int:
    """Return the number of a signal by its name, or by ``signal 35`` if it has none."""
    named = Signals.__members__.get(signal)
    return int(signal.rpartition(" ")[2]) if named is None else named.value

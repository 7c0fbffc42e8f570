"""The ``quiesce`` command."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

# Where each command is: a module of ``api.commands``, imported when the command is asked for, and
# what it is called there if not as here.
WHERE = {
    "agents": "remote",
    "answer": "control",
    "deadline": "control",
    "demo": "demo",
    "exec": "exec:exec_",
    "halt": "halt",
    "ls": "remote",
    "pause": "control",
    "rerun": "control",
    "resume": "control",
    "run": "run",
    "schedule": "schedule",
    "serve": "serve",
    "show": "remote",
    "step": "control",
    "stop": "remote",
    "store": "store",
    "tail": "remote",
    "token": "token",
    "top": "top",
    "webhooks": "webhooks",
}


class Refused(click.ClickException):
    """What was asked for cannot be done; one line says why."""

    exit_code = 2

    def __init__(self, error: BaseException) -> None:
        from api.terminal import clean

        super().__init__(clean(" ".join(str(error).split())))


class Commands(click.Group):
    """Imports what is asked for, and says errors that are meant for people in one line.

    The core and the server, which take a while to import, are so in the reach of Ctrl-C.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(WHERE)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in WHERE:
            return None
        module, _, attribute = WHERE[name].partition(":")
        found = getattr(import_module(f"api.commands.{module}"), attribute or name)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BaseException as raised:
            match error := _only(raised):
                case KeyboardInterrupt():
                    ctx.exit(130)
                case SystemExit():  # nobody reads what is printed any more
                    raise error from None
                case OSError():
                    _drop_unwritten()
                    raise Refused(error) from None
                case _ if _is_for_people(error):
                    raise Refused(error) from None
                case _:
                    raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="quiesce", prog_name="quiesce")
def main() -> None:
    """Start long-running work, watch it, and stop it for certain."""
    _stand_in_for_closed()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a symbol shows another one, and the run goes on.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper


def _stand_in_for_closed() -> None:
    """Open what a caller has closed of the standard streams, such as a daemon's.

    Python has None in its place then, and the next file or socket would get its number: whatever
    prints, in a process of a run for instance, would print into that.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest free number is this one, since those before it are open by now.
            opened = os.open(os.devnull, os.O_RDWR)
            os.dup2(opened, number)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _drop_unwritten() -> None:
    """Forget what could not be printed: Python would try it again at its exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_for_people(error: BaseException) -> bool:
    from orchestrator import OrchestratorError

    return isinstance(error, OrchestratorError)


def _only(error: BaseException) -> BaseException:
    """Return the one exception inside groups of one: what is raised in a nursery comes in one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error

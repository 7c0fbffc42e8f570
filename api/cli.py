"""The ``quiesce`` command."""

from __future__ import annotations

import sys
from typing import Any

import click

from api.commands.control import answer, deadline, pause, rerun, resume, step
from api.commands.demo import demo
from api.commands.exec import exec_
from api.commands.halt import halt
from api.commands.remote import agents, ls, show, stop, tail
from api.commands.run import run
from api.commands.schedule import schedule
from api.commands.serve import serve
from api.commands.store import store
from api.commands.token import token
from api.commands.top import top
from api.commands.webhooks import webhooks
from orchestrator import OrchestratorError
from orchestrator.agents.chat import chat
from orchestrator.agents.command import command
from orchestrator.agents.crawl import crawl
from orchestrator.agents.ingest import ingest
from orchestrator.agents.job import job
from orchestrator.agents.playbook import playbook

# The agents that are always there.
BUILT_IN = (chat, command, crawl, ingest, job, playbook)


class Refused(click.ClickException):
    """What was asked for cannot be done; one line says why."""

    exit_code = 2

    def __init__(self, error: Exception) -> None:
        super().__init__(" ".join(str(error).split()))


class Commands(click.Group):
    """Says errors that are meant for people in one line."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BaseException as raised:
            match error := _only(raised):
                case OrchestratorError():
                    raise Refused(error) from None
                case KeyboardInterrupt():
                    ctx.exit(130)
                case SystemExit():  # nobody reads what is printed any more
                    raise error from None
                case _:
                    raise


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "obj": BUILT_IN}
)
@click.version_option(package_name="quiesce", prog_name="quiesce")
def main() -> None:
    """Start long-running work, watch it, and stop it for certain."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a symbol shows another one, and the run goes on.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # it is a TextIOWrapper


_ABOUT_RUNS = (ls, top, show, tail, stop, pause, resume, step, answer, deadline, rerun)
_ABOUT_ALL = (halt, schedule)

for _command in (
    serve,
    run,
    exec_,
    demo,
    *_ABOUT_RUNS,
    *_ABOUT_ALL,
    agents,
    token,
    webhooks,
    store,
):
    main.add_command(_command)


def _only(error: BaseException) -> BaseException:
    """Return the one exception inside groups of one: what is raised in a nursery comes in one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error

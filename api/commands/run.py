"""``quiesce run``: one run, shown live, and stopped by Ctrl-C."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import trio

from api.answers import run_json
from api.commands.asking import Desk
from api.commands.interrupts import interrupts
from api.commands.loading import agents_option, load_agents
from api.commands.server import other_server_option
from api.commands.target import Here, There
from api.commands.values import json_or_text
from api.terminal import open_console, open_screen, print_end
from orchestrator import InvalidInput, RunStatus, StopMode, open_orchestrator

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rich.console import Console

    from api.commands.interrupts import Presses
    from api.commands.server import Server
    from api.commands.target import Target
    from api.terminal import Screen
    from orchestrator import Agent, Orchestrator

    Watch = Callable[[Target, Presses], Awaitable[int]]

_HINTS = {
    StopMode.GRACEFUL: "stopping… press {key} to stop now",
    StopMode.NOW: "stopping now… press {key} to kill",
    StopMode.KILL: "killing… press {key} to leave",
}
_EXIT_CODES = {RunStatus.SUCCEEDED: 0, RunStatus.STOPPED: 130}


class Order(NamedTuple):
    """What is to be run."""

    agent: str
    input: dict[str, Any]
    options: dict[str, Any]


@click.command()
@click.argument("agent")
@click.argument("inputs", nargs=-1, metavar="[KEY=VALUE]...")
@agents_option
@click.option("--store", default="memory://", show_default=True, metavar="URL")
@click.option("--input", "whole", metavar="JSON", help="The input as one JSON object.")
@click.option("--deadline-s", type=float, help="Stop it after so many seconds.")
@click.option("--grace-s", type=float, help="At a stop, what is in flight may take so long.")
@click.option("--json", "as_json", is_flag=True, help="At the end print JSON; all else to stderr.")
@other_server_option
@click.pass_context
def run(
    ctx: click.Context,
    *,
    agent: str,
    inputs: tuple[str, ...],
    sources: tuple[str, ...],
    store: str,
    whole: str | None,
    deadline_s: float | None,
    grace_s: float | None,
    as_json: bool,
    server: Server | None,
) -> None:
    """Run AGENT and show it live. Each VALUE is JSON if it parses as JSON, else text.

    The first Ctrl-C stops the run gracefully, a second one now, a third one kills it. What the
    run asks is asked at the terminal. The exit
    code is 0 if it succeeded, 130 if it was stopped, 2 if it could not begin, otherwise 1.
    """
    given = {"deadline_s": deadline_s, "grace_s": grace_s}
    options = {name: value for name, value in given.items() if value is not None}
    order = Order(agent, parse_input(whole, inputs), options)
    show = partial(watch, console=open_console(error=as_json), as_json=as_json)
    if server is not None:
        if sources or store != "memory://":
            raise click.UsageError("--agents and --store are for a run in this process")
        ctx.exit(trio.run(run_there, order, server, show))
    ctx.exit(trio.run(run_here, order, load_agents(sources), store, show))


def parse_input(whole: str | None, inputs: tuple[str, ...]) -> dict[str, Any]:
    """Return the input object; ``KEY=VALUE`` goes over what the whole says.

    Raises:
        InvalidInput: the whole is no JSON object, or an argument is no ``KEY=VALUE``.
    """
    parsed = {} if whole is None else json_or_text(whole)
    if not isinstance(parsed, dict):
        raise InvalidInput([("--input", f"{whole!r} is not a JSON object")])
    given: dict[str, Any] = {}
    for each in inputs:
        key, equals, value = each.partition("=")
        if not equals or not key:
            raise InvalidInput([("input", f"{each!r} is not KEY=VALUE")])
        if key in given:
            raise InvalidInput([("input", f"{key!r} is given twice")])
        given[key] = json_or_text(value)
    return parsed | given


async def run_here(order: Order, agents: list[Agent], store: str, show: Watch) -> int:
    """Run it in this process and return the exit code."""
    # Around the start: the run's code comes before whatever follows, and may never let go.
    with interrupts(here=True) as presses:
        async with open_orchestrator(store, agents=agents) as orchestrator:
            started = await orchestrator.start(order.agent, order.input, options=order.options)
            code = 1
            try:
                code = await show(Here(orchestrator, started), presses)
            finally:
                await leave(orchestrator, code)
    return code


async def leave(orchestrator: Orchestrator, code: int) -> None:
    """Stop what still runs, if whoever watched it is gone, and end the process if code of an
    abandoned run stands in it: that code would hold it for ever."""
    await orchestrator.drain(grace_s=0)
    if orchestrator.stuck:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


async def run_there(order: Order, server: Server, show: Watch) -> int:
    """Run it on a server and return the exit code."""
    with server.client() as client, interrupts(here=False) as presses:
        start = partial(client.start, order.agent, order.input, order.options)
        view = await trio.to_thread.run_sync(start, abandon_on_cancel=True)
        return await show(There(client, view.id), presses)


async def watch(target: Target, presses: Presses, *, console: Console, as_json: bool) -> int:
    """Show the run until it has ended, let Ctrl-C stop it, put its questions to whoever is there,
    and return the exit code.

    Args:
        as_json: print the run as JSON once it has ended, rather than what it has brought.
    """
    async with open_screen(console) as screen, trio.open_nursery() as nursery:
        desk = Desk(target, screen)
        nursery.start_soon(climb, target, presses, screen)
        nursery.start_soon(desk.serve)
        async with target.events() as events:
            async for event in events:
                screen.show(event)
                desk.note(event)
        end = await target.end()
        nursery.cancel_scope.cancel()
    if as_json:
        shown = run_json(end.record) | {"partial": end.partial}
        click.echo(json.dumps({"run": shown}, indent=2))
    else:
        print_end(console, end.record, end.partial, "with `--json` it prints all")
    return _EXIT_CODES.get(end.record.status, 1)


async def climb(target: Target, presses: Presses, screen: Screen) -> None:
    """Ask the run to stop at each press; one more than there are rungs leaves it."""

    async def ask(mode: StopMode, by: str) -> None:
        failure = await target.stop(mode, by)
        if failure:
            screen.say(failure)

    async with trio.open_nursery() as nursery:
        async for mode, by in presses:
            if mode is None:
                raise KeyboardInterrupt
            screen.say(_HINTS[mode].format(key="Ctrl-C again" if by == "Ctrl-C" else "Ctrl-C"))
            nursery.start_soon(ask, mode, by)

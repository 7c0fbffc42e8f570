"""The commands that ask a server: ``ls``, ``show``, ``tail``, ``stop`` and ``agents``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from api.client import RunView
from api.commands.server import Server, server_option
from api.terminal import (
    GREY,
    RunTree,
    agents_table,
    chip,
    clean,
    clock_of,
    line_of,
    open_console,
    print_end,
    print_json,
    question_block,
    receipt_table,
    runs_table,
    say_line,
)
from orchestrator import RunEnded, RunStatus, StopMode, StopOutcome, UnknownRun

if TYPE_CHECKING:
    from rich.console import Console

    from api.client import Client

_STOP_CODES = {StopOutcome.STOPPED: 0, StopOutcome.FINISHED_FIRST: 0}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.option("--status", metavar="NAMES", help=f"Some of {', '.join(RunStatus)}, with commas.")
@click.option("--agent", help="Runs of that agent.")
@click.option("--owner", help="Runs of that owner.")
@click.option("--tag", help="Runs with that tag.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@click.option("--all", "everything", is_flag=True, help="Sub-agents too.")
@json_option
@server_option
def ls(server: Server, *, limit: int, everything: bool, as_json: bool, **where: str | None) -> None:
    """List runs, the newest first."""
    with server.client() as client:
        parent = None if everything else "none"
        runs, following = client.runs(limit=limit, parent=parent, brief=not as_json, **where)
    if as_json:
        _print_json({"runs": [each.json for each in runs], "next": following})
        return
    console = open_console()
    if not runs:
        console.print("no runs")
        return
    console.print(runs_table([each.record for each in runs], console.width))
    if following is not None:
        console.print("there are more; --limit shows up to 500")


@click.command()
@click.argument("run_id", metavar="ID")
@json_option
@server_option
def show(server: Server, run_id: str, *, as_json: bool) -> None:
    """Show a run, its sub-agents, what it asks, its result, and its receipt if it was stopped."""
    with server.client() as client:
        view = client.get(run_id)
        tree = client.tree(run_id)
    if as_json:
        _print_json({"run": view.json, "tree": tree[0].json, "receipt": view.json["stop"]})
        return
    _show(open_console(), view, RunTree.of([each.record for each in tree]))


def _show(console: Console, view: RunView, tree: RunTree) -> None:
    record = view.record
    console.print(chip(record.status), clean(record.agent), record.id)
    console.print(tree)
    if record.rerun_of is not None:
        console.print("rerun of:", record.rerun_of)
    if record.deadline_at is not None and not record.status.is_terminal:
        console.print("deadline:", clock_of(record.deadline_at))
    print_json(console, "input:", record.input, f"`quiesce show {record.id} --json` prints all")
    if record.waiting_for is not None:
        console.print("it asks:", question_block(record.waiting_for))
        console.print(f"answer it with `quiesce answer {record.id} ANSWER`", style=GREY)
    print_end(console, record, view.partial, f"`quiesce show {record.id} --json` prints all")


@click.command()
@click.argument("run_id", metavar="ID")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Leave out up to this number.")
@server_option
def tail(server: Server, run_id: str, *, after: int) -> None:
    """Follow the events of a run until it ends. A lost connection is resumed."""
    console, notes = open_console(), open_console(error=True)

    with server.client() as client:

        def note_loss() -> None:
            say_line(notes, f"the connection to {client.url} is lost; trying again")

        tree = RunTree.of([each.record for each in client.tree(run_id)])
        for event in client.events(run_id, after=after, on_lost=note_loss):
            tree.apply(event)
            say_line(console, Text(f"{event.seq:>5}  ", GREY) + line_of(event, tree))


@click.command()
@click.argument("run_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--mode", type=click.Choice([str(each) for each in StopMode]), default="graceful")
@click.option("--grace-s", type=click.FloatRange(min=0, max=86_400), help="For what is in flight.")
@click.option("--reason", default="", help="It goes onto the receipt.")
@click.option("--discard", is_flag=True, help="Remove what they leave behind, but the record.")
@click.option("--no-wait", is_flag=True, help="Return as soon as the stop is durable.")
@server_option
@click.pass_context
def stop(
    ctx: click.Context,
    server: Server,
    run_ids: tuple[str, ...],
    *,
    mode: str,
    grace_s: float | None,
    reason: str,
    discard: bool,
    no_wait: bool,
) -> None:
    """Stop runs, and print the receipt of each once it is torn down.

    The exit code is 0 if every run has stopped or had ended (with ``--no-wait``: or is stopping),
    1 if one was abandoned, 2 if one is unknown.
    """
    order: dict[str, Any] = {
        "mode": mode,
        "grace_s": grace_s,
        "reason": reason,
        "discard": discard,
    }
    console, codes = open_console(), []
    with server.client() as client:
        # All are asked first, so that they stop side by side.
        answers = [_ask(client, run_id, order) for run_id in dict.fromkeys(run_ids)]
        for answer in answers:
            if isinstance(answer, RunView) and not no_wait:
                answer = _wait(client, answer)
            codes.append(_tell(console, answer, waited=not no_wait))
    ctx.exit(max(codes))


def _ask(client: Client, run_id: str, order: dict[str, Any]) -> RunView | RunEnded | UnknownRun:
    try:
        return client.stop(run_id, **order)
    except (RunEnded, UnknownRun) as error:
        return error


def _wait(client: Client, view: RunView) -> RunView:
    if not view.record.status.is_terminal:
        click.echo(f"{view.id} is stopping; Ctrl-C leaves, and the stop goes on", err=True)
    return client.wait(view.id)


def _tell(console: Console, answer: RunView | RunEnded | UnknownRun, *, waited: bool) -> int:
    match answer:
        case UnknownRun():
            click.echo(f"Error: {answer}", err=True)
            return 2
        case RunEnded():
            console.print(str(answer))
            return 0
        case RunView(record=record):
            assert record.stop is not None
            console.print(chip(record.status), clean(record.agent), record.id)
            console.print(receipt_table(record.stop))
            if record.stop.outcome is StopOutcome.STOPPING and not waited:
                return 0
            return _STOP_CODES.get(record.stop.outcome, 1)


@click.command()
@json_option
@server_option
def agents(server: Server, *, as_json: bool) -> None:
    """List the agents of a server, and what they take."""
    with server.client() as client:
        found = client.agents()
    if as_json:
        _print_json({"agents": found})
    else:
        open_console().print(agents_table(found))


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2))

"""``quiesce schedule``: agents that are started again and again."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.table import Table

from api.commands.remote import json_option
from api.commands.run import parse_input
from api.commands.server import Server, server_option
from api.commands.values import json_or_text
from api.terminal import GREY, clean, clock_of, open_console
from orchestrator import InvalidInput


@click.group()
def schedule() -> None:
    """Start agents again and again, by cron expressions."""


@schedule.command()
@click.argument("agent")
@click.argument("inputs", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--cron", required=True, metavar="FIELDS", help="Like '30 9 * * MON-FRI'.")
@click.option("--zone", default="UTC", show_default=True, metavar="NAME", help="Its time zone.")
@click.option("--id", "schedule_id", metavar="ID", help="What to call it; made up if left out.")
@click.option("--input", "whole", metavar="JSON", help="The input as one JSON object.")
@click.option("--options", metavar="JSON", help="Options of each run, as one JSON object.")
@click.option(
    "--missed",
    type=click.Choice(["skip", "once"]),
    default="skip",
    show_default=True,
    help="What becomes of ticks at which nothing could start.",
)
@click.option(
    "--overlap",
    type=click.Choice(["allow", "skip", "enqueue", "stop_previous"]),
    default="skip",
    show_default=True,
    help="What becomes of a tick while an earlier run goes on.",
)
@server_option
def add(
    server: Server,
    *,
    agent: str,
    inputs: tuple[str, ...],
    whole: str | None,
    options: str | None,
    schedule_id: str | None,
    **more: Any,
) -> None:
    """Start AGENT again and again. Each VALUE is JSON if it parses as JSON, else text."""
    if schedule_id is not None:
        more["id"] = schedule_id
    if options is not None:
        more["options"] = _object(options)
    with server.client() as client:
        _say(client.schedule(agent, parse_input(whole, inputs), **more))


@schedule.command()
@json_option
@server_option
def ls(server: Server, *, as_json: bool) -> None:
    """List the schedules of a server."""
    with server.client() as client:
        found = client.schedules()
    if as_json:
        click.echo(json.dumps({"schedules": found}, indent=2))
    elif found:
        open_console().print(_table(found))
    else:
        open_console().print("no schedules")


@schedule.command()
@click.argument("schedule_id", metavar="ID")
@server_option
def pause(server: Server, schedule_id: str) -> None:
    """Let a schedule start nothing until it is resumed."""
    with server.client() as client:
        _say(client.pause_schedule(schedule_id))


@schedule.command()
@click.argument("schedule_id", metavar="ID")
@server_option
def resume(server: Server, schedule_id: str) -> None:
    """Let a paused schedule go on, from now on."""
    with server.client() as client:
        _say(client.resume_schedule(schedule_id))


@schedule.command()
@click.argument("schedule_id", metavar="ID")
@server_option
def rm(server: Server, schedule_id: str) -> None:
    """Forget a schedule. Runs that it has started go on."""
    with server.client() as client:
        client.unschedule(schedule_id)
    open_console().print(f"{clean(schedule_id)} is gone")


def _object(text: str) -> dict[str, Any]:
    value = json_or_text(text)
    if not isinstance(value, dict):
        raise InvalidInput([("--options", f"{text!r} is not a JSON object")])
    return value


def _say(found: dict[str, Any]) -> None:
    open_console().print(f"{clean(found['id'])} starts {clean(found['agent'])}: {_next(found)}")


def _next(found: dict[str, Any]) -> str:
    if found["paused"]:
        return "paused"
    return "never again" if found["next_at"] is None else f"next at {found['next_at']}"


def _table(found: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style=GREY)
    for name in ("id", "agent", "cron", "zone", "next", "last", ""):
        table.add_column(name, overflow="fold")
    for each in found:
        last = "" if each["last_at"] is None else clock_of(each["last_at"])
        words = (each["id"], each["agent"], each["cron"], each["zone"])
        table.add_row(*map(clean, words), _next(each), last, clean(each["last_skip"]))
    return table

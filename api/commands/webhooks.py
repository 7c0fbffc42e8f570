"""``quiesce webhooks``: what has not arrived, and secrets to sign with."""

from __future__ import annotations

import base64
import json
import secrets

import click
from rich.table import Column, Table

from api.commands.remote import json_option
from api.commands.server import Server, server_option
from api.terminal import clean, open_console

# As many bits as the hash that signs.
SECRET_BYTES = 32

_COLUMNS = ("state", "tries", "run", "to", "error")


@click.group()
def webhooks() -> None:
    """See what could not be delivered yet, and try it again."""


@webhooks.command()
def secret() -> None:
    """Make a secret for the file that `quiesce serve --webhooks` reads."""
    click.echo("whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode())


@webhooks.command()
@click.option("--state", type=click.Choice(["waiting", "dead"]), help="Only those.")
@click.option("--limit", type=click.IntRange(1, 500), default=20, show_default=True)
@json_option
@server_option
def ls(server: Server, *, state: str | None, limit: int, as_json: bool) -> None:
    """List the messages that have not arrived, the newest first."""
    with server.client() as client:
        found, following = client.deliveries(state=state, limit=limit)
    if as_json:
        click.echo(json.dumps({"deliveries": found, "next": following}, indent=2))
        return
    console = open_console()
    if not found:
        console.print("everything has arrived")
        return
    table = Table(Column("id", no_wrap=True), *_COLUMNS, box=None)
    for each in found:
        cells = (each["id"], each["state"], str(each["attempts"]), each["run_id"])
        table.add_row(*cells, clean(each["to"]), clean(each["error"]))
    console.print(table)


@webhooks.command()
@click.argument("delivery_ids", nargs=-1, required=True, metavar="ID...")
@server_option
def retry(server: Server, delivery_ids: tuple[str, ...]) -> None:
    """Try messages now, also those that were given up."""
    with server.client() as client:
        for delivery_id in delivery_ids:
            client.retry_delivery(delivery_id)
            click.echo(f"{delivery_id} is tried again")

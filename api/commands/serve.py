"""``quiesce serve``: a server."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from api.commands.loading import agents_option, load_agents

if TYPE_CHECKING:
    from orchestrator import Agent


def announce(url: str) -> None:
    """Say that clients can connect; programs wait for this line."""
    click.echo(f"listening on {url}")


@click.command()
@agents_option
@click.option("--store", default="sqlite:///quiesce.db", show_default=True, metavar="URL")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="An address; without --tokens only a loopback one.",
)
@click.option("--port", default=8080, show_default=True, help="0 picks one that is free.")
@click.option(
    "--grace-s",
    type=click.FloatRange(min=0, max=86_400),
    default=10.0,
    show_default=True,
    help="At a shutdown, operations in flight may take so many seconds.",
)
@click.option(
    "--tokens",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Who may do what. SIGHUP reads it again.",
)
@click.option(
    "--public-host",
    "public_hosts",
    multiple=True,
    metavar="NAME",
    help="A name under which clients reach the server. May be given several times.",
)
@click.option(
    "--dialect",
    "dialects",
    default="",
    metavar="NAMES",
    help="Interfaces of other systems to offer too, with commas between them.",
)
@click.pass_obj
@click.pass_context
def serve(
    ctx: click.Context,
    built_in: tuple[Agent, ...],
    *,
    sources: tuple[str, ...],
    store: str,
    host: str,
    port: int,
    grace_s: float,
    tokens: Path | None,
    public_hosts: tuple[str, ...],
    dialects: str,
) -> None:
    """Serve runs over HTTP until SIGTERM or Ctrl-C.

    The first signal refuses new runs and stops the others gracefully, a second one now.
    """
    if public_hosts and tokens is None:
        raise click.UsageError("--public-host is for a server with --tokens")
    # Here, so that no other command waits until a web server is imported.
    from api.auth import FileAccess
    from api.service import serve_forever

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    agents = load_agents(sources, built_in)
    access = None
    if tokens is not None:
        names = {each.name for each in agents}
        access = FileAccess(tokens, names, public_hosts=public_hosts)
    main = partial(
        serve_forever,
        store=store,
        agents=agents,
        host=host,
        port=port,
        grace_s=grace_s,
        announce=announce,
        access=access,
        dialects=[name.strip() for name in dialects.split(",") if name.strip()],
    )
    ctx.exit(trio.run(main))

"""``quiesce serve``: a server."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from api.commands.loading import agents_option, load_agents
from orchestrator import MAX_QUEUED

if TYPE_CHECKING:
    from orchestrator import Agent


def announce(url: str) -> None:
    """Say that clients can connect; programs wait for this line."""
    click.echo(f"listening on {url}")


@click.command()
@agents_option
@click.option("--store", default="sqlite:///quiesce.db", show_default=True, metavar="URL")
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--port", default=8080, show_default=True, help="0 picks one that is free.")
@click.option(
    "--grace-s",
    type=click.FloatRange(min=0, max=86_400),
    default=10.0,
    show_default=True,
    help="At a shutdown, operations in flight may take so many seconds.",
)
@click.option("--max-running", type=click.IntRange(min=1), help="So many runs at once; more wait.")
@click.option(
    "--max-queued",
    type=click.IntRange(min=0),
    default=MAX_QUEUED,
    show_default=True,
    help="So many may wait; more are refused.",
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
    max_running: int | None,
    max_queued: int,
) -> None:
    """Serve runs over HTTP until SIGTERM or Ctrl-C.

    The first signal refuses new runs and stops the others gracefully, a second one now. Runs that
    wait to start stay in the store, for the next server.
    """
    # Here, so that no other command waits until a web server is imported.
    from api.service import serve_forever

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    main = partial(
        serve_forever,
        store=store,
        agents=load_agents(sources, built_in),
        host=host,
        port=port,
        grace_s=grace_s,
        announce=announce,
        max_running=max_running,
        max_queued=max_queued,
    )
    ctx.exit(trio.run(main))

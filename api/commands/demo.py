"""``quiesce demo``: the demonstration."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click
import trio

from api.terminal import open_console

if TYPE_CHECKING:
    from orchestrator import Agent

PREFERRED_PORT = 8080


@click.command()
@click.option("--once", is_flag=True, help="End after the receipt; needs no terminal.")
@click.option("--port", type=click.IntRange(0, 65535), help="8080 if it is free, else another one.")
@click.pass_obj
@click.pass_context
def demo(ctx: click.Context, built_in: tuple[Agent, ...], *, once: bool, port: int | None) -> None:
    """Watch a crawl being stopped half-way, with its receipt.

    Needs nothing: the server, the website and the crawl are all in this process. With --once the
    exit code is 1 if anything of it did not hold.
    """
    # Here, so that no other command waits until a web server is imported.
    from api.demo import run_demo
    from api.server import CannotListen

    give = partial(run_demo, built_in, open_console(), once=once)
    first = port if port is not None else 0 if once else PREFERRED_PORT
    try:
        code = trio.run(partial(give, port=first))
    except* CannotListen:
        if port is not None:
            raise
        code = trio.run(partial(give, port=0))
    ctx.exit(code)

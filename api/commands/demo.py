"""``quiesce demo``: the demonstration."""

from __future__ import annotations

from functools import partial

import click
import trio

from api.commands.built_in import BUILT_IN
from api.terminal import open_console

PREFERRED_PORT = 8080


@click.command()
@click.option("--once", is_flag=True, help="End after the receipt; needs no terminal.")
@click.option("--port", type=click.IntRange(0, 65535), help="8080 if it is free, else another one.")
@click.pass_context
def demo(ctx: click.Context, *, once: bool, port: int | None) -> None:
    """Watch a crawl being stopped half-way, with its receipt.

    Needs nothing: the server, the website and the crawl are all in this process. With --once the
    exit code is 1 if anything of it did not hold.
    """
    # Here, so that no other command waits until a web server is imported.
    from api.demo import run_demo
    from api.server import CannotListen

    give = partial(run_demo, BUILT_IN, open_console(), once=once)
    first = port if port is not None else 0 if once else PREFERRED_PORT
    try:
        code = trio.run(partial(give, port=first))
    except* CannotListen:
        if port is not None:
            raise
        code = trio.run(partial(give, port=0))
    ctx.exit(code)

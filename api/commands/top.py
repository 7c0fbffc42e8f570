"""``quiesce top``: the runs of a server, live in a terminal."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

import click

from api.commands.server import Server, server_option
from orchestrator import InvalidInput

if TYPE_CHECKING:
    from api.top.app import Top


@click.command()
@click.option("--filter", "words", default="", metavar="WORDS", help="Show runs with these words.")
@server_option
@click.pass_context
def top(ctx: click.Context, server: Server, *, words: str) -> None:
    """Watch the runs of a server in this terminal, and stop, pause and repeat them.

    The exit code is 0, 2 if the server could not be asked, or 143 and 129 after SIGTERM and SIGHUP.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidInput([("terminal", "there is none; `quiesce ls` prints the runs")])
    app_class = _load()
    with server.client() as client:
        client.runs(limit=1)  # who cannot be asked at all is told so here, in one line
    why, sent = asyncio.run(_run(app_class, server, words))
    if sent is not None:
        ctx.exit(128 + sent)
    if why is not None:
        click.echo(f"Error: {why}", err=True)
        ctx.exit(2)


def _load() -> type[Top]:
    try:
        from api.top.app import Top
    except ImportError:
        raise InvalidInput([("top", "needs Textual: pip install 'quiesce[top]'")]) from None
    return Top


async def _run(
    app_class: type[Top], server: Server, words: str
) -> tuple[str | None, signal.Signals | None]:
    """Return why it had to end, and by which signal: then too the terminal is put in order."""
    from api.top.link import Link

    signals: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        signals.append(number)
        app.exit()

    async with Link(server.url, server.token) as link:
        app = app_class(link, words)
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        why = await app.run_async()
        return why, signals[0] if signals else None

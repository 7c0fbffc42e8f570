"""The demonstration: a crawl is started over HTTP, shown live, and stopped half-way for certain.

Everything is in this one process and on loopback. The site that is crawled is this documentation,
served slowly. Between the crawl and the site stands a tap, so that what is said about connections
is what the other end of the wire has seen.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio
from rich import box
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from api.client import DEFAULT_URL, Client
from api.commands.target import in_thread
from api.dialects import DIALECTS
from api.server import serve
from api.service import base_url, open_server
from api.site import docs_folder, site_app
from api.terminal import GREEN, GREY, RED, open_screen, receipt_table
from orchestrator import RunStatus, open_orchestrator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from rich.console import Console

    from api.client import RunView
    from api.terminal import Screen
    from orchestrator import Agent

CONCURRENCY = 3
# How long the crawl is watched before it is stopped, and the site after it, in seconds.
WATCH_S = 3.2
QUIET_S = 0.5


@dataclass(slots=True)
class Tap:
    """The site's end of the wire.

    Attributes:
        opened, closed: connections that the crawl has opened, and that it has closed.
        requests: when each request came, on Trio's clock.
    """

    opened: int = 0
    closed: int = 0
    requests: list[float] = field(default_factory=list)

    def since(self, moment: float) -> int:
        """Return how many requests have come after a moment."""
        return sum(at > moment for at in self.requests)

    async def pass_on(self, port: int, crawl: trio.SocketStream) -> None:
        """Carry bytes between a connection of the crawl and the site until one end closes."""
        self.opened += 1
        try:
            async with (
                await trio.open_tcp_stream("127.0.0.1", port) as site,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(_carry, site, crawl, nursery.cancel_scope)
                await _carry(crawl, site, nursery.cancel_scope)
        finally:
            self.closed += 1


async def _carry(source: trio.SocketStream, sink: trio.SocketStream, end: trio.CancelScope) -> None:
    try:
        async for chunk in source:
            await sink.send_all(chunk)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the other side is gone; so are we
    end.cancel(reason="one end has closed")


async def run_demo(
    agents: Sequence[Agent],
    console: Console,
    *,
    port: int,
    once: bool,
    docs: Path | None = None,
) -> int:
    """Give the demonstration and return the exit code: 1 if anything of it did not hold.

    Args:
        once: end after the receipt, rather than at Ctrl-C.
        docs: the folder whose site is crawled; None for this package's documentation.
    """
    async with (
        open_orchestrator(agents=agents) as orchestrator,
        open_server(orchestrator, port=port, dialects=list(DIALECTS)) as url,
        open_site(docs or docs_folder()) as (site_url, tap),
    ):
        console.print(f"a server on {url}, and a slow website on {site_url}")
        with Client(url) as client:
            stopped = await crawl_half(client, site_url, console)
        held = show_proof(stopped, tap, console)
        if not once:
            console.print(what_next(url, site_url, stopped.view.id))
            await until_interrupted()
            console.print("\nthe demo is over")
            await orchestrator.drain(grace_s=0)
    return 0 if held else 1


@asynccontextmanager
async def open_site(folder: Path) -> AsyncIterator[tuple[str, Tap]]:
    """Serve the site slowly; yields the URL at which the tap listens, and the tap."""
    tap = Tap()
    app = site_app(page_delay(folder), folder)

    @app.before_request
    async def note() -> None:
        tap.requests.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        site = partial(serve, app, host="127.0.0.1", port=0, closing=trio.Event())
        _, port = await nursery.start(site)
        listen = partial(trio.serve_tcp, partial(tap.pass_on, port), 0, host="127.0.0.1")
        listeners = await nursery.start(listen)
        yield base_url(listeners[0].socket.getsockname()), tap
        nursery.cancel_scope.cancel()


def page_delay(folder: Path) -> float:
    """Return how slow a page must be for half of the site to take ``WATCH_S``."""
    pages = sum(1 for _ in folder.rglob("*.md"))
    rounds = 1 + math.ceil(max(pages / 2 - 1, 0) / CONCURRENCY)
    return WATCH_S / rounds


@dataclass(frozen=True, slots=True)
class Stopped:
    """What became of the crawl, and when its stop was acknowledged, on Trio's clock."""

    view: RunView
    acknowledged: float


async def crawl_half(client: Client, site_url: str, console: Console) -> Stopped:
    """Start a crawl over HTTP, show it, and stop it as soon as half of the pages are done."""
    order = {"url": f"{site_url}/index.html", "concurrency": CONCURRENCY}
    run = await trio.to_thread.run_sync(client.start, "crawl", order)
    acknowledged = math.inf
    asked = False

    async def stop(screen: Screen) -> None:
        nonlocal acknowledged
        screen.say("half of the pages are done: stopping it")
        await trio.to_thread.run_sync(partial(client.stop, run.id, reason="half of it is enough"))
        acknowledged = trio.current_time()

    async with (
        open_screen(console, "it will be stopped half-way") as screen,
        trio.open_nursery() as nursery,
        in_thread(client.events(run.id)) as events,
    ):
        async for event in events:
            screen.show(event)
            if event.type == "run.progress" and event.data["percent"] >= 50 and not asked:
                asked = True
                nursery.start_soon(stop, screen)
    await trio.sleep(QUIET_S)
    return Stopped(await trio.to_thread.run_sync(client.get, run.id), acknowledged)


def show_proof(stopped: Stopped, tap: Tap, console: Console) -> bool:
    """Print the receipt, and what the site has seen; return whether all of it is as promised."""
    record, partial_result = stopped.view.record, stopped.view.partial or {}
    done, known = partial_result.get("done", 0), partial_result.get("known", 0)
    after = tap.since(stopped.acknowledged)
    before = len(tap.requests) - after
    claims = (
        (record.status is RunStatus.STOPPED, "run", str(record.status)),
        (after == 0, "requests", f"{before} until the stop was acknowledged, {after} after it"),
        (tap.opened == tap.closed > 0, "connections", f"{tap.opened} opened, {tap.closed} closed"),
        (done > 0, "pages kept", f"{done} of {known}"),
    )
    table = Table(box=box.ROUNDED, title="Seen from the site", border_style=GREY, show_header=False)
    for held, what, seen in claims:
        mark = Text("✓", GREEN) if held else Text("✗", RED)
        table.add_row(mark, Text(what, GREY), Text(seen))
    if record.stop is not None:
        console.print(receipt_table(record.stop))
    console.print(table)
    return all(held for held, _, _ in claims)


def what_next(url: str, site_url: str, run_id: str) -> Panel:
    """Return what to try while the server is up."""
    server = "" if url == DEFAULT_URL else f" --server {url}"
    # It need not be on the path of whoever has started us.
    quiesce = "quiesce" if shutil.which("quiesce") else os.path.relpath(sys.argv[0])
    lines = [
        f"{quiesce} run crawl url={site_url}/index.html",
        f"{quiesce} ls{server}",
        f"{quiesce} show {run_id}{server}",
        f"curl -N {url}/runs/{run_id}/events",
    ]
    hint = Text(
        "\n\nThe first is a crawl of your own: press Ctrl-C in it. Ctrl-C here ends the demo.", GREY
    )
    text = Text("\n".join(lines), overflow="fold") + hint
    return Panel(text, title="Try next, in another terminal", border_style=GREY, expand=False)


async def until_interrupted() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await anext(aiter(signals))

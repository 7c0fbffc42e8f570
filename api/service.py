"""The nesting of a server process, and its end.

The orchestrator is outside and the server inside it, so closing the server first is visible as
indentation, and a run outlives whatever happens to a connection.
"""

from __future__ import annotations

import logging
import os
import signal
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio

from api.app import create_app
from api.auth import Access, FileAccess
from api.metrics import Metrics, watch_loop
from api.server import serve
from api.stream import Streams
from orchestrator import StopMode, StopSource, open_orchestrator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from orchestrator import Agent, Orchestrator

_log = logging.getLogger("quiesce.service")

# How long code may hold up every run, in seconds, before it is named.
WATCHDOG_S = 1.0


@asynccontextmanager
async def open_server(
    orchestrator: Orchestrator,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    access: Access | None = None,
    metrics: Metrics | None = None,
    dialects: Sequence[str] = (),
) -> AsyncIterator[str]:
    """Serve an orchestrator over HTTP while the body runs; yields the base URL.

    Leaving the body ends the streams, then the server, in bounded time. Runs go on.

    Args:
        access: who may do what; None if everybody who can connect may do everything.
        metrics: those that the orchestrator was opened with; new ones if None.
        dialects: names of further interfaces that it is to have; see ``api.dialects``.

    Raises:
        InvalidInput: ``host`` is no address, or not a loopback address although there is no
            authentication; ``port`` is none; or there is no such dialect.
        CannotListen: somebody else has the port.
    """
    streams, closing, access = Streams(), trio.Event(), access or Access()
    metrics = metrics or Metrics()
    app = create_app(orchestrator, streams, access, metrics, dialects)
    listen = partial(serve, host=host, port=port, loopback_only=not access.authentication)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_loop, metrics, closing)
        address = await nursery.start(partial(listen, app, closing=closing))
        try:
            yield base_url(address)
        finally:
            streams.close()
            closing.set()


def base_url(address: tuple[str, int]) -> str:
    """Return the URL of a bound address."""
    host, port = address
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve_forever(
    *,
    store: str,
    agents: Sequence[Agent],
    host: str,
    port: int,
    grace_s: float,
    announce: Callable[[str], None],
    access: Access | None = None,
    dialects: Sequence[str] = (),
) -> int:
    """Serve until SIGTERM or SIGINT, then drain and return the exit code.

    The first signal refuses starts and stops every run gracefully, a second one stops them now,
    a third lets go of what will not exit. Clients can watch until all runs have ended. A run
    whose code does not exit is recorded as abandoned; the process then ends without it.

    Args:
        grace_s: the most that operations in flight get when the server shuts down.
        announce: called with the base URL once clients can connect.
        access: as for ``open_server``; SIGHUP reads the file again that it comes from.
        dialects: as for ``open_server``.

    Raises:
        InvalidInput, StoreInUse, StoreDamaged, CannotListen: it could not begin.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        metrics = Metrics()
        async with open_orchestrator(
            store, agents=agents, watchdog_s=WATCHDOG_S, observers=[metrics]
        ) as orchestrator:
            served = open_server(
                orchestrator,
                host=host,
                port=port,
                access=access,
                metrics=metrics,
                dialects=dialects,
            )
            async with served as url, _reloading(access):
                announce(url)
                await anext(signals)
                await _drain(orchestrator, signals, grace_s)
            unstored = len(orchestrator.registry)
            if orchestrator.stuck or unstored:
                _leave_without(orchestrator, 1 if unstored else 0)
    return 0


@asynccontextmanager
async def _reloading(access: Access | None) -> AsyncIterator[None]:
    """Read the tokens file again at each SIGHUP, while the body runs."""
    if not isinstance(access, FileAccess):
        yield
        return
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reload_at, signals, access)
            yield
            nursery.cancel_scope.cancel()


async def _reload_at(signals: AsyncIterator[int], access: FileAccess) -> None:
    async for _ in signals:
        access.reload()


async def _drain(orchestrator: Orchestrator, signals: AsyncIterator[int], grace_s: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hurry, orchestrator, signals)
        await orchestrator.drain(grace_s)
        nursery.cancel_scope.cancel()


async def _hurry(orchestrator: Orchestrator, signals: AsyncIterator[int]) -> None:
    for mode in (StopMode.NOW, StopMode.KILL):
        await anext(signals)
        orchestrator.stop_all(mode=mode, grace_s=0, source=StopSource.SHUTDOWN)


def _leave_without(orchestrator: Orchestrator, code: int) -> None:
    """End the process although code of abandoned runs still stands in it."""
    for run in orchestrator.stuck:
        places = ", ".join(f"{at.file}:{at.line}" for at in run.standing())
        _log.error("run %s (%s) is abandoned; it stands at %s", run.id, run.agent.name, places)
    for run in orchestrator.registry:
        _log.error("the end of run %s is not stored; the next start settles it", run.id)
    logging.shutdown()
    os._exit(code)

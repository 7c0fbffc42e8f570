"""The nesting of a server process, and its end.

The orchestrator is outside and the server inside it, so closing the server first is visible as
indentation, and a run outlives whatever happens to a connection.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from contextlib import asynccontextmanager
from contextlib import closing as closing_when_left
from functools import partial
from typing import TYPE_CHECKING

import trio

from api.app import create_app
from api.auth import Access
from api.logs import RunLog
from api.metrics import Metrics, watch_loop
from api.server import serve
from api.stream import Streams
from api.tracing import tracing
from api.webhooks import Outbox
from orchestrator import MAX_QUEUED, StopMode, StopSource, open_orchestrator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from api.tls import Certificate
    from orchestrator import Agent, Orchestrator

_log = logging.getLogger("quiesce.service")

# How long code may hold up every run, in seconds, before it is named.
WATCHDOG_S = 1.0
# Objects that are made, and not freed, before the youngest generation is walked; after so many
# walks of one generation the next one is walked too. Python's own 700 objects are what a few
# starts make. Each object of the second generation is walked once, all that have gathered in one
# go: the more often, the shorter each walk holds up the loop.
COLLECTED_AT = (10_000, 3, 30)


def tune_collector() -> None:
    """Let this process collect garbage as suits a server; called once all is imported.

    What is imported stays, and runs live long: walks through them free nothing, and hold up all.
    """
    gc.freeze()
    gc.set_threshold(*COLLECTED_AT)


@asynccontextmanager
async def open_server(
    orchestrator: Orchestrator,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    access: Access | None = None,
    certificate: Certificate | None = None,
    metrics: Metrics | None = None,
    dialects: Sequence[str] = (),
    outbox: Outbox | None = None,
) -> AsyncIterator[str]:
    """Serve an orchestrator over HTTP while the body runs; yields the base URL.

    Leaving the body ends the streams, then the server, in bounded time. Runs go on.

    Args:
        access: who may do what; None if everybody who can connect may do everything.
        certificate: serves HTTPS with it; HTTP if None.
        metrics: those that the orchestrator was opened with; new ones if None.
        dialects: names of further interfaces that it is to have; see ``api.dialects``.
        outbox: sends webhooks, and was given to the orchestrator too; None if nothing does.

    Raises:
        InvalidInput: ``host`` is no address, or not a loopback address although there is no
            authentication; ``port`` is none; or there is no such dialect.
        CannotListen: somebody else has the port.
    """
    streams, closing, access = Streams(), trio.Event(), access or Access()
    metrics = metrics or Metrics()
    access.when_changed.append(streams.renew)
    app = create_app(orchestrator, streams, access, metrics, dialects, outbox)
    tls = None if certificate is None else certificate.context
    listen = partial(serve, host=host, port=port, loopback_only=not access.authentication, tls=tls)
    with closing_when_left(app.extensions["quiesce.knowledge"]):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_loop, metrics, closing)
            address = await nursery.start(partial(listen, app, closing=closing))
            # Whoever has watched a run that started again has lost it in the crash.
            for run in orchestrator.registry.roots():
                if run.record.attempt > 1:
                    streams.audience.expect(run)
            try:
                yield base_url(address, secure=tls is not None)
            finally:
                streams.close()
                closing.set()


def base_url(address: tuple[str, int], *, secure: bool = False) -> str:
    """Return the URL of a bound address."""
    host, port = address
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if secure else 'http'}://{name}:{port}"


async def serve_forever(
    *,
    store: str,
    agents: Sequence[Agent],
    host: str,
    port: int,
    grace_s: float,
    max_workers: int = 64,
    announce: Callable[[str], None],
    access: Access | None = None,
    max_running: int | None = None,
    max_queued: int = MAX_QUEUED,
    certificate: Certificate | None = None,
    dialects: Sequence[str] = (),
    outbox: Outbox | None = None,
    retention_s: float | None = None,
) -> int:
    """Serve until SIGTERM, SIGINT or the end of the terminal, then drain and return the exit code.

    The first signal refuses starts and stops every run gracefully, a second one stops them now,
    a third lets go of what will not exit. Clients can watch until all runs have ended. A run
    whose code does not exit is recorded as abandoned; the process then ends without it.

    Args:
        grace_s: the most that operations in flight get when the server shuts down.
        max_workers: how many runs may have a process of their own at a time; more wait.
        announce: called with the base URL once clients can connect.
        max_running, max_queued: as for ``open_orchestrator``.
        access, certificate: as for ``open_server``; SIGHUP reads their files again, and ends a
            server without any, unless it is ignored.
        dialects: as for ``open_server``.
        outbox: tells whoever its rules say; only those that starters name if None.
        retention_s: as for ``open_orchestrator``.

    Raises:
        InvalidInput, StoreInUse, StoreDamaged, CannotListen: it could not begin.
    """
    files = [each for each in (access, certificate) if each is not None]
    with trio.open_signal_receiver(*_ending(files)) as signals:
        metrics, outbox = Metrics(), outbox or Outbox()
        outbox.register(metrics.registry)
        serving = partial(
            open_server,
            host=host,
            port=port,
            access=access,
            certificate=certificate,
            dialects=dialects,
        )
        async with (
            tracing() as traces,
            open_orchestrator(
                store,
                agents=agents,
                max_workers=max_workers,
                max_running=max_running,
                max_queued=max_queued,
                watchdog_s=WATCHDOG_S,
                retention_s=retention_s,
                observers=[metrics, RunLog(), outbox, *traces.observers],
            ) as orchestrator,
            outbox.sending(orchestrator),
        ):
            async with (
                serving(orchestrator, metrics=metrics, outbox=outbox) as url,
                _reloading(files),
            ):
                announce(url)
                await anext(signals)
                await _drain(orchestrator, signals, grace_s)
            unstored = len(orchestrator.unfinished)
            if orchestrator.stuck or unstored:
                await outbox.settle()
                await traces.close()
                _leave_without(orchestrator, 1 if unstored else 0)
    return 0


def _ending(files: Sequence[Access | Certificate]) -> list[signal.Signals]:
    """Return the signals that end a server that has these files to read again."""
    ending = [signal.SIGTERM, signal.SIGINT]
    if not files and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ending.append(signal.SIGHUP)
    return ending


@asynccontextmanager
async def _reloading(files: Sequence[Access | Certificate]) -> AsyncIterator[None]:
    """Read them again at each SIGHUP, while the body runs."""
    if not files:
        yield
        return
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_reload_at, signals, files)
            yield
            nursery.cancel_scope.cancel()


async def _reload_at(signals: AsyncIterator[int], files: Sequence[Access | Certificate]) -> None:
    async for _ in signals:
        for each in files:
            each.reload()


async def _drain(orchestrator: Orchestrator, signals: AsyncIterator[int], grace_s: float) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hurry, orchestrator, signals)
        await orchestrator.drain(grace_s)
        nursery.cancel_scope.cancel()


async def _hurry(orchestrator: Orchestrator, signals: AsyncIterator[int]) -> None:
    for mode in (StopMode.NOW, StopMode.KILL):
        while await anext(signals) == signal.SIGHUP:
            pass  # a terminal that is closed may say so more than once
        orchestrator.stop_all(mode=mode, grace_s=0, source=StopSource.SHUTDOWN)


def _leave_without(orchestrator: Orchestrator, code: int) -> None:
    """End the process although code of abandoned runs still stands in it."""
    for run in orchestrator.stuck:
        places = ", ".join(at.place for at in run.standing())
        _log.error("run %s (%s) is abandoned; it stands at %s", run.id, run.agent.name, places)
    for run in orchestrator.unfinished:
        _log.error("the end of run %s is not stored; the next start settles it", run.id)
    logging.shutdown()
    os._exit(code)

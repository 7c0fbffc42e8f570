"""The orchestrator: starts runs, finds them, stops them, and outlives whatever asks for them.

Nesting is the shutdown order: the store is around the journal, the journal and the timers around
the runs. Runs live in the orchestrator's own nursery, never in that of a server or a request.
"""

from __future__ import annotations

import contextvars
import logging
from contextlib import asynccontextmanager, nullcontext
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.catalog import Catalog
from orchestrator.cleanup import bounded
from orchestrator.clock import utc_now
from orchestrator.errors import RunEnded, StoreUnavailable, check_count
from orchestrator.faults import check_seconds
from orchestrator.halting import FLUSH_S, Halter
from orchestrator.inprocess import MAX_QUEUED, InProcessEngine
from orchestrator.journal import Journal
from orchestrator.model import StopMode, StopSource
from orchestrator.observing import Observers
from orchestrator.recovery import recover
from orchestrator.registry import Registry
from orchestrator.retention import Keeper, Keeping
from orchestrator.schedules import Schedules
from orchestrator.services import Services
from orchestrator.starting import new_run_id
from orchestrator.store import open_store
from orchestrator.store.codec import encode
from orchestrator.store.writes import DropDocument, SaveDocument
from orchestrator.supervise import split_cancelled
from orchestrator.timers import Timers
from orchestrator.watchdog import watching
from orchestrator.worker.pool import MAX_WORKERS, WorkerPool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from typing import Unpack

    import httpx

    from orchestrator.agent import Agent
    from orchestrator.engine import QueueFigures
    from orchestrator.model import Json, Receipt
    from orchestrator.observing import Observer
    from orchestrator.run import Run
    from orchestrator.stopping import StopArguments
    from orchestrator.store.protocol import Store
    from orchestrator.watchdog import Blocked, Watchdog

_log = logging.getLogger("quiesce.runtime")


class Orchestrator(Halter, Keeping):
    """Runs and everything one may ask of them. Made by ``open_orchestrator``.

    Attributes:
        agents: the registered agents.
        registry: the live runs.
        observers: are told of every event; more may be added.
        schedules: what is started again and again.
        recovered: what became of the runs that the last process left over: how many were
            ``restarted``, ``stopped`` and ``lost``.
    """

    def __init__(
        self,
        store: Store,
        nursery: trio.Nursery,
        agents: Iterable[Agent],
        now: Callable[[float], str],
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        max_workers: int = MAX_WORKERS,
        observers: Iterable[Observer] = (),
        max_running: int | None = None,
        max_queued: int = MAX_QUEUED,
        keeps_queue: bool = False,
        retention_s: float | None = None,
    ) -> None:
        super().__init__(store, Registry())
        self.agents = Catalog(agents)
        self.observers = Observers([self.broadcast, *observers])
        self.recovered: Mapping[str, int] = {}
        self._nursery = nursery
        self._watchdog: Watchdog | None = None
        self._keeps_queue = keeps_queue
        timers = Timers()
        journal = Journal(store, timers, self.observers)
        self._engine = InProcessEngine(
            store,
            journal,
            self.registry,
            timers,
            self.observers,
            max_running=max_running,
            max_queued=max_queued,
        )
        self._services = Services(
            store=store,
            journal=journal,
            registry=self.registry,
            timers=timers,
            catalog=self.agents,
            now=now,
            new_id=new_run_id,
            spawn=self._spawn,
            engine=self._engine,
            admit=self.admit,
            stuck=set(),
            transport=transport,
            workers=WorkerPool(nursery, max_workers),
            observers=self.observers,
        )
        self.schedules = Schedules(self._services, self.admit, self._may_start)
        self._keeper = None if retention_s is None else Keeper(self._services, retention_s)

    @property
    def stuck(self) -> frozenset[Run]:
        """Runs that were let go while their code still stands. Only the end of the process ends
        them, and until then the orchestrator cannot be left."""
        return frozenset(self._services.stuck)

    @property
    def blocked(self) -> Blocked | None:
        """The last time that some code blocked every other, the present one included; None if
        that was never noticed, or nobody watches."""
        return self._watchdog.last if self._watchdog is not None else None

    @property
    def queue(self) -> QueueFigures:
        """How many roots run and wait, and how long the oldest of those has waited."""
        return self._engine.figures

    @property
    def store_error(self) -> StoreUnavailable | None:
        """Why the store does not take writes at present; None while it does."""
        return self._services.journal.failing

    @property
    def backlog(self) -> int:
        """How many entries wait for the store: each is one change of a run, or one event."""
        return self._services.journal.backlog

    async def stop(self, run_id: str, **asked: Unpack[StopArguments]) -> Receipt:
        """Stop a run and return its receipt once it is torn down; see ``Run.stop``.

        Raises:
            UnknownRun: no run has that id.
            RunEnded: it had ended without a stop.
        """
        run = self.live(run_id)
        if run is not None:
            return await run.stop(**asked)
        record = await self.get(run_id)
        if record.stop is None:
            raise RunEnded(record.id, record.status)
        return record.stop

    async def durable(self, ticket: int) -> None:
        """Wait until what a ``request_stop`` returned the ticket of is durable.

        Raises:
            StoreUnavailable: not yet; it will be as soon as the store takes it.
        """
        await self._services.journal.durable(ticket)

    def now(self, seconds: float = 0) -> str:
        """Return the RFC 3339 UTC time, so many seconds from now, by the clock of every record.

        Not a checkpoint.
        """
        return self._services.now(seconds)

    def keep(self, collection: str, key: str, value: Json, *, along: int | None = None) -> int:
        """Store a document that is nobody's run, or replace it. Not a checkpoint.

        Args:
            value: any JSON.
            along: the ticket of what it tells of, decided in this very step: both become durable
                in one transaction.

        Returns:
            the ticket for ``durable``.
        """
        writes = [SaveDocument(collection, key, encode(value).encode())]
        if along is None:
            return self._services.journal.append(writes)
        return self._services.journal.attach(along, writes)

    def drop(self, collection: str, key: str) -> int:
        """Remove a document, if it is there; returns a ticket as ``keep`` does."""
        return self._services.journal.append([DropDocument(collection, key)])

    def _spawn(self, function: Callable[..., Any], *args: Any) -> None:
        # A fresh context: a run must not inherit what a request or a test has in its own.
        contextvars.Context().run(self._nursery.start_soon, function, *args)

    async def _open(self) -> None:
        self._nursery.start_soon(self._services.journal.run)
        self._nursery.start_soon(self._services.timers.run)
        await self._load_halt()
        self.recovered = await recover(self._services, self._halt)
        self._engine.open()
        await self.schedules.load()
        if self._keeper is not None:
            self._nursery.start_soon(self._keeper.run)

    async def _close(self, mode: StopMode) -> None:
        """Stop what still runs, and end the services that the runs needed."""
        self.refuse_starts("the orchestrator is closed")
        self._engine.close()
        self.stop_all(mode=mode, grace_s=None, source=StopSource.SHUTDOWN)
        try:
            await self._wait_for_all()
        except BaseException:
            # Cancelled or interrupted while it closes: what was graceful has to hurry now.
            self.stop_all(mode=StopMode.NOW, grace_s=0, source=StopSource.SHUTDOWN)
            with bounded(inf):
                await self._wait_for_all()
            raise
        finally:
            self.schedules.close()
            self._engine.let_go()
            self._services.workers.close()
            self._services.timers.close()
            if self._keeper is not None:
                self._keeper.close()
            self._services.journal.close(FLUSH_S)
            self._name_the_stuck()

    def _name_the_stuck(self) -> None:
        for run in self.stuck:
            places = ", ".join(at.place for at in run.standing())
            _log.error(
                "run %s (%s) is abandoned, and its code keeps the process: it stands at %s",
                run.id,
                run.agent.name,
                places,
            )


@asynccontextmanager
async def open_orchestrator(
    url: str = "memory://",
    *,
    agents: Iterable[Agent] = (),
    now: Callable[[float], str] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    max_workers: int = MAX_WORKERS,
    max_running: int | None = None,
    max_queued: int = MAX_QUEUED,
    watchdog_s: float | None = None,
    observers: Iterable[Observer] = (),
    retention_s: float | None = None,
) -> AsyncIterator[Orchestrator]:
    """Open a store and an orchestrator on it.

    Runs that a crash left over are settled, or started again if their starter wanted that,
    before this yields. Leaving the block stops what still runs: gracefully when it is left
    normally, at once when it is left by an exception or a cancellation. In-process code that
    swallows or shields cancellation for ever cannot be ended by anybody: its run is recorded as
    abandoned in bounded time, but the block is left only with the process (see ``stuck``).
    Runs that wait to start stay on record for the next orchestrator, unless they are in memory.

    Args:
        url: ``memory://``, ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or
            ``postgresql://user:password@host:port/database``.
        agents: what can be started by name, and restarted after a crash.
        now: the wall clock, for tests: the RFC 3339 UTC time, so many seconds from now.
        transport: what agents' HTTP clients use instead of sockets, for tests.
        max_workers: how many runs may have a process of their own at a time; more wait. A run
            that has one may have one sub-agent more in a process.
        max_running: how many root runs may run at a time; more wait. None for no limit.
        max_queued: how many may wait, for a slot or for their time; more are refused.
        watchdog_s: name the run, file and line of code that blocks all others for longer than
            so many seconds, in the log and as ``Orchestrator.blocked``; None to not watch.
        observers: are told of every event from the first on, those of runs that a crash left over
            included.
        retention_s: for how long trees are kept after their end, where their options do not say,
            in seconds. With None nothing is ever forgotten, whatever its options say.

    Raises:
        InvalidInput: a limit is out of its range.
        InvalidInput, StoreInUse, StoreDamaged, StoreUnavailable: the store cannot be opened.
        StoreInUse: also from the block, if another process has taken its PostgreSQL database.
    """
    check_count("max_workers", max_workers, least=1)
    check_count("max_running", max_running, least=1)
    check_count("max_queued", max_queued, least=0)
    for name, seconds in (("retention_s", retention_s), ("watchdog_s", watchdog_s)):
        check_seconds(name, seconds or 0)
    catalog = Catalog(agents)
    failure: BaseException | None = None
    async with open_store(url) as store, trio.open_nursery() as nursery:
        orchestrator = Orchestrator(
            store,
            nursery,
            catalog,
            now or utc_now,
            transport,
            max_workers=max_workers,
            observers=observers,
            max_running=max_running,
            max_queued=max_queued,
            keeps_queue=not url.startswith("memory:"),
            retention_s=retention_s,
        )
        mode = StopMode.NOW
        try:
            await orchestrator._open()
            with watching(watchdog_s) if watchdog_s is not None else nullcontext() as watchdog:
                orchestrator._watchdog = watchdog
                yield orchestrator
            mode = StopMode.GRACEFUL
        except BaseException as error:
            # Raised outside the nursery, which would wrap it; but a cancellation must go
            # through the nursery, since it may be the nursery's own.
            if split_cancelled(error)[0] is not None:
                raise
            failure = error
        finally:
            await orchestrator._close(mode)
    if failure is not None:
        raise failure

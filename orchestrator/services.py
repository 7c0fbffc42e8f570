"""What every run of an orchestrator shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from orchestrator.catalog import Catalog
    from orchestrator.engine import Engine
    from orchestrator.journal import Journal
    from orchestrator.model import RunId
    from orchestrator.observing import Observers
    from orchestrator.registry import Registry
    from orchestrator.run import Run
    from orchestrator.store.protocol import Store
    from orchestrator.timers import Timers
    from orchestrator.worker.driver import Workers


@dataclass(frozen=True, slots=True)
class Services:
    """What every run of an orchestrator shares.

    Attributes:
        store: for reads; writes go through the journal.
        now: the wall clock, as an RFC 3339 UTC string; takes seconds to add.
        new_id: a run id that was never given out before.
        spawn: starts a task in the orchestrator's nursery, in a fresh context.
        engine: claims, ends, finds and settles roots.
        admit: starts a root run, as ``Orchestrator.admit``.
        stuck: runs that were let go while their code still stands.
        workers: starts the processes of runs that want one.
        observers: are told of every event.
        transport: what agents' HTTP clients use instead of sockets; for tests.
    """

    store: Store
    journal: Journal
    registry: Registry
    timers: Timers
    catalog: Catalog
    now: Callable[[float], str]
    new_id: Callable[[], RunId]
    spawn: Callable[..., None]
    engine: Engine
    admit: Callable[..., Run]
    stuck: set[Run]
    transport: httpx.AsyncBaseTransport | None
    workers: Workers
    observers: Observers

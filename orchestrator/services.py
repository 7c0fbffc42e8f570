"""What every run of an orchestrator shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.agent import Catalog
    from orchestrator.journal import Journal
    from orchestrator.model import RunId
    from orchestrator.registry import Registry
    from orchestrator.run import Run
    from orchestrator.timers import Timers


@dataclass(frozen=True, slots=True)
class Services:
    """What every run of an orchestrator shares.

    Attributes:
        now: the wall clock, as an RFC 3339 UTC string; takes seconds to add.
        new_id: a run id that was never given out before.
        spawn: starts a task in the orchestrator's nursery, in a fresh context.
        admit: starts a root run, as ``Orchestrator.admit``.
        stuck: runs that were let go while their code still stands.
    """

    journal: Journal
    registry: Registry
    timers: Timers
    catalog: Catalog
    now: Callable[[float], str]
    new_id: Callable[[], RunId]
    spawn: Callable[..., None]
    admit: Callable[..., Run]
    stuck: set[Run]

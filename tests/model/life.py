"""One life of an orchestrator, from its opening to its crash or its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

from tests.model import model

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from orchestrator import Orchestrator, Run
    from tests.model.disk import Mount
    from tests.model.player import Player
    from tests.model.watch import Watch


@dataclass
class Life:
    """One life of an orchestrator.

    Attributes:
        leave, over: it is to be left, and it was.
        read: the roots whose feeds somebody reads.
        nursery: of those who look on, also after the orchestrator was left.
    """

    number: int
    mount: Mount
    watch: Watch
    player: Player
    leave: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)
    read: set[str] = field(default_factory=set)
    nursery: trio.Nursery = field(init=False)
    orchestrator: Orchestrator = field(init=False)

    def spawn(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Start an onlooker of this life."""
        self.nursery.start_soon(function, *args)

    def end(self) -> None:
        """Cancel whatever is left of it."""
        self.nursery.cancel_scope.cancel()

    def pick(self, target: int) -> Run | None:
        """Return a run: mostly a live one, but any of this life if none is."""
        known = list(self.watch.runs.values())
        live = [run for run in known if run.record.status not in model.TERMINAL]
        pool = known if target % 8 == 7 or not live else live
        return pool[target % len(pool)] if pool else None

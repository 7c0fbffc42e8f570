"""A store that outlives its orchestrators: slow if wanted, out of order at times, never torn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from orchestrator import StoreUnavailable
from orchestrator.store.memory import MemoryStore
from orchestrator.store.protocol import NOBODY, Told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.store.writes import Write


class Disk(MemoryStore):
    """What is durable. ``broken_until`` is when it takes writes again, on Trio's clock."""

    def __init__(self, latency_s: float) -> None:
        super().__init__()
        self.latency_s = latency_s
        self.broken_until = 0.0


class Mount(MemoryStore):
    """A disk as one life of an orchestrator sees it, until it crashes."""

    def __init__(self, disk: Disk) -> None:
        vars(self).update(vars(disk))
        self._disk = disk
        self._writing = False
        self._dead = False

    async def write(self, batch: Sequence[Write], told: Told = NOBODY) -> None:
        """Write, unless the process is dead: what it still tries goes nowhere."""
        if self._disk.latency_s:
            await trio.sleep(self._disk.latency_s)
        if self._dead:
            await trio.lowlevel.checkpoint()
            told.stored()
            return
        if trio.current_time() < self._disk.broken_until:
            raise StoreUnavailable("the disk is full")
        self._writing = True
        await self._disk.write(batch, told)
        self._writing = False

    async def crash(self) -> None:
        """Take no more. A write that had reached the disk is there before this returns."""
        self._dead = True
        while self._writing:
            await trio.lowlevel.checkpoint()

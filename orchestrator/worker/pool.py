"""The worker processes of one orchestrator, and a warden for them once one is needed."""

from __future__ import annotations

import os
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded
from orchestrator.worker.values import WorkerSpec
from orchestrator.worker.warden import Warden, open_warden

if TYPE_CHECKING:
    from orchestrator.worker.process import WorkerProcess
    from orchestrator.worker.wire import Message

MAX_WORKERS = 64

_ENTRY = "orchestrator.worker.child:main"
_PRELOAD = ("orchestrator.worker.child", "orchestrator.agents")
# What a worker inherits of the environment, beside the variables of ours.
_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ")
_OURS = "QUIESCE_"


class WorkerPool:
    """Starts workers. Costs nothing before the first one is wanted."""

    def __init__(self, nursery: trio.Nursery, max_workers: int = MAX_WORKERS) -> None:
        self._nursery = nursery
        self._max_workers = max_workers
        self._opening = trio.Lock()
        self._closing = trio.Event()
        self._warden: Warden | None = None

    async def start(self, spec: Message) -> WorkerProcess:
        """Start a worker that runs the agent of the spec; waits while there are too many.

        Raises:
            WorkerNotStarted, WardenUnavailable: the system has no room for it, or no means.
        """
        async with self._opening:
            if self._warden is None:
                self._warden = await self._nursery.start(self._keep)
        return await self._warden.start(WorkerSpec(entry=_ENTRY, argument=spec, env=_environment()))

    def close(self) -> None:
        """End all workers, and then the warden. May be called twice."""
        self._closing.set()

    async def _keep(self, task_status: trio.TaskStatus[Warden]) -> None:
        # Shielded: workers are ended by the stops of their runs, and the warden after them.
        with bounded(inf):
            async with open_warden(max_workers=self._max_workers, preload=_PRELOAD) as warden:
                task_status.started(warden)
                await self._closing.wait()


def _environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_OURS)
    }

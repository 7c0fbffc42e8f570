"""The worker processes of one orchestrator, and a warden for them once one is needed."""

from __future__ import annotations

import contextvars
import logging
import os
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded
from orchestrator.worker.errors import WardenUnavailable
from orchestrator.worker.kernel import check_system
from orchestrator.worker.values import WorkerSpec
from orchestrator.worker.warden import Warden, open_warden

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.apart import ProcessLimits
    from orchestrator.worker.process import WorkerProcess
    from orchestrator.worker.wire import Message

_log = logging.getLogger("quiesce.worker")

MAX_WORKERS = 64

_ENTRY = "orchestrator.worker.child:main"
_PRELOAD = ("orchestrator.worker.child", "orchestrator.agents")
# What a worker inherits of the environment, beside the variables of ours.
_INHERITED = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ")
_OURS = "QUIESCE_"


class WorkerPool:
    """Starts workers. Costs nothing before the first one is wanted.

    A system that has not the means for them is told of at once, in the log.
    """

    def __init__(self, nursery: trio.Nursery, max_workers: int = MAX_WORKERS) -> None:
        self._nursery = nursery
        self._max_workers = max_workers
        self._asked = False
        self._opened = trio.Event()
        self._closing = trio.Event()
        self._failure = ""
        self._warden: Warden | None = None
        try:
            check_system()
        except WardenUnavailable as error:
            _log.warning("%s", error)

    async def start(
        self, spec: Message, limits: ProcessLimits, spare: trio.CapacityLimiter | None = None
    ) -> WorkerProcess:
        """Start a worker that runs the agent of the spec; waits while there are too many.

        Args:
            spare: as for ``Warden.start``.

        Raises:
            WorkerNotStarted, WardenUnavailable: the system has no room for it, or no means.
        """
        if not self._asked:
            self._asked = True
            # In a context of its own: it outlives whoever happens to need it first, and must
            # not share that one's cancellation.
            contextvars.Context().run(self._nursery.start_soon, self._keep)
        await self._opened.wait()
        if self._warden is None:
            raise WardenUnavailable(self._failure)
        return await self._warden.start(
            WorkerSpec(
                entry=_ENTRY,
                argument=spec,
                env=_environment(limits.env),
                cwd=None if limits.cwd is None else Path(limits.cwd),
                memory_mib=limits.memory_mib,
                cpu_s=limits.cpu_s,
            ),
            spare,
        )

    def close(self) -> None:
        """End all workers, and then the warden. May be called twice."""
        self._closing.set()

    async def _keep(self) -> None:
        # Shielded: workers are ended by the stops of their runs, and the warden after them.
        with bounded(inf):
            try:
                async with open_warden(max_workers=self._max_workers, preload=_PRELOAD) as warden:
                    self._warden = warden
                    self._opened.set()
                    await self._closing.wait()
            except WardenUnavailable as error:
                self._failure = str(error)
                self._opened.set()


def _environment(more: Sequence[str]) -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _INHERITED or name.startswith(_OURS) or name in more
    }

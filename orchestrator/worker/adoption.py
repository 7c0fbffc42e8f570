"""What a warden leaves behind when it is killed: found by its mark, and ended from here.

The orchestrator is a subreaper too, so it all comes to it. The embedding program's own children
have no mark, and are neither signalled nor reaped.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from orchestrator.procfs import pids
from orchestrator.worker.kernel import kill_marked, mark_of, reap_marked, token_in

# How long the killing goes on before the survivors are named.
KILL_S = 5.0
_PAUSE_S = 0.002


class Remains:
    """What a warden left behind.

    Attributes:
        killed: who was killed, with their marks.
        surviving: likewise those that are still there.
    """

    def __init__(self, token: int) -> None:
        self._token = token
        self.killed: dict[int, int] = {}
        self.surviving: dict[int, int] = {}

    async def end(self) -> None:
        """Kill all of it, until nothing is left or for ``KILL_S``. The caller shields it."""
        until = trio.current_time() + KILL_S
        while not self._sweep() and trio.current_time() < until:  # noqa: ASYNC110
            await trio.sleep(_PAUSE_S)  # no event tells when another process is gone

    def _sweep(self) -> bool:
        """Kill and reap what is there now; whether nothing was."""
        ours = _Marks(self._token)
        with suppress(OSError):
            # Out of file descriptors, say: it is tried again, or the survivors are named.
            self.killed.update(kill_marked(ours))
        found = {pid: mark_of(pid) for pid in pids()}
        self.surviving = {pid: mark for pid, mark in found.items() if mark in ours}
        for pid, mark in self.surviving.items():
            with suppress(OSError):
                if reap_marked(pid, ours):
                    # Also a worker, which the kernel has killed as its warden died.
                    self.killed[pid] = mark
        return not self.surviving


class _Marks:
    """All marks that were made for a token."""

    def __init__(self, token: int) -> None:
        self._token = token

    def __contains__(self, mark: object) -> bool:
        return isinstance(mark, int) and token_in(mark) == self._token

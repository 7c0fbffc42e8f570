"""Stopping everything at once: until a halt is lifted, or since the orchestrator closes.

A halt is a document of the store. As long as it is there nothing starts, also after a restart, and
every run that a crash left over counts as stopped by it.
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio
from pydantic import TypeAdapter

from orchestrator.errors import Halted, StoreUnavailable
from orchestrator.model import Halt, StopMode, StopSource
from orchestrator.starting import Starter
from orchestrator.stopping import stop_request
from orchestrator.store.writes import DropDocument, SaveDocument

if TYPE_CHECKING:
    from orchestrator.run import Run
    from orchestrator.schedules import Schedules

# How long the journal may still write once everything else is over.
FLUSH_S = 10.0

_COLLECTION, _KEY = "orchestrator", "halt"
_HALT = TypeAdapter(Halt)


class Halter(Starter):
    """The part of an orchestrator that stops all of its runs.

    Attributes:
        schedules: the recurring starts.
    """

    schedules: Schedules
    _halt: Halt | None = None
    _shown_halt: Halt | None = None
    # Whether runs that wait are left alone when the orchestrator closes, for the next one.
    _keeps_queue = False

    @property
    def halted(self) -> Halt | None:
        """The halt that is on, as it is durable; None if none is."""
        return self._shown_halt

    @property
    def unfinished(self) -> list[Run]:
        """The live runs whose end has to be waited for when the orchestrator closes, oldest first.

        Runs that wait to start are not, if their store outlasts the process.
        """
        engine = self._services.engine
        return [run for run in self.registry if not (self._keeps_queue and engine.waits(run))]

    async def halt(
        self,
        *,
        mode: StopMode | str = StopMode.GRACEFUL,
        grace_s: float | None = None,
        reason: str = "",
        requested_by: str = "",
    ) -> Halt:
        """Stop every run and refuse starts, until ``lift`` and across restarts.

        Returns once the halt is durable and every run has ended, those that wait included. May be
        called again: that can only tighten the stops, and the first halt stays on record.

        Args:
            grace_s: what operations in flight may still take, at most; None for what each run's
                own ``grace_s`` is.

        Raises:
            InvalidInput: there is no such mode, or the grace is not a duration.
            StoreUnavailable: it is carried out, and not durable yet.
        """
        live = self.registry.roots()
        ticket = self.request_halt(
            mode=mode, grace_s=grace_s, reason=reason, requested_by=requested_by
        )
        await self._services.journal.durable(ticket)
        for run in live:
            await run.ended.wait()
        assert self._halt is not None
        return self._halt

    def request_halt(
        self,
        *,
        mode: StopMode | str = StopMode.GRACEFUL,
        grace_s: float | None = None,
        reason: str = "",
        requested_by: str = "",
    ) -> int:
        """Halt without waiting, as in ``halt``. Not a checkpoint; takes effect before it returns.

        Returns:
            the journal's ticket: once it is durable the halt may be acknowledged.
        """
        asked = stop_request(
            {"mode": mode, "grace_s": grace_s, "reason": reason, "requested_by": requested_by},
            own_grace_s=0,
            now=self._services.now(0),
        )
        if self._halt is None:
            self._halt = Halt(
                mode=asked.mode,
                grace_s=grace_s,
                reason=asked.reason,
                requested_by=asked.requested_by,
                requested_at=asked.requested_at,
            )
            # Before the stops: whatever a crash leaves of them, the halt is on record.
            self._write(SaveDocument(_COLLECTION, _KEY, _HALT.dump_json(self._halt)))
        self.stop_all(
            mode=asked.mode,
            grace_s=grace_s,
            source=StopSource.HALT,
            reason=asked.reason,
            requested_by=asked.requested_by,
        )
        return self._services.journal.append([], urgent=True)

    async def lift(self) -> None:
        """Let runs start again, and schedules fire. May be called at any time, also twice.

        Raises:
            StoreUnavailable: it is so, and a crash now could forget it.
        """
        await self._services.journal.durable(self.request_lift())

    def request_lift(self) -> int:
        """Lift without waiting, as in ``lift``. Not a checkpoint; takes effect before it returns.

        Returns:
            the journal's ticket: once it is durable the lift may be acknowledged.
        """
        if self._halt is not None:
            self._halt = None
            self._write(DropDocument(_COLLECTION, _KEY))
            self.schedules.look()
        return self._services.journal.append([], urgent=True)

    async def drain(self, grace_s: float | None = None) -> None:
        """Refuse starts, stop every run gracefully, and wait until all have ended.

        Runs that wait to start are left for the next process, unless the store is in memory.
        The wait is bounded by the graces and cleanup times, and by the store.

        Args:
            grace_s: at most this grace for each run; None for each run's own.
        """
        self.refuse_starts("the orchestrator is shutting down")
        self._services.engine.close()
        self.stop_all(mode=StopMode.GRACEFUL, grace_s=grace_s, source=StopSource.SHUTDOWN)
        await self._wait_for_all()

    def stop_all(
        self,
        *,
        mode: StopMode,
        grace_s: float | None,
        source: StopSource,
        reason: str | None = None,
        requested_by: str = "",
    ) -> None:
        """Ask every live root to stop. Not a checkpoint; a repeated call only tightens.

        Args:
            grace_s: the most that operations in flight may get; None for each run's own grace.
            reason: why starts are refused, if None.
        """
        for run in self.unfinished if source is StopSource.SHUTDOWN else self.registry:
            if run.parent is None and not run.record.status.is_terminal:
                own_s = run.record.options.grace_s
                run.request_stop(
                    mode=mode,
                    grace_s=own_s if grace_s is None else min(own_s, grace_s),
                    source=source,
                    requested_by=requested_by,
                    reason=self._refusing if reason is None else reason,
                )

    async def _wait_for_all(self) -> None:
        """Wait until every run has ended; give up on a store that takes nothing for long."""
        given_up = inf
        while self.unfinished and trio.current_time() < given_up:
            with trio.move_on_after(1):
                for run in self.unfinished:
                    await run.ended.wait()
            failing = self._services.journal.failing is not None
            given_up = min(given_up, trio.current_time() + FLUSH_S) if failing else inf

    def _may_start(self) -> bool:
        """Whether a start would be taken now, as far as it is not up to the start itself."""
        welcome = not self._refusing and self._halt is None
        return welcome and self._services.journal.failing is None

    def _check_welcome(self) -> None:
        super()._check_welcome()
        if self._halt is not None:
            raise Halted(self._halt.reason)
        # It could not be made durable, and would only fill the memory.
        if (failing := self._services.journal.failing) is not None:
            raise StoreUnavailable(str(failing)) from failing

    async def _load_halt(self) -> None:
        """Read whether the last process was halted."""
        stored = await self.store.document(_COLLECTION, _KEY)
        if stored is not None:
            self._halt = self._shown_halt = _HALT.validate_json(stored)

    def _write(self, write: SaveDocument | DropDocument) -> None:
        show = partial(self._show_halt, self._halt)
        self._services.journal.append([write], show, urgent=True)

    def _show_halt(self, halt: Halt | None) -> None:
        self._shown_halt = halt

"""The engine of a single process: it claims every run itself, as soon as there is a slot.

Whatever changes who may run (a start, an end, a time that has come) is decided in the same step,
and what may run then is claimed in it. So between two steps nothing waits that could run.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.admission import Admission, Key, Place
from orchestrator.engine import QueueFigures
from orchestrator.errors import KeyConflict, QueueFull
from orchestrator.model import RunStatus, StopSource
from orchestrator.store.writes import AppendEvent, SaveRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.events import Event
    from orchestrator.journal import Journal
    from orchestrator.model import RunId, RunRecord
    from orchestrator.observing import Observers
    from orchestrator.registry import Registry
    from orchestrator.run import Run
    from orchestrator.store.protocol import Store
    from orchestrator.store.writes import Write
    from orchestrator.timers import Timer, Timers

# Runs that may wait, unless the orchestrator says otherwise. Each costs about 10 KiB.
MAX_QUEUED = 10_000


class InProcessEngine:
    """The engine of a single process, which claims every run itself.

    Attributes:
        admission: who has a slot, and who waits for one.
    """

    def __init__(
        self,
        store: Store,
        journal: Journal,
        registry: Registry,
        timers: Timers,
        observers: Observers,
        *,
        max_running: int | None = None,
        max_queued: int = MAX_QUEUED,
    ) -> None:
        self.admission = Admission(max_running)
        self._max_queued = max_queued
        self._store = store
        self._journal = journal
        self._registry = registry
        self._timers = timers
        self._observers = observers
        self._open = False
        self._numbers = itertools.count()
        # Runs whose time to start has not come yet.
        self._delayed: dict[RunId, tuple[Place, Timer]] = {}
        self._by_key: dict[Key, dict[RunId, Run]] = {}

    @property
    def figures(self) -> QueueFigures:
        """How busy it is now."""
        oldest = self.admission.oldest
        return QueueFigures(
            running=self.admission.running,
            waiting=self.admission.waiting,
            delayed=len(self._delayed),
            oldest_wait_s=0.0 if oldest is None else trio.current_time() - oldest,
        )

    def find(self, run_id: str) -> Run | None:
        """See ``Engine.find``."""
        return self._registry.get(run_id)

    def waits(self, run: Run) -> bool:
        """See ``Engine.waits``."""
        return run.id in self._delayed or self.admission.is_waiting(run.id)

    # Starts and ends

    def submit(self, run: Run, *more: Write) -> None:
        """See ``Engine.submit``."""
        options, place = run.record.options, self._place(run)
        rivals = self._rivals(place)
        superseded = rivals if options.on_conflict == "stop_previous" else []
        if rivals and options.on_conflict == "reject":
            raise KeyConflict(options.key or "", rivals[0].id, rivals[0].record.status)
        if options.start_after_s > 0 or not self.admission.fits(place):
            self._refuse_if_full(sum(map(self.waits, superseded)))
        for rival in superseded:
            _supersede(rival, run)
        if not options.start_after_s:
            place = place._replace(turn=self.admission.turn(place.owner, place.priority))
        run.enqueue(*more, turn=place.turn)
        self._keep(run, place)
        self._let_wait(run, place)

    def withdraw(self, run: Run) -> None:
        """See ``Engine.withdraw``."""
        if self._stop_waiting(run):
            run.exit()

    def finish(self, run: Run) -> None:
        """See ``Engine.finish``."""
        self._registry.remove(run)
        key = _key_of(run.record)
        if key is not None:
            of_key = self._by_key.get(key, {})
            if of_key.pop(run.id, None) is not None and not of_key:
                del self._by_key[key]
        if self.admission.give_back(run.id):
            self._decide()

    # What a process left over

    async def left_over(self) -> list[RunRecord]:
        """See ``Engine.left_over``."""
        return await self._store.unfinished()

    def restore(self, runs: Sequence[Run]) -> None:
        """See ``Engine.restore``."""
        placed = [(run, self._place(run, waited_s=_waited_s(run))) for run in runs]
        for run, place in placed:
            self._registry.add(run)
            self._keep(run, place)
            if run.record.status is not RunStatus.QUEUED:
                self._claim(run, place)
        # One that has no turn yet was delayed, and goes behind all that were in the queue.
        for run, place in sorted(placed, key=lambda each: (each[1].turn or inf, each[1].since)):
            if run.record.status is RunStatus.QUEUED:
                self._let_wait(run, place, waited_s=_waited_s(run))

    def close_out(self, record: RunRecord, event: Event, *more: Write) -> None:
        """See ``Engine.close_out``."""
        with_it = self._observers.ending(event, record)
        shown = partial(self._observers.shown, event, record)
        writes = [SaveRun(record), AppendEvent(event), *more, *with_it]
        self._journal.append(writes, shown, urgent=True)

    def open(self) -> None:
        """See ``Engine.open``."""
        self._open = True
        self._decide()

    def close(self) -> None:
        """See ``Engine.close``."""
        self._open = False

    def let_go(self) -> None:
        """See ``Engine.let_go``."""
        for run in self._registry:
            if self._stop_waiting(run):
                run.limits.disarm()
                self._registry.remove(run)
                run.ended.set()

    # The queue

    def _place(self, run: Run, *, waited_s: float = 0.0) -> Place:
        record, options = run.record, run.record.options
        overdue_s = waited_s - options.start_after_s
        return Place(
            run_id=record.id,
            agent=run.agent.name,
            agent_limit=run.agent.max_running,
            owner=record.owner,
            priority=options.priority,
            key=_key_of(record),
            exclusive=options.on_conflict != "allow",
            number=next(self._numbers),
            turn=record.turn,
            since=trio.current_time() - max(0.0, overdue_s),
        )

    def _rivals(self, place: Place) -> list[Run]:
        """Return the runs with the same key that have not ended, oldest first."""
        of_key = {} if place.key is None else self._by_key.get(place.key, {})
        return [run for run in of_key.values() if not run.record.status.is_terminal]

    def _refuse_if_full(self, leaving: int) -> None:
        waiting = self.admission.waiting + len(self._delayed) - leaving
        if waiting >= self._max_queued:
            raise QueueFull(self._max_queued)

    def _keep(self, run: Run, place: Place) -> None:
        if place.key is not None:
            self._by_key.setdefault(place.key, {})[run.id] = run

    def _let_wait(self, run: Run, place: Place, *, waited_s: float = 0.0) -> None:
        """Let the run wait for its time if it has to, and else in the queue."""
        run.limits.await_start(waited_s)
        left_s = run.record.options.start_after_s - waited_s
        if place.turn:
            self._queue(run, place)
        elif left_s <= 0:
            self._is_due(run, place)
        else:
            timer = self._timers.timer(partial(self._ring, run))
            timer.set(trio.current_time() + left_s)
            self._delayed[run.id] = place, timer

    def _ring(self, run: Run) -> None:
        place, _ = self._delayed.pop(run.id)
        self._is_due(run, place._replace(since=trio.current_time()))

    def _is_due(self, run: Run, place: Place) -> None:
        turn = self.admission.turn(place.owner, place.priority)
        run.ledger.save(turn=turn)
        self._queue(run, place._replace(turn=turn))

    def _queue(self, run: Run, place: Place) -> None:
        """Let the run wait for a slot, and claim it if there is one: nothing else waits for it."""
        self.admission.wait(place)
        if self._open and self.admission.fits(place):
            self._claim(run, place)

    def _decide(self) -> None:
        """Claim whatever fits now."""
        while self._open and (place := self.admission.first()) is not None:
            run = self._registry.get(place.run_id)
            assert run is not None
            self._claim(run, place)

    def _claim(self, run: Run, place: Place) -> None:
        if not run.limits.stop_if_overdue():
            run.limits.disarm()
            self.admission.take(place)
            run.claim()

    def _stop_waiting(self, run: Run) -> bool:
        delayed = self._delayed.pop(run.id, None)
        if delayed is not None:
            delayed[1].unset()
        return self.admission.withdraw(run.id) or delayed is not None


def _key_of(record: RunRecord) -> Key | None:
    key = record.options.key
    return None if key is None or record.parent_id is not None else (record.owner, key)


def _waited_s(run: Run) -> float:
    """Return for how long the run is on record, by the wall clock, which may have been set."""
    now = datetime.fromisoformat(run.services.now(0))
    return max(0.0, (now - datetime.fromisoformat(run.record.created_at)).total_seconds())


def _supersede(run: Run, by: Run) -> None:
    if run.ladder.stop is None:
        run.request_stop(
            source=StopSource.SUPERSEDED,
            requested_by=by.record.owner,
            reason=f"superseded by run {by.id}",
        )

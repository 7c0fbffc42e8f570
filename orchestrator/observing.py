"""Those who watch every run and take no part in any: metrics, logs, traces, webhooks.

The core tells its observers what has happened, and knows nothing of what they make of it. They
are told in the loop, in the very step in which something becomes durable; so what they do there
must be done at once, and whatever they raise goes no further than the log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from orchestrator.events import Event
    from orchestrator.model import RunId, RunRecord
    from orchestrator.store.writes import Write

_log = logging.getLogger("quiesce.observing")


class Observer:
    """Watches every run. Subclasses override what they need; nothing here is a checkpoint."""

    def shown(self, event: Event, record: RunRecord) -> None:
        """Hear of an event that is durable now.

        Args:
            record: of the event's run, as it is durable with the event.
        """

    def ending(self, event: Event, record: RunRecord) -> Sequence[Write]:
        """Return what is to become durable in one step with a run's last event.

        Args:
            event: the last event, which is decided and not durable yet; it will be ``shown``.
            record: the run as it has ended.
        """
        return ()

    def traceparent(self, record: RunRecord, operation: int | None) -> str:
        """Return where a run stands in a trace, for whatever it calls; empty for nowhere.

        Args:
            operation: the number of the operation that calls; None if it is none.
        """
        return ""

    def committed(self, writes: int, seconds: float) -> None:
        """Hear that the store has made a batch durable: how many writes, and how long it took."""

    def forgotten(self, root_id: RunId) -> None:
        """Hear that a tree was removed for good, with everything that its runs left behind."""


class Observers:
    """All observers of one orchestrator.

    Attributes:
        failures: how often one has raised.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = list(observers)
        self.failures = 0

    def add(self, observer: Observer) -> None:
        """Tell this one too, from now on. Adding the same one again does nothing."""
        if observer not in self._observers:
            self._observers.append(observer)

    def shown(self, event: Event, record: RunRecord) -> None:
        """Tell all of an event that is durable now."""
        for each in self._observers:
            try:
                each.shown(event, record)
            except Exception:
                self._note_failure(each.shown)

    def ending(self, event: Event, record: RunRecord) -> list[Write]:
        """Return what all of them want to be durable together with a run's last event."""
        found: list[Write] = []
        for each in self._observers:
            try:
                found.extend(each.ending(event, record))
            except Exception:
                self._note_failure(each.ending)
        return found

    def traceparent(self, record: RunRecord, operation: int | None) -> str:
        """Return where an observer says that a run stands in a trace, else where it comes from."""
        for each in self._observers:
            try:
                place = each.traceparent(record, operation)
            except Exception:
                self._note_failure(each.traceparent)
            else:
                if place:
                    return place
        return record.traceparent

    def committed(self, writes: int, seconds: float) -> None:
        """Tell all of a batch that the store has taken."""
        for each in self._observers:
            try:
                each.committed(writes, seconds)
            except Exception:
                self._note_failure(each.committed)

    def forgotten(self, root_id: RunId) -> None:
        """Tell all of a tree that was removed."""
        for each in self._observers:
            try:
                each.forgotten(root_id)
            except Exception:
                self._note_failure(each.forgotten)

    def _note_failure(self, told: Callable[..., object]) -> None:
        self.failures += 1
        # At 1, 2, 4, 8, …: one that fails at every event must not fill the log.
        if self.failures.bit_count() == 1:
            _log.exception("observers have failed %d times; the latest: %r", self.failures, told)

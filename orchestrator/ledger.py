"""What has been decided about one run, and what of it is durable.

``record`` is the decision; ``shown`` is what is durable, and so what anybody may see. Record and
event go to the journal in one step, so that no event tells of a record that is not there.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from orchestrator.lifecycle import advance
from orchestrator.model import RunRecord
from orchestrator.store.writes import AppendEvent, DropDocument, SaveRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.events import Event, Payload
    from orchestrator.feed import Feed
    from orchestrator.lifecycle import Move
    from orchestrator.services import Services
    from orchestrator.store.writes import SaveDocument, Write


class Ledger:
    """One run's record and its place in the feed. Nothing here is a checkpoint.

    Attributes:
        ticket: the journal's ticket of the last change.
        start_ticket: that of the first one.
        withdrawn: that of what took back all that went along with the start; 0 if nothing did.
    """

    __slots__ = (
        "_along",
        "_feed",
        "_services",
        "_told",
        "record",
        "shown",
        "start_ticket",
        "ticket",
        "withdrawn",
    )

    def __init__(
        self, services: Services, record: RunRecord, feed: Feed, told: Callable[[], None]
    ) -> None:
        self._services = services
        self._feed = feed
        self._told = told
        self.record = record
        self.shown: RunRecord | None = None
        self.ticket = self.start_ticket = self.withdrawn = 0
        self._along: tuple[Callable[[int], int], ...] = ()

    def begin(self, payload: Payload, *more: Write, **fields: Any) -> None:
        """Write the record for the first time, with these fields, and more that belongs to it."""
        self.record = _changed(self.record, fields)
        writes = [SaveRun(self.record), *more]
        self._append(writes, self._number(payload), self.record, urgent=True)
        self.start_ticket = self.ticket

    def keep_along(self, document: SaveDocument) -> None:
        """Let a document become durable in one transaction with the start, and go with it if that
        is withdrawn. To be called in the step in which the run began."""
        journal, drop = self._services.journal, DropDocument(document.collection, document.key)
        journal.attach(self.start_ticket, [document])
        self.on_withdrawal(lambda ticket: journal.attach(ticket, [drop]))

    def on_withdrawal(self, take_back: Callable[[int], int]) -> None:
        """Say what is to be done if the start is withdrawn, since it was not stored.

        Args:
            take_back: is given the ticket of the stop that withdraws it, to go along with that,
                and returns the ticket with which it is done. Not a checkpoint.
        """
        self._along += (take_back,)

    def settle_start(self) -> None:
        """Note that the start stands: what went along with it stays."""
        self._along = ()

    def withdraw_start(self) -> None:
        """Take back what went along with the start. May be called twice."""
        along, self._along = self._along, ()
        for take_back in along:
            self.withdrawn = take_back(self.ticket)

    def change(self, move: Move, payload: Payload, **fields: Any) -> None:
        """Move to another status, by the table, with the event that says so.

        Raises:
            IllegalTransition: the lifecycle has no such arrow; nothing was changed.
        """
        status = advance(self.record.status, move)
        self.save(status=status, payload=payload, urgent=True, **fields)

    def save(
        self,
        *more: Write,
        payload: Payload | None = None,
        urgent: bool = False,
        **fields: Any,
    ) -> None:
        """Change fields of the record, with an event. Refused, silently, once the run has ended."""
        if self.record.status.is_terminal:
            return
        self._update(fields)
        event = None if payload is None else self._number(payload)
        self._append([SaveRun(self.record), *more], event, self.record, urgent=urgent)

    def tell(self, payload: Payload, *more: Write) -> None:
        """Append an event to the feed. Refused, silently, once the run has ended."""
        if not self.record.status.is_terminal:
            self._append(list(more), self._number(payload), None, urgent=False)

    def close(
        self,
        payload_of: Callable[[RunRecord], Payload],
        stored: Callable[[], None],
        *more: Write,
        **fields: Any,
    ) -> None:
        """Write the last record and the last event; ``stored`` is called when they are durable."""
        self._update(fields)
        event = self._number(payload_of(self.record))

        def shown() -> None:
            self._show(event, self.record)
            stored()

        with_it = self._services.observers.ending(event, self.record)
        writes = [SaveRun(self.record), AppendEvent(event), *more, *with_it]
        self.ticket = self._services.journal.append(writes, shown, urgent=True)

    def _update(self, fields: dict[str, Any]) -> None:
        fields["version"] = self.record.version + 1
        self.record = _changed(self.record, fields)

    def _number(self, payload: Payload) -> Event:
        self._told()
        return self._feed.number(self.record.id, payload, self._services.now(0))

    def _append(
        self, writes: list[Write], event: Event | None, record: RunRecord | None, *, urgent: bool
    ) -> None:
        if event is not None:
            writes.append(AppendEvent(event))
        shown = partial(self._show, event, record)
        self.ticket = self._services.journal.append(writes, shown, urgent=urgent)

    def _show(self, event: Event | None, record: RunRecord | None) -> None:
        if record is not None:
            self.shown = record
        if event is not None:
            self._feed.show(event)
            assert self.shown is not None, "the first event comes with the record"
            self._services.observers.shown(event, self.shown)


def _changed(record: RunRecord, fields: dict[str, Any]) -> RunRecord:
    """Do what ``dataclasses.replace`` does, in a tenth of the time."""
    known = record.__dict__
    assert fields.keys() <= known.keys(), f"no such fields: {list(fields)}"
    new = object.__new__(RunRecord)
    new.__dict__.update(known, **fields)
    return new

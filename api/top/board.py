"""What is known of the runs of a server. Pure: it is told, and asks nobody.

Two layers: what the server said when it was asked, and on top of it what events have said since.
Nothing is ever shown that neither has said.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from api.sse import ending_of
from api.terminal import asked_by
from orchestrator import Progress, Receipt, RunError, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator import Event, RunRecord

# Of runs that have ended so many are kept.
KEPT_ENDED = 500

_STOP = TypeAdapter(Receipt | None)
_ERROR = TypeAdapter(RunError | None)


def rank(status: RunStatus) -> int:
    """Return how final a status is: what comes late and has a lower rank is out of date."""
    return 2 if status.is_terminal else int(status is RunStatus.STOPPING)


@dataclass(slots=True)
class _Entry:
    """One run: what the server told of it, and what events changed since, last at ``touched``."""

    told: RunRecord
    since: dict[str, Any] = field(default_factory=dict)
    touched: int = 0

    @property
    def shown(self) -> RunRecord:
        return replace(self.told, **self.since) if self.since else self.told


class Board:
    """The root runs of a server.

    Attributes:
        version: grows with every change.
        unsaid: ids of runs of which the server must be asked, since events do not say all.
        moment: to be remembered before the server is asked, and handed over with its answer.
    """

    def __init__(self) -> None:
        self.version = 0
        self.unsaid: set[str] = set()
        self.moment = 0
        self._entries: dict[str, _Entry] = {}

    def get(self, run_id: str) -> RunRecord | None:
        """Return a run; None if it is not known."""
        entry = self._entries.get(run_id)
        return None if entry is None else entry.shown

    def put(self, record: RunRecord, moment: int) -> None:
        """Take what the server said of a run, when it was asked at ``moment``."""
        self.version += 1
        entry = self._entries.get(record.id)
        if entry is None:
            self.moment += 1
            self._entries[record.id] = _Entry(record, touched=self.moment)
            return
        change = rank(record.status) - rank(entry.shown.status)
        if change < 0:
            return
        entry.told = record
        # Events that came after it was asked may be newer than the answer.
        if entry.touched <= moment or change > 0:
            entry.since = {}

    def put_all(self, records: Iterable[RunRecord], moment: int) -> None:
        """Take all that the server has: of what it left out nothing is known any more.

        What was heard of after ``moment`` it may have left out since that was too new.
        """
        found = {record.id: record for record in records}
        for run_id, entry in list(self._entries.items()):
            if run_id not in found and entry.touched <= moment:
                self.forget(run_id)
        for record in found.values():
            self.put(record, moment)

    def forget(self, run_id: str) -> None:
        """Take a run away that is not there any more, or is not looked at."""
        self.version += 1
        self._entries.pop(run_id, None)

    def apply(self, event: Event) -> None:
        """Take what has happened."""
        entry = self._entries.get(event.run_id)
        if entry is None:
            if event.type == "run.queued" and event.data["parent_id"] is None:
                self.unsaid.add(event.run_id)
            return
        before = entry.shown
        change = change_of(before, event)
        if rank(change.get("status", before.status)) < rank(before.status):
            return
        if event.type in ("run.stopping", "run.escalated") or ending_of(event) is not None:
            self.unsaid.add(event.run_id)
        self.moment += 1
        self.version += 1
        entry.touched = self.moment
        entry.since |= change

    def shown(
        self, words: str = "", *, live: bool = False, keep: str | None = None
    ) -> list[RunRecord]:
        """Return the runs in which all the words occur, newest first.

        Args:
            live: leave out what has ended.
            keep: the id of a run that is not left out, whatever it is like.
        """
        wanted = words.lower().split()
        runs = [entry.shown for entry in self._entries.values()]
        found = [
            run
            for run in runs
            if run.id == keep
            or (not (live and run.status.is_terminal) and (not wanted or _has(run, wanted)))
        ]
        return sorted(found, key=lambda run: (run.created_at, run.id), reverse=True)

    def prune(self) -> None:
        """Forget the oldest of those that have ended, if there are too many."""
        ended = [run.id for run in self.shown() if run.status.is_terminal]
        for run_id in ended[KEPT_ENDED:]:
            self.forget(run_id)


def change_of(run: RunRecord, event: Event) -> dict[str, Any]:
    """Return what changes in a run by an event of its own: values by the names of its fields."""
    data = event.data
    match event.type:
        case "run.started":
            return {"status": RunStatus.RUNNING, "started_at": run.started_at or event.at}
        case "run.resumed":
            return {"status": RunStatus.RUNNING}
        case "run.pausing" | "run.paused":
            return {"status": RunStatus(event.type.removeprefix("run."))}
        case "run.stopping":
            return {"status": RunStatus.STOPPING, "waiting_for": None}
        case "run.progress":
            return {"progress": Progress(percent=data["percent"], message=data["message"])}
        case "run.deadline":
            return {"deadline_at": data["deadline_at"]}
        case "run.tagged":
            return {"retagged": tuple(data["tags"])}
        case "run.asked" if run.waiting_for is None:
            return {"waiting_for": asked_by(event)}
        case "run.answered" | "run.withdrawn":
            waits = run.waiting_for
            return {"waiting_for": None} if waits and waits.id == data["question_id"] else {}
    status = ending_of(event)
    return {} if status is None else _ended(status, event)


def _ended(status: RunStatus, event: Event) -> dict[str, Any]:
    return {
        "status": status,
        "ended_at": event.at,
        "error": _ERROR.validate_python(event.data["error"]),
        "stop": _STOP.validate_python(event.data["receipt"]),
        "waiting_for": None,
    }


def _has(run: RunRecord, wanted: list[str]) -> bool:
    asks = run.waiting_for.question if run.waiting_for is not None else ""
    said = [run.id, run.agent, run.owner, run.status, *run.tags, run.progress.message, asks]
    text = " ".join(said).lower()
    return all(word in text for word in wanted)

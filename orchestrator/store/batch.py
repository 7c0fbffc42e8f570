"""A batch of writes as few SQL statements.

Whenever a statement runs, its thread gives the interpreter to the event loop, which may be slow
to give it back; so there is one statement for a hundred rows, and not one for each.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, assert_never

from orchestrator.model import RunStatus
from orchestrator.store.codec import encode, event_row, run_row
from orchestrator.store.protocol import (
    AppendEvent,
    Discard,
    DropData,
    DropDocument,
    SaveArtifact,
    SaveData,
    SaveDocument,
    SavePartial,
    SaveRun,
    SaveStep,
    SaveTags,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import apsw

    from orchestrator.model import RunId, RunRecord
    from orchestrator.store.codec import Row
    from orchestrator.store.protocol import Write

_ROWS = 100

# The owner, the namespace and the key of an entry of data.
_Entry = tuple[str, str, str]

_TERMINAL = ", ".join(f"'{status}'" for status in RunStatus if status.is_terminal)


@dataclass(frozen=True, slots=True)
class _Statement:
    """``<before> VALUES <row>, <row>, … <after>``."""

    before: str
    row: str
    after: str = ""

    def execute(self, db: apsw.Connection, rows: Sequence[Row]) -> None:
        for first in range(0, len(rows), _ROWS):
            some = rows[first : first + _ROWS]
            values = ", ".join([self.row] * len(some))
            db.execute(
                f"{self.before} VALUES {values} {self.after}",
                tuple(chain.from_iterable(some)),
            )


_RUNS = _Statement(
    "INSERT INTO runs(id, root_id, parent_id, agent, owner, created_at, status, version, options,"
    " state, result)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "ON CONFLICT(id) DO UPDATE SET status = excluded.status, version = excluded.version,"
    " state = excluded.state, result = excluded.result"
    f" WHERE runs.status NOT IN ({_TERMINAL})",
)
_INPUTS = _Statement(
    "INSERT INTO inputs(number, input)", "((SELECT number FROM runs WHERE id = ?), ?)"
)
_TAGS = _Statement(
    "INSERT INTO run_tags(number, tag)",
    "((SELECT number FROM runs WHERE id = ?), ?)",
    "ON CONFLICT DO NOTHING",
)
_EVENTS = _Statement(
    "INSERT INTO events(root_id, seq, run_id, type, at, data)", "(?, ?, ?, ?, ?, ?)"
)
_PARTIALS = _Statement(
    "INSERT INTO partials(run_id, value)",
    "(?, ?)",
    "ON CONFLICT(run_id) DO UPDATE SET value = excluded.value",
)
_STEPS = _Statement("INSERT INTO steps(root_id, path, name, value)", "(?, ?, ?, ?)")
_DATA = _Statement(
    "INSERT INTO data(owner, namespace, key, run_id, value)",
    "(?, ?, ?, ?, ?)",
    "ON CONFLICT(owner, namespace, key)"
    " DO UPDATE SET run_id = excluded.run_id, value = excluded.value",
)
_DOCUMENTS = _Statement(
    "INSERT INTO documents(collection, key, value)",
    "(?, ?, ?)",
    "ON CONFLICT(collection, key) DO UPDATE SET value = excluded.value",
)
_DROPPED_DOCUMENTS = _Statement("DELETE FROM documents WHERE (collection, key) IN (", "(?, ?)", ")")
_DROPPED_DATA = _Statement("DELETE FROM data WHERE (owner, namespace, key) IN (", "(?, ?, ?)", ")")

_KNOWN = "SELECT id FROM runs WHERE id IN (SELECT value FROM json_each(?))"
_DISCARD = """
DELETE FROM partials WHERE run_id IN (SELECT value FROM json_each(:ids));
DELETE FROM artifacts WHERE run_id IN (SELECT value FROM json_each(:ids));
DELETE FROM steps WHERE root_id IN (SELECT value FROM json_each(:ids));
DELETE FROM data WHERE run_id IN (SELECT value FROM json_each(:ids));
"""
_DROP_TAGS = """
DELETE FROM run_tags
WHERE tag IN (SELECT value FROM json_each(?)) AND number = (SELECT number FROM runs WHERE id = ?)
"""
_DROP_ARTIFACT = "DELETE FROM artifacts WHERE run_id = ? AND name = ?"
_ADD_CHUNK = """
INSERT INTO artifacts(run_id, name, chunk, media_type, data)
SELECT ?1, ?2, COALESCE(MAX(chunk) + 1, 0), ?3, ?4 FROM artifacts WHERE run_id = ?1 AND name = ?2
"""


@dataclass(slots=True)
class Rows:
    """What a batch comes to, by kind and encoded; of each run and entry only its last state.

    Order matters within a kind, and between a discard and what came before it, which it takes
    with it; so all discards may go first.
    """

    runs: dict[RunId, RunRecord] = field(default_factory=dict)
    tags: list[SaveTags] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    discarded: list[RunId] = field(default_factory=list)
    partials: dict[RunId, bytes] = field(default_factory=dict)
    artifacts: list[SaveArtifact] = field(default_factory=list)
    steps: list[SaveStep] = field(default_factory=list)
    data: dict[_Entry, SaveData | DropData] = field(default_factory=dict)
    documents: dict[tuple[str, str], SaveDocument | DropDocument] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Iterable[Write]) -> Rows:
        """Sort a batch. Touches no database, so that a write that cannot be encoded costs none.

        Raises:
            ValueError: a value in it is not JSON.
        """
        rows = cls()
        for write in batch:
            # Events are many, so their case is the first, and has no positional pattern: slow.
            match write:
                case AppendEvent():
                    rows.events.append(event_row(write.event))
                case SaveRun():
                    rows._save(write.record)
                case SaveTags():
                    rows.tags.append(write)
                case SavePartial():
                    rows.partials[write.run_id] = write.value
                case SaveArtifact():
                    rows.artifacts.append(write)
                case SaveStep():
                    rows.steps.append(write)
                case SaveData() | DropData():
                    rows.data[write.owner, write.namespace, write.key] = write
                case SaveDocument() | DropDocument():
                    rows.documents[write.collection, write.key] = write
                case Discard():
                    rows._discard(write.run_id)
                case _:
                    assert_never(write)
        return rows

    def _save(self, run: RunRecord) -> None:
        earlier = self.runs.get(run.id)
        if earlier is None or not earlier.status.is_terminal:
            self.runs[run.id] = run

    def _discard(self, run_id: RunId) -> None:
        self.discarded.append(run_id)
        self.partials.pop(run_id, None)
        self.artifacts = [kept for kept in self.artifacts if kept.run_id != run_id]
        self.steps = [kept for kept in self.steps if kept.root_id != run_id]
        for entry, write in self.data.items():
            if isinstance(write, SaveData) and write.run_id == run_id:
                # It may have replaced the stored entry of another run, which is gone then too.
                self.data[entry] = DropData(*entry)

    def insert(self, db: apsw.Connection) -> None:
        """Execute the statements, within a transaction of the caller's."""
        if self.runs:
            self._insert_runs(db)
        for change in self.tags:
            _change_tags(db, change)
        _EVENTS.execute(db, self.events)
        if self.discarded:
            db.execute(_DISCARD, {"ids": encode(self.discarded)})
        _PARTIALS.execute(db, list(self.partials.items()))
        for artifact in self.artifacts:
            _insert_artifact(db, artifact)
        _STEPS.execute(
            db, [(step.root_id, step.path, step.name, step.value) for step in self.steps]
        )
        self._change_data(db)
        self._change_documents(db)

    def _change_data(self, db: apsw.Connection) -> None:
        saved = [(e, write) for e, write in self.data.items() if isinstance(write, SaveData)]
        _DATA.execute(db, [(*entry, write.run_id, write.value) for entry, write in saved])
        _DROPPED_DATA.execute(
            db, [entry for entry, write in self.data.items() if isinstance(write, DropData)]
        )

    def _change_documents(self, db: apsw.Connection) -> None:
        saved = [
            (*name, write.value)
            for name, write in self.documents.items()
            if isinstance(write, SaveDocument)
        ]
        _DOCUMENTS.execute(db, saved)
        _DROPPED_DOCUMENTS.execute(
            db, [n for n, write in self.documents.items() if isinstance(write, DropDocument)]
        )

    def _insert_runs(self, db: apsw.Connection) -> None:
        known = set(chain.from_iterable(db.execute(_KNOWN, (encode(list(self.runs)),))))
        new = [run for run in self.runs.values() if run.id not in known]
        _RUNS.execute(db, [run_row(run) for run in self.runs.values()])
        _INPUTS.execute(db, [(run.id, encode(run.input)) for run in new])
        _TAGS.execute(db, [(run.id, tag) for run in new for tag in run.tags])


def _change_tags(db: apsw.Connection, change: SaveTags) -> None:
    gone = encode([tag for tag in change.before if tag not in change.after])
    db.execute(_DROP_TAGS, (gone, change.run_id))
    _TAGS.execute(db, [(change.run_id, tag) for tag in change.after])


def _insert_artifact(db: apsw.Connection, write: SaveArtifact) -> None:
    if not write.append:
        db.execute(_DROP_ARTIFACT, (write.run_id, write.name))
    db.execute(_ADD_CHUNK, (write.run_id, write.name, write.media_type, write.data))

"""A batch of writes as few SQL statements, each for as many rows as there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, assert_never

from orchestrator.model import RunStatus
from orchestrator.store.artifacts import Piece, keep_artifact
from orchestrator.store.codec import encode, event_row, lifetime, run_row
from orchestrator.store.database import Statement
from orchestrator.store.writes import (
    AppendEvent,
    Discard,
    DropData,
    DropDocument,
    Forget,
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

    from orchestrator.model import RunId, RunRecord
    from orchestrator.store.artifacts import Place
    from orchestrator.store.codec import Row
    from orchestrator.store.database import Database
    from orchestrator.store.writes import Write

# The owner, the namespace and the key of an entry of data.
_Entry = tuple[str, str, str]

_TERMINAL = ", ".join(f"'{status}'" for status in RunStatus if status.is_terminal)


_RUNS = Statement(
    "INSERT INTO runs(id, root_id, parent_id, agent, owner, created_at, status, version, options,"
    " state, result, ended_s, expires_s, input)",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "ON CONFLICT(id) DO UPDATE SET status = excluded.status, version = excluded.version,"
    " state = excluded.state, result = excluded.result,"
    " ended_s = excluded.ended_s, expires_s = excluded.expires_s"
    f" WHERE runs.status NOT IN ({_TERMINAL})",
)
_INPUTS = Statement(
    "INSERT INTO inputs(number, input)",
    "((SELECT number FROM runs WHERE id = ?), ?)",
    "ON CONFLICT DO NOTHING",
)
_TAGS = Statement(
    "INSERT INTO run_tags(number, tag)",
    "((SELECT number FROM runs WHERE id = ?), ?)",
    "ON CONFLICT DO NOTHING",
)
_EVENTS = Statement(
    "INSERT INTO events(root_id, seq, run_id, type, at, data)", "(?, ?, ?, ?, ?, ?)"
)
_PARTIALS = Statement(
    "INSERT INTO partials(run_id, value)",
    "(?, ?)",
    "ON CONFLICT(run_id) DO UPDATE SET value = excluded.value",
)
_STEPS = Statement("INSERT INTO steps(root_id, path, name, value)", "(?, ?, ?, ?)")
_DATA = Statement(
    "INSERT INTO data(owner, namespace, key, run_id, value)",
    "(?, ?, ?, ?, ?)",
    "ON CONFLICT(owner, namespace, key)"
    " DO UPDATE SET run_id = excluded.run_id, value = excluded.value",
)
_DOCUMENTS = Statement(
    "INSERT INTO documents(collection, key, value)",
    "(?, ?, ?)",
    "ON CONFLICT(collection, key) DO UPDATE SET value = excluded.value",
)
_DROPPED_DOCUMENTS = Statement("DELETE FROM documents WHERE (collection, key) IN (", "(?, ?)", ")")
_DROPPED_DATA = Statement("DELETE FROM data WHERE (owner, namespace, key) IN (", "(?, ?, ?)", ")")

# Characters of JSON up to which an input is in its run's row, which every change writes anew.
SHORT_INPUT = 500
# Events that a ``Forget`` removes: so many take a few hundredths of a second.
FORGOTTEN_AT_ONCE = 10_000

_TREE = "SELECT id, status FROM runs WHERE root_id = ?"
_DROP_RUNS = (
    "DELETE FROM inputs WHERE number IN (SELECT number FROM runs WHERE root_id = ?)",
    "DELETE FROM run_tags WHERE number IN (SELECT number FROM runs WHERE root_id = ?)",
    "DELETE FROM runs WHERE root_id = ?",
)
_DROP_EVENTS = """
DELETE FROM events
WHERE root_id = ? AND seq < (SELECT MIN(seq) FROM events WHERE root_id = ?) + ?
"""
_SOME_EVENT = "SELECT seq FROM events WHERE root_id = ? LIMIT 1"
_REMAIN = "INSERT INTO forgotten(root_id) VALUES (?) ON CONFLICT DO NOTHING"
_REMAIN_NO_MORE = "DELETE FROM forgotten WHERE root_id = ?"
_KNOWN = "SELECT id FROM runs WHERE id {among}"
_DISCARDS = (
    "DELETE FROM partials WHERE run_id {among}",
    "DELETE FROM artifacts WHERE run_id {among}",
    "DELETE FROM chunks WHERE run_id {among}",
    "DELETE FROM steps WHERE root_id {among}",
    "DELETE FROM data WHERE run_id {among}",
)
_DROPPED_TAGS = """
DELETE FROM run_tags
WHERE tag {among} AND number = (SELECT number FROM runs WHERE id = ?)
"""
_FILES = "SELECT file FROM artifacts WHERE run_id {among} AND file IS NOT NULL"


@dataclass(slots=True)
class Rows:
    """What a batch comes to, by kind and encoded; of each run and entry only its last state.

    Order matters within a kind, and between a discard and what came before it, which it takes
    with it; so all discards may go first.
    """

    runs: dict[RunId, RunRecord] = field(default_factory=dict)
    # Those that begin in this batch.
    begun: set[RunId] = field(default_factory=set)
    tags: list[SaveTags] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    discarded: list[RunId] = field(default_factory=list)
    partials: dict[RunId, bytes] = field(default_factory=dict)
    artifacts: dict[Place, Piece] = field(default_factory=dict)
    steps: list[SaveStep] = field(default_factory=list)
    data: dict[_Entry, SaveData | DropData] = field(default_factory=dict)
    documents: dict[tuple[str, str], SaveDocument | DropDocument] = field(default_factory=dict)
    # A tree is over when it is forgotten, so nothing of it comes afterwards.
    forgotten: list[RunId] = field(default_factory=list)

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
                    rows._add_to_artifact(write)
                case SaveStep():
                    rows.steps.append(write)
                case SaveData() | DropData():
                    rows.data[write.owner, write.namespace, write.key] = write
                case SaveDocument() | DropDocument():
                    rows.documents[write.collection, write.key] = write
                case Discard():
                    rows._discard(write.run_id)
                case Forget():
                    rows.forgotten.append(write.root_id)
                case _:
                    assert_never(write)
        return rows

    def _add_to_artifact(self, write: SaveArtifact) -> None:
        place = (write.run_id, write.name)
        if not write.append or place not in self.artifacts:
            self.artifacts[place] = Piece(write.media_type, not write.append)
        self.artifacts[place].data.append(write.data)

    def _save(self, run: RunRecord) -> None:
        if run.version == 1:
            self.begun.add(run.id)
        earlier = self.runs.get(run.id)
        if earlier is None or not earlier.status.is_terminal:
            self.runs[run.id] = run

    def _discard(self, run_id: RunId) -> None:
        self.discarded.append(run_id)
        self.partials.pop(run_id, None)
        self.artifacts = {at: kept for at, kept in self.artifacts.items() if at[0] != run_id}
        self.steps = [kept for kept in self.steps if kept.root_id != run_id]
        for entry, write in self.data.items():
            if isinstance(write, SaveData) and write.run_id == run_id:
                # It may have replaced the stored entry of another run, which is gone then too.
                self.data[entry] = DropData(*entry)

    def insert(self, db: Database) -> None:
        """Execute the statements."""
        if self.runs:
            self._insert_runs(db)
        for change in self.tags:
            _change_tags(db, change)
        db.execute_rows(_EVENTS, self.events)
        if self.discarded:
            _discard(db, self.discarded)
        if self.partials:
            db.execute_rows(_PARTIALS, list(self.partials.items()))
        for place, piece in self.artifacts.items():
            keep_artifact(db, place, piece)
        if self.steps:
            steps = [(step.root_id, step.path, step.name, step.value) for step in self.steps]
            db.execute_rows(_STEPS, steps)
        if self.data:
            self._change_data(db)
        if self.documents:
            self._change_documents(db)
        for root_id in self.forgotten:
            _forget(db, root_id)

    def _change_data(self, db: Database) -> None:
        saved = [(e, write) for e, write in self.data.items() if isinstance(write, SaveData)]
        db.execute_rows(_DATA, [(*entry, write.run_id, write.value) for entry, write in saved])
        db.execute_rows(
            _DROPPED_DATA,
            [entry for entry, write in self.data.items() if isinstance(write, DropData)],
        )

    def _change_documents(self, db: Database) -> None:
        saved = [
            (*name, write.value)
            for name, write in self.documents.items()
            if isinstance(write, SaveDocument)
        ]
        db.execute_rows(_DOCUMENTS, saved)
        db.execute_rows(
            _DROPPED_DOCUMENTS,
            [n for n, write in self.documents.items() if isinstance(write, DropDocument)],
        )

    def _insert_runs(self, db: Database) -> None:
        asked = [run_id for run_id in self.runs if run_id not in self.begun]
        found = db.execute(_KNOWN.format(among=db.among), encode(list(asked))) if asked else ()
        known = set(chain.from_iterable(found))
        new = [run for run in self.runs.values() if run.id not in known]
        inputs = {run.id: encode(run.input) for run in new}
        short = {run_id: text for run_id, text in inputs.items() if len(text) <= SHORT_INPUT}
        rows = [(*run_row(run), *lifetime(run), short.get(run.id)) for run in self.runs.values()]
        db.execute_rows(_RUNS, rows)
        db.execute_rows(_INPUTS, [each for each in inputs.items() if each[0] not in short])
        db.execute_rows(_TAGS, [(run.id, tag) for run in new for tag in run.tags])


def _change_tags(db: Database, change: SaveTags) -> None:
    gone = encode([tag for tag in change.before if tag not in change.after])
    db.execute(_DROPPED_TAGS.format(among=db.among), gone, change.run_id)
    db.execute_rows(_TAGS, [(change.run_id, tag) for tag in change.after])


def _discard(db: Database, run_ids: Sequence[str]) -> None:
    if db.files is not None:
        for (name,) in list(db.execute(_FILES.format(among=db.among), encode(list(run_ids)))):
            db.files.drop(name)
    for discard in _DISCARDS:
        db.execute(discard.format(among=db.among), encode(list(run_ids)))


def _forget(db: Database, root_id: RunId) -> None:
    tree = list(db.execute(_TREE, root_id))
    if not all(RunStatus(status).is_terminal for _, status in tree):
        return
    if tree:
        _discard(db, [run_id for run_id, _ in tree])
        for drop in _DROP_RUNS:
            db.execute(drop, root_id)
    db.execute(_DROP_EVENTS, root_id, root_id, FORGOTTEN_AT_ONCE)
    remains = any(True for _ in db.execute(_SOME_EVENT, root_id))
    db.execute(_REMAIN if remains else _REMAIN_NO_MORE, root_id)

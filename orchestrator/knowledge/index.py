"""The index of texts: SQLite's FTS5, in a private file that goes with its connection."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import apsw

from orchestrator.knowledge.chunks import chunks_of

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_WORDS = 50

_TABLES = """
CREATE TABLE runs(
    id TEXT PRIMARY KEY,
    root_id TEXT NOT NULL,
    owner TEXT NOT NULL,
    size INTEGER NOT NULL                      -- bytes of its artifact that are taken in
) WITHOUT ROWID;
CREATE INDEX runs_root ON runs(root_id);
CREATE TABLE passages(
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    source TEXT NOT NULL,
    title TEXT NOT NULL,
    page INTEGER,
    "start" INTEGER NOT NULL,
    "end" INTEGER NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX passages_run ON passages(run_id);
CREATE VIRTUAL TABLE words USING fts5(
    title, text, content = passages, content_rowid = id,
    tokenize = 'porter unicode61 remove_diacritics 2'
);
CREATE TRIGGER passage_added AFTER INSERT ON passages BEGIN
    INSERT INTO words(rowid, title, text) VALUES (new.id, new.title, new.text);
END;
CREATE TRIGGER passage_removed AFTER DELETE ON passages BEGIN
    INSERT INTO words(words, rowid, title, text) VALUES ('delete', old.id, old.title, old.text);
END;
"""
# Many rows in one statement: whenever one runs, its thread gives the interpreter to the event loop,
# which may be slow to give it back.
_ADD = """
INSERT INTO passages(run_id, source, title, page, "start", "end", text)
SELECT ?, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
FROM json_each(?)
"""
_ROWS = 500
_COLUMNS = 'p.run_id, p.source, p.title, p.page, p."start", p."end"'
# A title counts for more than the text below it.
_FIND = f"""
SELECT {_COLUMNS}, p.text, snippet(words, 1, '', '', '…', 48)
FROM words JOIN passages AS p ON p.id = words.rowid JOIN runs AS r ON r.id = p.run_id
WHERE words MATCH ? AND r.owner IS COALESCE(?, r.owner)
ORDER BY bm25(words, 4.0, 1.0), p.id DESC
"""
_BEGINNINGS = f"""
SELECT {_COLUMNS}, p.text, substr(p.text, 1, 300)
FROM passages AS p JOIN runs AS r ON r.id = p.run_id
WHERE p."start" = (SELECT MIN("start") FROM passages AS first
                   WHERE first.run_id = p.run_id AND first.source = p.source)
  AND r.owner IS COALESCE(?, r.owner)
ORDER BY p.id DESC
"""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Passage:
    """Something that was found.

    Attributes:
        run_id: of the run that has brought it.
        source: the address of a page, or the name of a file.
        start, end: where it stands in the text of its source, in characters.
        page: 1 for the first; None if the source has no pages.
        text: what of it fits the words best.
    """

    run_id: str
    source: str
    title: str
    page: int | None
    start: int
    end: int
    text: str


class Index:
    """The texts of runs. Its methods block: call them in a thread, one at a time."""

    def __init__(self) -> None:
        # The empty name is a file of this connection's own, which nobody else sees.
        self._db = apsw.Connection("")
        self._db.execute(_TABLES)

    def put(self, run_id: str, root_id: str, owner: str, data: bytes) -> None:
        """Take in what has come to a run's JSON lines since the last time.

        Args:
            data: all of them. If they have become fewer they were replaced.
        """
        with self._transaction():
            found = self._db.execute("SELECT size FROM runs WHERE id = ?", (run_id,)).get
            size = found or 0
            if len(data) < size:
                self._remove(run_id)
                size = 0
            rows = _rows(data[size:])
            while some := list(islice(rows, _ROWS)):
                self._db.execute(_ADD, (run_id, json.dumps(some)))
            row = (run_id, root_id, owner, len(data))
            self._db.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", row)

    def drop(self, run_id: str) -> None:
        """Forget a run, if it is there."""
        with self._transaction():
            self._remove(run_id)

    def drop_tree(self, root_id: str) -> None:
        """Forget the runs of a tree."""
        with self._transaction():
            members = self._db.execute("SELECT id FROM runs WHERE root_id = ?", (root_id,))
            for (run_id,) in members.fetchall():
                self._remove(str(run_id))

    def find(self, words: str, *, owner: str | None, skip: int, limit: int) -> list[Passage]:
        """Return passages with all of these words, the best first.

        What several runs have found alike is there once, as the latest has found it.

        Args:
            words: at most ``MAX_WORDS`` of them count. Without any, the beginning of each source
                is returned, the latest first.
            owner: of the runs; None for everybody.
        """
        asked = _WORD.findall(words)[:MAX_WORDS]
        if asked:
            # In quotation marks nothing is an operator.
            match = " ".join(f'"{word}"' for word in asked)
            rows = self._db.execute(_FIND, (match, owner))
        elif words.strip():
            return []
        else:
            rows = self._db.execute(_BEGINNINGS, (owner,))
        found: dict[tuple[Any, ...], Passage] = {}
        row: tuple[Any, ...]
        for row in rows:
            *about, text, shown = row
            found.setdefault((about[1], about[4], text), Passage(*(*about, shown)))
            if len(found) == skip + limit:
                break
        return list(found.values())[skip:]

    def close(self) -> None:
        """Remove the file. May be called twice."""
        self._db.close()

    def _remove(self, run_id: str) -> None:
        self._db.execute("DELETE FROM passages WHERE run_id = ?", (run_id,))
        self._db.execute("DELETE FROM runs WHERE id = ?", (run_id,))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._db:
            yield


def _rows(lines: bytes) -> Iterator[tuple[Any, ...]]:
    """Yield the passages that some lines of an artifact hold.

    A line is a chunk of a document, or a whole page of a website.
    """
    for line in lines.splitlines():
        said = json.loads(line)
        source = said.get("source") or said["url"]
        title = said["title"] or source
        at, text = said.get("start", 0), said["text"]
        for start, end in chunks_of(text):
            place = (at + start, at + end)
            yield source, title, said.get("page"), *place, text[start:end]

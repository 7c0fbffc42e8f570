"""Whether what a store holds agrees with itself; in SQL that every database here takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.model import RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from orchestrator.store.codec import Row

_LIVE = ", ".join(f"'{status}'" for status in RunStatus if not status.is_terminal)

# Each finds what must not be, and says it of the columns.
_FAULTS = {
    "the feed of {} has {} events, from number {} to {}": """
        SELECT root_id, COUNT(*), MIN(seq), MAX(seq) FROM events
        WHERE root_id NOT IN (SELECT root_id FROM forgotten)
        GROUP BY root_id HAVING MIN(seq) <> 1 OR MAX(seq) <> COUNT(*) ORDER BY root_id
    """,
    "events of {}, which is no run": """
        SELECT DISTINCT root_id FROM events WHERE root_id NOT IN (SELECT root_id FROM forgotten)
        AND root_id NOT IN (SELECT id FROM runs) ORDER BY root_id
    """,
    "run {} is {}, though its root {} has ended": f"""
        SELECT r.id, r.status, r.root_id FROM runs AS r JOIN runs AS top ON top.id = r.root_id
        WHERE r.status IN ({_LIVE}) AND top.status NOT IN ({_LIVE}) ORDER BY r.number
    """,
    "run {} belongs to the tree of {}, which is no run": """
        SELECT id, root_id FROM runs WHERE root_id NOT IN (SELECT id FROM runs) ORDER BY number
    """,
    "run {} has no input": """
        SELECT id FROM runs WHERE input IS NULL AND number NOT IN (SELECT number FROM inputs)
        ORDER BY number
    """,
    "artifact {1} of run {0} has {3} bytes instead of {2}": """
        SELECT a.run_id, a.name, a.size, COALESCE(SUM(LENGTH(c.data)), 0) FROM artifacts AS a
        LEFT JOIN chunks AS c ON c.run_id = a.run_id AND c.name = a.name
        WHERE a.file IS NULL GROUP BY a.run_id, a.name, a.size
        HAVING COALESCE(SUM(LENGTH(c.data)), 0) <> a.size ORDER BY a.run_id, a.name
    """,
}
_UNFINISHED = f"SELECT COUNT(*) FROM runs WHERE status IN ({_LIVE})"


def faults(execute: Callable[[str], Iterable[Row]]) -> Iterator[str]:
    """Yield in words whatever of the tables contradicts the rest.

    Args:
        execute: runs SQL within one transaction that only reads.
    """
    for words, sql in _FAULTS.items():
        for row in execute(sql):
            yield words.format(*row)


def unfinished(execute: Callable[[str], Iterable[Row]]) -> int:
    """Return how many runs have not ended."""
    ((count,),) = execute(_UNFINISHED)
    return int(count)

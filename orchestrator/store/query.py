"""A page of runs as SQL whose cost does not grow with the pages before it.

The condition that probably leaves the fewest runs picks the index, and the page is read along
it, newest first, from the cursor on. A database would rather sort than do that as soon as it has
several conditions to choose from, or several statuses to accept; so the other conditions are
written such that no index fits them (``column || ''``), and several statuses are several selects,
each in order, which are merged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import InvalidInput, check_text

if TYPE_CHECKING:
    from orchestrator.store.protocol import RunFilter

# In the order in which ``codec.read_run`` takes them.
_SMALL = "number, id, root_id, parent_id, agent, owner, created_at, status, version, options, state"
_LARGE = "result, COALESCE(input, (SELECT i.input FROM inputs AS i WHERE i.number = runs.number))"
RUN_COLUMNS = f"{_SMALL}, {_LARGE}"
_BRIEF_COLUMNS = f"{_SMALL}, 'null', 'null'"

_BEYOND_ALL = 2**63 - 1
_NEWEST = " ORDER BY number DESC LIMIT ?"

# A column, and the values of which a run must have one.
_Condition = tuple[str, tuple[str, ...]]


def read_cursor(after: str) -> int:
    """Return the number in a cursor; the page after it holds smaller numbers only.

    Raises:
        InvalidInput: it is not a cursor of ours.
    """
    check_text("after", after)
    if not (after.isascii() and after.isdigit() and len(after) < len(str(_BEYOND_ALL))):
        raise InvalidInput(
            [("after", f"{after!r} is not a cursor; pass the `next` of the page before")]
        )
    return int(after)


def page_query(
    where: RunFilter, after: str | None, limit: int, *, merges: bool, brief: bool = False
) -> tuple[str, list[str | int]]:
    """Return the SQL for up to ``limit`` runs after the cursor, and the values to bind.

    Args:
        merges: several selects, each in order, are merged in that order by themselves; else each
            is limited on its own, so that what is then sorted is never much.
        brief: leave out what may be large.

    Raises:
        InvalidInput: ``after`` is not a cursor of ours.
    """
    conditions = _conditions(where)
    column, values = conditions[0] if conditions else ("", ())
    source = "run_tags JOIN runs USING (number)" if column == "tag" else "runs"
    rest = "".join(map(_unindexed, conditions[1:]))
    columns = _BRIEF_COLUMNS if brief else RUN_COLUMNS
    select = f"SELECT {columns} FROM {source} WHERE number < ?{rest}"
    bound: list[str | int] = [_BEYOND_ALL if after is None else read_cursor(after)]
    bound += [value for _, accepted in conditions[1:] for value in accepted]
    if conditions:
        select = f"{select} AND {column} = ?"
        limits = []
        if len(values) > 1 and not merges:
            select, limits = f"({select}{_NEWEST})", [limit]
        select = " UNION ALL ".join([select] * len(values))
        bound = [item for value in values for item in (*bound, value, *limits)]
    return select + _NEWEST, [*bound, limit]


def _conditions(where: RunFilter) -> list[_Condition]:
    """Return what the filter asks for, the most selective first.

    Few runs are live at any time; most have ended, and most are roots.
    """
    live = where.statuses is not None and not any(each.is_terminal for each in where.statuses)
    # To accept no status at all is to ask for the status that no run has.
    statuses = None if where.statuses is None else tuple(dict.fromkeys(where.statuses)) or ("",)
    wanted: tuple[tuple[str, tuple[str, ...] | None], ...] = (
        ("root_id", _one(where.root)),
        ("parent_id", _one(where.parent or None)),
        ("status", statuses if live else None),
        ("tag", _one(where.tag)),
        ("owner", _one(where.owner)),
        ("agent", _one(where.agent)),
        ("status", None if live else statuses),
        ("parent_id", ("",) if where.parent == "" else None),
    )
    return [(column, values) for column, values in wanted if values is not None]


def _one(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else (value,)


def _unindexed(condition: _Condition) -> str:
    column, values = condition
    if column == "tag":
        return (
            " AND EXISTS (SELECT 1 FROM run_tags AS t WHERE t.tag = ? AND t.number = runs.number)"
        )
    return f" AND ({column} || '') IN ({', '.join('?' * len(values))})"

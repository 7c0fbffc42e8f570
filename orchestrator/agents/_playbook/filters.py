"""The filters of expressions: Jinja2's, whose time and size follow from what they are given.

Those that could make much of little by their arguments take these only within bounds: ten to the
power of a billion would hold up the event loop, and every stop with it, for hours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jinja2 import pass_environment, pass_eval_context
from jinja2.filters import FILTERS as OF_JINJA
from jinja2.filters import do_round, do_tojson, make_attrgetter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jinja2 import Environment
    from jinja2.nodes import EvalContext

NAMES = (
    "abs", "capitalize", "count", "d", "default", "first", "float", "int", "items", "join", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round",
    "select", "selectattr", "sort", "string", "sum", "tojson", "trim", "unique", "upper",
    "urlencode",
)  # fmt: skip

# A number has no more places before or behind its point.
PLACES = 308
INDENT = 16
SEPARATOR = 1_000


def _round(value: float, precision: int = 0, method: Any = "common") -> float:
    if abs(precision) > PLACES:
        raise ValueError(f"round takes at most {PLACES} places")
    return do_round(value, precision, method)


@pass_eval_context
def _tojson(context: EvalContext, value: Any, indent: int | None = None) -> str:
    if indent is not None and not 0 <= indent <= INDENT:
        raise ValueError(f"tojson takes an indent from 0 to {INDENT}")
    return str(do_tojson(context, value, indent))


@pass_eval_context
def _join(
    context: EvalContext, value: Iterable[Any], d: Any = "", attribute: str | int | None = None
) -> str:
    if len(str(d)) > SEPARATOR:
        raise ValueError(f"join takes at most {SEPARATOR} characters between two")
    return str(OF_JINJA["join"](context, value, d, attribute))


@pass_environment
def _sum(
    environment: Environment,
    iterable: Iterable[Any],
    attribute: str | int | None = None,
    start: Any = 0,
) -> Any:
    if attribute is not None:
        iterable = map(make_attrgetter(environment, attribute), iterable)
    return _put_together(start, iterable) if isinstance(start, list) else sum(iterable, start)


def _put_together(start: list[Any], lists: Iterable[Any]) -> list[Any]:
    """Return all of the lists as one, without copying what there is for each that comes."""
    found = list(start)
    for each in lists:
        if not isinstance(each, list):
            raise TypeError("sum takes lists only if it starts with one")
        found += each
    return found


FILTERS: dict[str, Callable[..., Any]] = {name: OF_JINJA[name] for name in NAMES}
FILTERS |= {"join": _join, "round": _round, "sum": _sum, "tojson": _tojson}

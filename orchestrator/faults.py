"""What is wrong with a value that comes from outside, in words for who has sent it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeGuard, TypeVar

from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pydantic

_Item = TypeVar("_Item")

# So many characters of a value that does not fit are shown.
SAID = 100
_OBJECT = "must be an object of named values"
_LIST = "must be a list"
# In place of what pydantic says in Python's words, by its type of error.
_WORDS: Mapping[str, str] = {
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dataclass_type": _OBJECT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "iterable_type": _LIST,
    "bytes_type": "must be a string",
    "none_required": "must be null",
}


def faults_of(
    error: pydantic.ValidationError, known: Iterable[str] | None = None
) -> list[tuple[tuple[int | str, ...], str]]:
    """Return where in a value what is wrong; without the values, which may be secrets.

    Args:
        known: the names that there are, for who has given another one; None to name none.
    """
    return [
        (fault["loc"], _why(fault["type"], fault["msg"], fault.get("ctx", {}), known))
        for fault in error.errors(include_url=False, include_input=False)
    ]


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number that JSON has too, and whatever reads it has room for."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def as_said(value: object) -> str:
    """Return a value as messages show it: short, also if Python itself cannot say it."""
    try:
        said = repr(value)
    except ValueError:
        return "a number of very many digits"
    return said if len(said) <= SAID else f"{said[:SAID]}…"


def check_list(field: str, value: Iterable[_Item]) -> list[_Item]:
    """Return several values that are given from outside.

    Raises:
        InvalidInput: it is one text, which would be taken for its letters, or no list at all.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise InvalidInput([(field, _LIST)])
    return list(value)


def check_names(given: Iterable[str], known: Iterable[str]) -> None:
    """Check the names of arguments that are given from outside.

    Raises:
        InvalidInput: there is none of such a name; it would be ignored.
    """
    if unknown := [name for name in given if name not in known]:
        why = f"is not known; known are: {', '.join(known)}"
        raise InvalidInput([(name, why) for name in unknown])


def check_seconds(field: str, value: object) -> float:
    """Return a duration that is given from outside: 0 or more seconds.

    Raises:
        InvalidInput: it is no such number; the store could not read it back.
    """
    if not is_number(value) or value < 0:
        why = f"must be 0 or more seconds, not {as_said(value)}; for no bound give a large number"
        raise InvalidInput([(field, why)])
    return value


def _why(kind: str, said: str, limits: Mapping[str, Any], known: Iterable[str] | None) -> str:
    match kind:
        case "extra_forbidden":
            listed = "" if known is None else f"; known are: {', '.join(known) or 'none'}"
            return f"is not known{listed}"
        case "too_short":
            return f"must have {_items(limits['min_length'])} or more"
        case "too_long":
            return f"may have {_items(limits['max_length'])} at most"
        case _:
            return _WORDS.get(kind, said.removeprefix("Value error, "))


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"

"""A YAML text as plain values, and the line on which each of them stands.

Of YAML only what JSON has: mappings with text as keys, lists, texts, numbers, true, false and null.
No aliases, since a few lines of them may stand for gigabytes, and no tags.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model import Json

    # Keys and indices, from the document downwards.
    Path = tuple[str | int, ...]

MAX_DEPTH = 40

_TAG = "tag:yaml.org,2002:"


class PlaybookInvalid(ValueError):
    """A playbook cannot be played as it is.

    Attributes:
        problems: for each, the line (from 1) and what is wrong there.
    """

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("; ".join(f"line {line}: {why}" for line, why in self.problems))


@dataclass(frozen=True, slots=True)
class Document:
    """What a YAML text says."""

    value: Json
    lines: dict[Path, int]

    def find(self, location: Sequence[str | int]) -> Path:
        """Return the path of what an error names, or of what is nearest around it.

        Args:
            location: a path in which words may stand that are not of this document.
        """
        path: Path = ()
        value = self.value
        for part in location:
            key: Any = int(part) if isinstance(value, list) and str(part).isdecimal() else part
            inside = isinstance(value, dict) and key in value
            if inside or (isinstance(value, list) and key in range(len(value))):
                path, value = (*path, key), value[key]
        return path

    def at(self, path: Path) -> Json:
        """Return the value there."""
        value = self.value
        for key in path:
            value = value[key]
        return value


# libyaml's own parser: ten times as fast as the one in Python, and it bounds how deep it goes.
class _Loader(yaml.CSafeLoader):
    """Reads numbers and words as JSON does; `no`, `1:30` and `2026-01-01` are texts."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # as in the base class


for _kind, _pattern, _first in (
    ("null", r"~|null|", "~n\0"),
    ("bool", r"true|false", "tf"),
    ("int", r"-?(0|[1-9][0-9]*)", "-0123456789"),
    ("float", r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", "-0123456789"),
):
    _firsts = ["" if character == "\0" else character for character in _first]
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"({_pattern})\\Z"), _firsts)


def read_document(text: str) -> Document:
    """Read a YAML text.

    Raises:
        PlaybookInvalid: it is no YAML, or has what is not taken here.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        words = ": ".join(filter(None, (error.context, error.problem)))
        raise PlaybookInvalid([(line, words)]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise PlaybookInvalid([(line, "has a character that YAML does not allow")]) from None
    if root is None:
        raise PlaybookInvalid([(1, "is empty")])
    lines: dict[Path, int] = {(): 1}
    return Document(_Reader(lines).value(root, ()), lines)


class _Reader:
    def __init__(self, lines: dict[Path, int]) -> None:
        self._lines = lines
        self._seen: set[int] = set()

    def value(self, node: Any, path: Path) -> Json:
        """Return the value of a node, and note where it and all below it stand."""
        if id(node) in self._seen:
            raise _refusal(node, "an alias (`*name`) is not taken; write the value out")
        self._seen.add(id(node))
        if len(path) > MAX_DEPTH:
            raise _refusal(node, f"is nested more than {MAX_DEPTH} deep")
        self._lines.setdefault(path, node.start_mark.line + 1)
        match node:
            case yaml.MappingNode():
                return self._mapping(node, path)
            case yaml.SequenceNode():
                return [self.value(each, (*path, n)) for n, each in enumerate(node.value)]
            case _:
                return _scalar(node)

    def _mapping(self, node: Any, path: Path) -> dict[str, Json]:
        found: dict[str, Json] = {}
        for key_node, value_node in node.value:
            key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise _refusal(key_node, "a key must be text; put it into quotes")
            if key in found:
                raise _refusal(key_node, f"{key!r} is there twice")
            self._lines[*path, key] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, (*path, key))
        return found


def _scalar(node: Any) -> Json:
    match node.tag.removeprefix(_TAG):
        case "str":
            return str(node.value)
        case "null":
            return None
        case "bool":
            return node.value == "true"
        case "int" | "float" as kind:
            return _number(node, kind)
        case _:
            raise _refusal(node, f"the tag {node.tag!r} is not taken")


def _number(node: Any, kind: str) -> int | float:
    try:
        number = int(node.value) if kind == "int" else float(node.value)
        if math.isfinite(number):
            return number
    except (ValueError, OverflowError):
        pass
    raise _refusal(node, f"{node.value[:20]} is no number that can be used")


def _refusal(node: Any, why: str) -> PlaybookInvalid:
    return PlaybookInvalid([(node.start_mark.line + 1, why)])

"""The file that says who may do what: TOML, checked whole, its errors with their lines."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pydantic

from api.auth.sections import RUN_PROGRAMS, File, rules_of
from orchestrator import OrchestratorError, faults_of

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path

    from api.auth.sections import Rules


class BadTokensFile(OrchestratorError):
    """The tokens file cannot be used.

    Attributes:
        line: where it is wrong; None if that cannot be told.
    """

    def __init__(self, path: Path, line: int | None, why: str) -> None:
        self.line = line
        where = "" if line is None else f", line {line}"
        super().__init__(f"tokens file {path}{where}: {why}")


def read_rules(path: Path, agents: Container[str]) -> Rules:
    """Read a tokens file.

    Args:
        agents: the names that there are, so that a misspelt one is noticed.

    Raises:
        BadTokensFile: names the line and what would be right.
        ExtraMissing: it takes a library that is not installed.
    """
    text = _text_of(path)
    try:
        file = File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadTokensFile(path, _line_in(str(error)), str(error)) from None
    except pydantic.ValidationError as error:
        (at, why), *_ = faults_of(error)
        place = ".".join(map(str, at))
        said = f"{place}: {why}" if place else why
        raise BadTokensFile(path, line_of(text, at), said) from None
    for name in file.agents.admin_only:
        if name not in agents and name not in RUN_PROGRAMS:
            line = line_of(text, ("agents", "admin_only"))
            raise BadTokensFile(path, line, f"agents.admin_only: there is no agent {name!r}")
    try:
        return rules_of(file, path.parent)
    except (OSError, ValueError) as error:
        raise BadTokensFile(path, line_of(text, ("jwt", "keys")), f"jwt.keys: {error}") from None


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line of a key, or of its table where the key is not; None if neither is found.

    Args:
        place: table, number of the table if it is one of several, key.
    """
    table, *rest = place or ("",)
    number = next((each for each in rest if isinstance(each, int)), 0)
    key = next((each for each in rest if isinstance(each, str)), None)
    lines = text.splitlines()
    heads = [n for n, line in enumerate(lines, 1) if _head_of(line) == table]
    head = heads[number] if number < len(heads) else 0
    key = str(table) if not head else key
    for n, line in enumerate(lines[head:], head + 1):
        if key is None or _head_of(line) is not None:
            break
        if re.match(rf"\s*{re.escape(key)}\s*=", line):
            return n
    return head or None


def _head_of(line: str) -> str | None:
    head = re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line)
    return head and head[1]


def _text_of(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise BadTokensFile(path, None, error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise BadTokensFile(path, None, "is not UTF-8 text") from None


def _line_in(message: str) -> int | None:
    found = re.search(r"at line (\d+)", message)
    return int(found[1]) if found else None

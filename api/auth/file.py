"""The file that says who may do what: TOML, checked whole, its errors with their lines."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Self

import pydantic

from api.auth.identity import Identity, Role, Sight
from api.auth.tokens import MIN_TOKEN, Tokens, hash_of
from orchestrator import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path

    from api.auth.identity import Authenticator

# Whoever may start these runs programs as the server does.
RUN_PROGRAMS = ("command",)


class BadTokensFile(OrchestratorError):
    """The tokens file cannot be used.

    Attributes:
        line: where it is wrong; None if that cannot be told.
    """

    def __init__(self, path: Path, line: int | None, why: str) -> None:
        self.line = line
        where = "" if line is None else f", line {line}"
        super().__init__(f"tokens file {path}{where}: {why}")


@dataclass(frozen=True, slots=True)
class Rules:
    """What a tokens file says.

    Attributes:
        authenticators: asked in this order.
        admin_only: names of agents that only admins may start.
    """

    authenticators: Sequence[Authenticator]
    admin_only: frozenset[str] = frozenset()


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed")
    return text


Principal = Annotated[
    str,
    pydantic.StringConstraints(min_length=1, max_length=200),
    pydantic.AfterValidator(_printable),
]


class Section(pydantic.BaseModel):
    """A table of the file; an unknown key is refused."""

    model_config = pydantic.ConfigDict(extra="forbid", hide_input_in_errors=True)


class Somebody(Section):
    """The keys that say who somebody is."""

    principal: Principal
    role: Role
    sees: Sight = "all"

    @property
    def identity(self) -> Identity:
        """Who that is."""
        return Identity(self.principal, self.role, self.sees)

    @pydantic.model_validator(mode="after")
    def _admins_see_all(self) -> Self:
        if self.role is Role.ADMIN and self.sees == "own":
            raise ValueError("an admin sees all runs; leave out `sees`")
        return self


class _Token(Somebody):
    hash: str | None = pydantic.Field(None, pattern=r"^sha256:[0-9a-f]{64}$")
    token: str | None = pydantic.Field(None, min_length=MIN_TOKEN, pattern=r"^[!-~]+$")

    @pydantic.model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.hash is None) == (self.token is None):
            raise ValueError("needs either `hash` or `token`; make one with `quiesce token new`")
        return self

    @property
    def digest(self) -> str:
        """The hash of the token, however it is written."""
        return self.hash or hash_of(self.token or "")


class _Agents(Section):
    admin_only: list[str] = list(RUN_PROGRAMS)


class _File(Section):
    token: list[_Token] = []
    agents: _Agents = _Agents()

    @pydantic.field_validator("token")
    @classmethod
    def _no_token_twice(cls, tokens: list[_Token]) -> list[_Token]:
        digests = [each.digest for each in tokens]
        if len(set(digests)) < len(digests):
            raise ValueError("two entries have the same token")
        return tokens

    @pydantic.model_validator(mode="after")
    def _lets_somebody_in(self) -> Self:
        if not self.token:
            raise ValueError("lets nobody in; add a [[token]] made by `quiesce token new`")
        return self


def read_rules(path: Path, agents: Container[str]) -> Rules:
    """Read a tokens file.

    Args:
        agents: the names that there are, so that a misspelt one is noticed.

    Raises:
        BadTokensFile: names the line and what would be right.
    """
    text = _text_of(path)
    try:
        file = _File.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadTokensFile(path, _line_in(str(error)), str(error)) from None
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise BadTokensFile(path, line_of(text, first["loc"]), _in_words(first)) from None
    for name in file.agents.admin_only:
        if name not in agents and name not in RUN_PROGRAMS:
            line = line_of(text, ("agents", "admin_only"))
            raise BadTokensFile(path, line, f"agents.admin_only: there is no agent {name!r}")
    listed = [(each.digest, each.identity) for each in file.token]
    return Rules([Tokens(listed)], frozenset(file.agents.admin_only))


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line of a key, or of its table where the key is not; None if neither is found.

    Args:
        place: table, number of the table if it is one of several, key.
    """
    table, *rest = place or ("",)
    number = next((each for each in rest if isinstance(each, int)), 0)
    lines = text.splitlines()
    heads = [n for n, line in enumerate(lines, 1) if _head_of(line) == table]
    head = heads[number] if number < len(heads) else None
    for n, line in enumerate(lines[head or 0 :], (head or 0) + 1):
        if _head_of(line) is not None:
            break
        if re.match(rf"\s*{re.escape(str(place[-1] if place else ''))}\s*=", line):
            return n
    return head


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


def _in_words(error: Any) -> str:
    place = ".".join(map(str, error["loc"]))
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        said = "is not known"
    return f"{place}: {said}" if place else said

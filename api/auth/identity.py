"""Who sends a request: values, and what an authenticator is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from orchestrator import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from werkzeug.datastructures import Headers


class Role(StrEnum):
    """What somebody may do. Later members may do all that earlier ones may."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """0 for who may do the least."""
        return _RANKS[self]


_RANKS = {role: rank for rank, role in enumerate(Role)}

Sight = Literal["all", "own"]

MAX_PRINCIPAL = 200


def is_principal(text: str) -> bool:
    """Whether somebody may be called that."""
    return text.isprintable() and 0 < len(text) <= MAX_PRINCIPAL


def highest_role(
    values: Iterable[object], roles: Mapping[str, Role], default: Role | None
) -> Role | None:
    """Return the role that lets do most of those that the values mean, or the default."""
    found = [roles[value] for value in values if isinstance(value, str) and value in roles]
    return max(found, key=lambda role: role.rank, default=default)


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody, and what they may do.

    Attributes:
        sees: whose runs are shown to them; admins see all in any case.
    """

    principal: str
    role: Role
    sees: Sight = "all"

    @property
    def sees_all(self) -> bool:
        """Whether every run is shown to them."""
        return self.sees == "all" or self.role is Role.ADMIN

    def may_see(self, owner: str) -> bool:
        """Whether a run of that owner is shown to them."""
        return self.sees_all or owner == self.principal


# Who everybody is on a server without authentication.
ANONYMOUS = Identity("anonymous", Role.ADMIN)


class Credentials(NamedTuple):
    """What a request says of who sends it.

    Attributes:
        bearer: the token of ``Authorization: Bearer``; None if there is none.
        session: what the cookie says; None if there is none.
        headers: looked up without regard to case.
        peer: the address of whoever has connected to us.
    """

    bearer: str | None
    headers: Headers
    peer: str
    session: str | None = None


class Authenticator(Protocol):
    """One way to know somebody. What several say is asked in order; the first that knows wins."""

    async def identify(self, given: Credentials) -> Identity | None:
        """Return who it is, or None if these are no credentials of this kind.

        Raises:
            BadCredentials: they are of this kind, and no good.
            CannotJudge: whether they are cannot be told at present.
        """


class Unidentified(OrchestratorError):
    """This server wants a token; send one as `Authorization: Bearer TOKEN`."""


class BadCredentials(Unidentified):
    """The token is not known here (any more)."""


class CannotJudge(OrchestratorError):
    """Tokens cannot be checked at present; try again later."""


class TooOften(OrchestratorError):
    """It was asked for more often than is allowed.

    Attributes:
        wait_s: after so many seconds it is allowed again.
    """

    def __init__(self, what: str, wait_s: float) -> None:
        self.wait_s = wait_s
        super().__init__(f"{what}; try again in {ceil(wait_s)} s")


class TooManySessions(OrchestratorError):
    """So many Socket.IO sessions are open already; close one."""


class Forbidden(OrchestratorError):
    """They are known, and may not do this."""

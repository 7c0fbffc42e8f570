"""Who may do what on one server: its rules, and how they are read again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from api.auth.file import BadTokensFile, read_rules
from api.auth.identity import ANONYMOUS, BadCredentials, Role, TooOften, Unidentified
from api.auth.limits import Buckets, household_of
from api.auth.proxy import Proxies
from api.auth.sessions import Sessions
from api.auth.wallets import Challenges

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from pathlib import Path

    from api.auth.identity import Credentials, Identity
    from api.auth.sections import Rules

_log = logging.getLogger("quiesce.auth")


class Access:
    """Who may do what on a server.

    Without rules everybody is ``ANONYMOUS`` and may do everything, so such a server must bind
    loopback addresses only.

    Args:
        rules: who is known; None for no authentication.
        public_hosts: names under which clients reach the server, each with a port or without;
            addresses and ``localhost`` need not be named.

    Attributes:
        sessions: who has logged in.
        challenges: what wallets sign.
        starts, bad_tokens: how often it was, by principal and by address.
        when_changed: called once there are other rules, so that what was allowed by the old ones
            and still goes on can end.
    """

    def __init__(self, rules: Rules | None = None, *, public_hosts: Iterable[str] = ()) -> None:
        self.rules = rules
        self.sessions = Sessions()
        self.challenges = Challenges()
        self.starts = Buckets()
        self.bad_tokens = Buckets()
        self.when_changed: list[Callable[[], None]] = []
        self.public_hosts = frozenset(host.lower() for host in public_hosts)

    @property
    def authentication(self) -> bool:
        """Whether one must be known to do anything."""
        return self.rules is not None

    def reload(self) -> None:
        """Read again where the rules come from. Not a checkpoint."""

    def is_public(self, host: str) -> bool:
        """Whether clients reach the server under that name, with or without its port."""
        name = host.lower().rpartition(":")[0] or host.lower()
        return self.authentication and bool({host.lower(), name} & self.public_hosts)

    async def identify(self, given: Credentials) -> Identity:
        """Return who sends a request.

        Raises:
            Unidentified: it says nothing of that.
            BadCredentials: what it says is no good.
            CannotJudge: that cannot be told at present.
        """
        if self.rules is None:
            return ANONYMOUS
        for each in self.rules.authenticators:
            if (identity := await each.identify(given)) is not None:
                return identity
        if given.bearer is not None:
            raise BadCredentials()
        if (identity := await self.sessions.identify(given.session)) is not None:
            return identity
        raise Unidentified()

    async def holder_of(self, address: str) -> Identity:
        """Return whose wallet that is, of whom it must be certain that they hold its key.

        Raises:
            BadCredentials: it is nobody's here (any more).
        """
        known = {} if self.rules is None else self.rules.wallets
        if (identity := known.get(address.lower())) is None:
            raise BadCredentials(f"the wallet {address} is not known here")
        return identity

    def check_start(self, identity: Identity) -> None:
        """Count a start.

        Raises:
            TooOften: there were too many of theirs.
        """
        if self.rules is None:
            return
        rate = self.rules.limits.starts_per_minute
        if wait_s := self.starts.take(identity.principal, rate):
            raise TooOften(f"{identity.principal} starts too many runs", wait_s)

    def check_address(self, address: str) -> None:
        """Refuse to look at credentials from an address from which too many were bad.

        Raises:
            TooOften: it is such an address.
        """
        if self.rules is None:
            return
        rate = self.rules.limits.bad_tokens_per_minute
        if wait_s := self.bad_tokens.wait_s(household_of(address), rate):
            raise TooOften("too many bad tokens came from your address", wait_s)

    def count_bad_token(self, address: str) -> None:
        """Count credentials that were no good."""
        if self.rules is not None:
            rate = self.rules.limits.bad_tokens_per_minute
            self.bad_tokens.take(household_of(address), rate)

    @property
    def proxies(self) -> Proxies:
        """The proxies that are believed."""
        return Proxies() if self.rules is None else self.rules.proxies

    def may_start(self, identity: Identity, agent: str) -> bool:
        """Whether somebody who may start runs may start those of that agent."""
        guarded = self.rules is not None and agent in self.rules.admin_only
        return identity.role is Role.ADMIN or not guarded

    def may_start_all(self, identity: Identity) -> bool:
        """Whether somebody who may start runs may start those of every agent."""
        return self.rules is None or identity.role is Role.ADMIN or not self.rules.admin_only


class FileAccess(Access):
    """Access by the rules of a tokens file.

    Raises:
        BadTokensFile: it cannot be used.
    """

    def __init__(
        self, path: Path, agents: Container[str], *, public_hosts: Iterable[str] = ()
    ) -> None:
        super().__init__(read_rules(path, agents), public_hosts=public_hosts)
        self._path = path
        self._agents = agents

    def reload(self) -> None:
        """Read the file again. Should it be broken, the rules stay, and the log says why."""
        try:
            self.rules = read_rules(self._path, self._agents)
        except BadTokensFile as error:
            _log.error("the tokens stay as they were: %s", error)
        else:
            _log.warning("the tokens file %s was read again", self._path)
            for tell in self.when_changed:
                tell()

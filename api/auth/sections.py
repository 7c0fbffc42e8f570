"""What may stand in a tokens file, table by table, and the rules that it means."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

import pydantic

from api.auth.identity import Identity, Role, Sight, is_principal
from api.auth.proxy import Proxies, ProxyHeader
from api.auth.tokens import MIN_TOKEN, Tokens, hash_of
from api.auth.wallets import library
from orchestrator import ExtraMissing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from api.auth.identity import Authenticator

# Whoever may start these runs programs as the server does.
RUN_PROGRAMS = ("command", "playbook")


def _principal(text: str) -> str:
    if not is_principal(text):
        raise ValueError("must be 1 to 200 characters that can be printed")
    return text


# Those by which nobody who can check a token can also make one.
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"]
Rate = Annotated[float, pydantic.Field(ge=1, le=1_000_000)]
HeaderName = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9-]+$")]
Principal = Annotated[str, pydantic.AfterValidator(_principal)]


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


class _Wallet(Somebody):
    address: str = pydantic.Field(pattern=r"^0x[0-9a-fA-F]{40}$")


class _Roles(Section):
    """How a claim or a header gives a role."""

    roles: dict[str, Role] = {str(role): role for role in Role}
    default_role: Role | None = None


class _Jwt(_Roles):
    issuer: str
    audience: str
    keys: str
    algorithms: list[Algorithm] = pydantic.Field(["RS256", "ES256", "EdDSA"], min_length=1)
    principal_claim: str = "sub"
    role_claim: str = "role"

    @pydantic.field_validator("keys")
    @classmethod
    def _no_keys_in_the_clear(cls, keys: str) -> str:
        parts = urlsplit(keys)
        loopback = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if parts.scheme == "http" and not loopback:
            raise ValueError("must be https: whoever can change the keys can be anybody")
        return keys

    def authenticator(self, folder: Path) -> Authenticator:
        """Return what knows these tokens.

        Raises:
            ValueError: the file of keys cannot be used.
            ExtraMissing: the library is not installed.
        """
        if importlib.util.find_spec("joserfc") is None:
            raise ExtraMissing("joserfc", "jwt")
        # Here, since it need not be installed.
        from api.auth.jwts import FetchedKeys, GivenKeys, Jwts, read_keys

        fetched = self.keys.startswith(("https://", "http://"))
        return Jwts(
            FetchedKeys(self.keys)
            if fetched
            else GivenKeys(read_keys((folder / self.keys).read_bytes())),
            issuer=self.issuer,
            audience=self.audience,
            algorithms=self.algorithms,
            principal_claim=self.principal_claim,
            role_claim=self.role_claim,
            roles=self.roles,
            default=self.default_role,
        )


class _Proxy(_Roles):
    addresses: list[pydantic.IPvAnyNetwork] = pydantic.Field(min_length=1)
    user_header: HeaderName | None = None
    role_header: HeaderName | None = None


class Limits(Section):
    """How often something may happen in a minute, and so in one go."""

    starts_per_minute: Rate = 600
    bad_tokens_per_minute: Rate = 10


class _Agents(Section):
    admin_only: list[str] = list(RUN_PROGRAMS)


class File(Section):
    token: list[_Token] = []
    wallet: list[_Wallet] = []
    jwt: _Jwt | None = None
    proxy: _Proxy | None = None
    agents: _Agents = _Agents()
    limits: Limits = Limits()

    @pydantic.field_validator("token")
    @classmethod
    def _no_token_twice(cls, tokens: list[_Token]) -> list[_Token]:
        digests = [each.digest for each in tokens]
        if len(set(digests)) < len(digests):
            raise ValueError("two entries have the same token")
        return tokens

    @pydantic.field_validator("wallet")
    @classmethod
    def _no_wallet_twice(cls, wallets: list[_Wallet]) -> list[_Wallet]:
        addresses = {each.address.lower() for each in wallets}
        if len(addresses) < len(wallets):
            raise ValueError("two entries have the same address")
        return wallets

    @pydantic.model_validator(mode="after")
    def _lets_somebody_in(self) -> Self:
        by_proxy = self.proxy is not None and self.proxy.user_header is not None
        if not (self.token or self.wallet or self.jwt or by_proxy):
            raise ValueError("lets nobody in; add a [[token]] made by `quiesce token new`")
        return self


@dataclass(frozen=True, slots=True)
class Rules:
    """What a tokens file says.

    Attributes:
        authenticators: asked in this order.
        admin_only: names of agents that only admins may start.
        proxies: which are believed when they say where a request comes from.
        wallets: who may log in by a signature, by their addresses in lower case.
        limits: how often is too often.
    """

    authenticators: Sequence[Authenticator]
    admin_only: frozenset[str] = frozenset()
    proxies: Proxies = field(default_factory=Proxies)
    wallets: Mapping[str, Identity] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)


def rules_of(file: File, folder: Path) -> Rules:
    """Return the rules that a file means.

    Args:
        folder: where the file is.

    Raises:
        OSError, ValueError: the file of keys that it names cannot be used.
        ExtraMissing: it takes a library that is not installed.
    """
    authenticators: list[Authenticator] = [
        Tokens([(each.digest, each.identity) for each in file.token])
    ]
    if file.jwt is not None:
        authenticators.append(file.jwt.authenticator(folder))
    proxies = Proxies()
    if file.proxy is not None:
        proxies = Proxies(file.proxy.addresses)
        if file.proxy.user_header is not None:
            authenticators.append(
                ProxyHeader(
                    proxies,
                    file.proxy.user_header,
                    file.proxy.role_header or "",
                    file.proxy.roles,
                    file.proxy.default_role,
                )
            )
    if file.wallet:
        library()  # now, when nobody waits, and nobody has connected yet
    return Rules(
        authenticators,
        frozenset(file.agents.admin_only),
        proxies,
        {each.address.lower(): each.identity for each in file.wallet},
        file.limits,
    )

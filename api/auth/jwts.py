"""Signed tokens (JWT) of an identity provider, checked against its keys (JWKS)."""

from __future__ import annotations

import json
import logging
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import httpx
import trio
from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from api.auth.identity import BadCredentials, CannotJudge, Identity, highest_role, is_principal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from api.auth.identity import Credentials, Role

_log = logging.getLogger("quiesce.auth")

# Keys are fetched again after this time, so that one that was withdrawn is not trusted for long,
FRESH_S = 600.0
# and at once when a token names a key that is not there, but no more often than so.
BETWEEN_FETCHES_S = 30.0
FETCH_S = 5.0
MAX_KEYS_BYTES = 2**20
# What the clocks of two machines may differ by.
LEEWAY_S = 10


class Keys(Protocol):
    """Where the provider's keys come from."""

    async def get(self, *, newer: bool = False) -> KeySet:
        """Return the keys; ``newer`` if those that were there do not suffice.

        Raises:
            CannotJudge: there are none at present.
        """


class GivenKeys(NamedTuple):
    """Keys that do not change."""

    keys: KeySet

    async def get(self, *, newer: bool = False) -> KeySet:
        """See ``Keys.get``."""
        return self.keys


class FetchedKeys:
    """Keys that are fetched from a URL when they are needed, and kept for a while.

    While they cannot be fetched, the old ones are used.
    """

    def __init__(self, url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._transport = transport
        self._keys: KeySet | None = None
        self._fetched = self._tried = -inf
        self._one_at_a_time = trio.Lock()

    async def get(self, *, newer: bool = False) -> KeySet:
        """See ``Keys.get``."""
        async with self._one_at_a_time:
            now = trio.current_time()
            wanted = newer or now - self._fetched > FRESH_S
            if wanted and now - self._tried > BETWEEN_FETCHES_S:
                self._tried = now
                await self._fetch()
        if self._keys is None:
            raise CannotJudge("the keys of the identity provider cannot be fetched at present")
        return self._keys

    async def _fetch(self) -> None:
        try:
            with trio.fail_after(FETCH_S):
                async with httpx.AsyncClient(transport=self._transport, trust_env=False) as client:
                    answer = (await client.get(self._url)).raise_for_status()
            self._keys = read_keys(answer.content)
            self._fetched = trio.current_time()
        except (httpx.HTTPError, trio.TooSlowError, ValueError) as error:
            _log.warning("cannot fetch the keys at %s: %s", self._url, str(error) or "too slow")


def read_keys(content: bytes) -> KeySet:
    """Return the keys of a JWKS document.

    Raises:
        ValueError: it is none.
    """
    if len(content) > MAX_KEYS_BYTES:
        raise ValueError("the document is too large")
    try:
        return KeySet.import_key_set(json.loads(content))
    except (JoseError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"it is no JWKS document: {error!r}") from None


class Jwts:
    """The ``Authenticator`` of one identity provider's signed tokens.

    Args:
        algorithms: with which a token may be signed; no other is looked at.
        roles: what each value of the role claim means.
        default: the role of somebody whose token names none of them; None to refuse them.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str,
        audience: str,
        algorithms: Sequence[str],
        principal_claim: str,
        role_claim: str,
        roles: Mapping[str, Role],
        default: Role | None,
    ) -> None:
        self._keys = keys
        self._algorithms = algorithms
        self._principal_claim = principal_claim
        self._role_claim = role_claim
        self._roles = roles
        self._default = default
        self._rules = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": issuer},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    async def identify(self, given: Credentials) -> Identity | None:
        """Return whose token it is; None if it does not look like one of these."""
        if given.bearer is None or given.bearer.count(".") != 2:
            return None
        try:
            claims = await self._claims(given.bearer)
            self._rules.validate(claims)
        except CannotJudge:
            raise
        except Exception as error:  # a stranger made it up, and libraries fail in many ways
            raise BadCredentials(f"the token is not valid: {type(error).__name__}") from None
        return self._identity(claims)

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            return jwt.decode(token, await self._keys.get(), self._algorithms).claims
        except InvalidKeyIdError:
            keys = await self._keys.get(newer=True)
            return jwt.decode(token, keys, self._algorithms).claims

    def _identity(self, claims: dict[str, Any]) -> Identity:
        principal, said = claims.get(self._principal_claim), claims.get(self._role_claim)
        if not isinstance(principal, str) or not is_principal(principal):
            raise BadCredentials(f"the token has no usable claim {self._principal_claim!r}")
        role = highest_role(said if isinstance(said, list) else [said], self._roles, self._default)
        if role is None:
            raise BadCredentials(f"the claim {self._role_claim!r} of the token gives no role here")
        return Identity(principal, role)

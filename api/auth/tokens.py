"""Bearer tokens that a file lists by their hashes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from api.auth.identity import Credentials, Identity

PREFIX = "qt_"
HASH_PREFIX = "sha256:"
# What somebody makes up themselves must be as hard to guess as it looks.
MIN_TOKEN = 24


def new_token() -> str:
    """Return a token that nobody can guess: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    """Return what a file may show of a token.

    One plain SHA-256: slow hashes are for passwords, and nobody can try out 256 random bits.
    """
    return HASH_PREFIX + hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Tokens:
    """The ``Authenticator`` of tokens that are listed: pairs of a token's hash and its bearer."""

    listed: Sequence[tuple[str, Identity]]

    async def identify(self, given: Credentials) -> Identity | None:
        """Return who has that token; None if nobody has, since it may be of another kind."""
        return None if given.bearer is None else self.bearer_of(given.bearer)

    def bearer_of(self, token: str) -> Identity | None:
        """Return whose token it is. Takes the same time for every token."""
        digest, found = hash_of(token), None
        for known, identity in self.listed:
            if hmac.compare_digest(known, digest):
                found = identity
        return found

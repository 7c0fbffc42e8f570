"""Wallets: somebody shows that they hold an Ethereum key by signing a challenge of ours.

A challenge is made from a secret of this process, so that asking for it costs no memory, and
nobody can spoil somebody else's by asking for many.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import secrets
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from api.auth.identity import BadCredentials
from orchestrator import ExtraMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

# A challenge is good for at least so long, and at most twice that.
LASTS_S = 300
# Recovering a signer takes tens of milliseconds in pure Python.
_SIGNATURES = trio.CapacityLimiter(2)


class Challenge(NamedTuple):
    """What is to be signed, and until when."""

    message: str
    expires_at: str


class Challenges:
    """The challenges of one server."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        # How often each address has logged in: what was signed once is no challenge any more.
        self._used: Counter[str] = Counter()

    def challenge(self, host: str, address: str) -> Challenge:
        """Return what the holder of the address is to sign now. Not a checkpoint."""
        return next(self._good(host, address.lower()))

    async def check(self, host: str, address: str, signature: str) -> None:
        """Take a signature of a challenge, once. Runs in a thread.

        Raises:
            BadCredentials: nothing of that address that is to be signed was signed by it.
        """
        address = address.lower()
        for challenge in list(self._good(host, address)):
            ask = partial(signer_of, challenge.message, signature)
            signer = await trio.to_thread.run_sync(ask, limiter=_SIGNATURES)
            # It may have been used while we were in the thread.
            if signer == address and challenge in self._good(host, address):
                self._used[address] += 1
                return
        raise BadCredentials("the signature is none of this address, or its challenge is over")

    def _good(self, host: str, address: str) -> Iterator[Challenge]:
        slot = int(time.time()) // LASTS_S
        for number in (slot, slot - 1):
            said = f"{host} {address} {number} {self._used[address]}"
            nonce = hmac.new(self._secret, said.encode(), hashlib.sha256).hexdigest()[:32]
            until = _rfc3339((number + 2) * LASTS_S)
            yield Challenge(
                f"{host} wants you to sign in with your Ethereum account:\n{address}\n\n"
                f"Sign in to Quiesce.\n\nNonce: {nonce}\n"
                f"Issued At: {_rfc3339(number * LASTS_S)}\nExpiration Time: {until}",
                until,
            )


def library() -> tuple[Any, Any]:
    """Return what makes accounts, and what makes messages of texts. Takes seconds at first.

    One of its parts (py_ecc) raises Python's limit of recursion for the whole process, so far that
    a body of many brackets would end the process instead of raising ``RecursionError``. So the
    limit is put back. To be called before strangers can connect.

    Raises:
        ExtraMissing: it is not installed.
    """
    if importlib.util.find_spec("eth_account") is None:
        raise ExtraMissing("eth-account", "wallet")
    limit = sys.getrecursionlimit()
    try:
        from eth_account import Account
        from eth_account.messages import encode_defunct
    finally:
        sys.setrecursionlimit(limit)
    return Account, encode_defunct


def signer_of(message: str, signature: str) -> str:
    """Return the address that has signed the message, in lower case; empty if that is none."""
    accounts, as_signed = library()
    try:
        signer = accounts.recover_message(as_signed(text=message), signature=signature)
    except Exception:  # a stranger made it up, and the library fails in many ways
        return ""
    return str(signer).lower()


def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")

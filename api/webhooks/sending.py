"""One attempt to deliver a message over HTTP, in bounded time, whatever the other side does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

import httpcore
import httpx
import trio
from standardwebhooks import Webhook

from api.webhooks.addresses import AddressRefused, GuardedBackend

if TYPE_CHECKING:
    import ssl

    from api.webhooks.addresses import Networks
    from api.webhooks.message import Delivery

ATTEMPT_S = 15.0
MOST_RETRY_AFTER_S = 3600.0
# It says that nobody listens there any more, and never will.
GONE = 410


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt.

    Attributes:
        error: why it failed; empty if the message has arrived.
        for_good: trying again makes no sense.
        retry_after_s: how long the other side wants to be left alone.
        left_to: the target without whom it has reached; empty if it has reached nobody.
    """

    error: str = ""
    for_good: bool = False
    retry_after_s: float = 0.0
    left_to: str = ""


async def post(
    delivery: Delivery, secret: str | None, networks: Networks, timestamp: int
) -> Outcome:
    """Send a message to its URL. Redirects are not followed, and answers not read."""
    request_headers = headers_of(delivery, secret, timestamp)
    transport = _Transport(networks)
    with trio.move_on_after(ATTEMPT_S):
        try:
            # No proxy from the environment: it would connect to whatever it likes.
            async with (
                httpx.AsyncClient(transport=transport, timeout=None, trust_env=False) as client,
                client.stream(
                    "POST", delivery.to, content=delivery.body.encode(), headers=request_headers
                ) as response,
            ):
                return outcome_of(response, timestamp)
        except AddressRefused as error:
            return Outcome(str(error), for_good=True)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, OSError) as error:
            return Outcome(f"{type(error).__name__}: {error}"[:500])
    return Outcome(f"no answer within {ATTEMPT_S:g} s")


def headers_of(delivery: Delivery, secret: str | None, timestamp: int) -> dict[str, str]:
    """Return the headers of a message, signed if there is a secret (Standard Webhooks)."""
    headers = {
        "content-type": "application/json",
        "user-agent": f"quiesce/{version('quiesce')}",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(timestamp),
    }
    if secret is not None:
        at = datetime.fromtimestamp(timestamp, UTC)
        headers["webhook-signature"] = Webhook(secret).sign(delivery.id, at, delivery.body)
    return headers


def outcome_of(response: httpx.Response, timestamp: int) -> Outcome:
    """Return what an answer to a message of that time means; its body says nothing to us."""
    status = response.status_code
    if response.is_success:
        return Outcome()
    if response.is_redirect:
        return Outcome(f"answered {status}; redirects are not followed")
    return Outcome(
        f"answered {status}",
        for_good=status == GONE,
        retry_after_s=_retry_after_s(response.headers.get("retry-after", ""), timestamp),
    )


def _retry_after_s(said: str, timestamp: int) -> float:
    """Return how long a ``Retry-After`` asks to wait; 0 if it is neither seconds nor a date."""
    if said.isdecimal():
        return min(float(said), MOST_RETRY_AFTER_S)
    try:
        until = parsedate_to_datetime(said)
    except ValueError:
        return 0.0
    # Without a zone it is in UTC; that of this machine says nothing of the other side.
    wait_s = until.replace(tzinfo=until.tzinfo or UTC).timestamp() - timestamp
    return min(max(0.0, wait_s), MOST_RETRY_AFTER_S)


class _Transport(httpx.AsyncHTTPTransport):
    def __init__(self, networks: Networks) -> None:
        super().__init__(verify=_tls_context())
        # httpx has no public way to hand its pool a network backend.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls_context(), network_backend=GuardedBackend(networks)
        )


@cache
def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()

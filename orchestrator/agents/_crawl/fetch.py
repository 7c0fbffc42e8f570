"""One request: an answer that is bounded in size and time, and whether to try again."""

from __future__ import annotations

import random
import socket
import ssl
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx
import trio

from orchestrator.agents._crawl.intake import Intake
from orchestrator.agents._crawl.robots import USER_AGENT
from orchestrator.agents._crawl.urls import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

BODY_BYTES = 10 * 1024 * 1024
# A host that sends a byte a minute must not hold up a crawl for ever.
ANSWER_S = 120.0
TRIES = 3
BACKOFF_S = 0.5
RETRY_AFTER_MAX_S = 60.0

_HTML = ("text/html", "application/xhtml+xml")
_REDIRECTS = (301, 302, 303, 307, 308)
# Of the encodings only gzip is asked for: it is undone here, where what comes out is bounded.
_HEADERS = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came of one request.

    Attributes:
        url: what was asked for, resolved.
        status: None if there was no whole answer; ``failure`` says why, as the end of a sentence.
        body: decompressed; empty unless it was wanted and the status is one of success.
        truncated: the body was longer than ``BODY_BYTES`` or the lower limit that was given.
        transient: there was no answer, but another try may get one.
    """

    url: str
    status: int | None = None
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    body: bytes = b""
    truncated: bool = False
    failure: str = ""
    transient: bool = False

    @property
    def content_type(self) -> str:
        """The header of that name, as it came; empty if there is none."""
        return str(self.headers.get("content-type", ""))

    @property
    def media_type(self) -> str:
        """The type of the body, in lower case and without parameters; empty if unknown."""
        return self.content_type.partition(";")[0].strip().lower()

    @property
    def is_html(self) -> bool:
        """Whether the body can be read for text and links."""
        return self.media_type in _HTML

    @property
    def redirect(self) -> str | None:
        """The resolved address that the answer sends to, if it does and it could be fetched."""
        if self.status not in _REDIRECTS or "location" not in self.headers:
            return None
        return resolve(self.url, self.headers["location"])

    @property
    def problem(self) -> str:
        """What follows the address in a sentence that says what went wrong; empty for success."""
        if self.status is None:
            return f"could not be reached: {self.failure}"
        if 200 <= self.status < 300:
            return ""
        known = self.status in HTTPStatus.__members__.values()
        return f"answered {self.status} {HTTPStatus(self.status).phrase if known else ''}".rstrip()


async def fetch(
    http: httpx.AsyncClient, url: str, *, html_only: bool = False, max_bytes: int = BODY_BYTES
) -> Reply:
    """Make one GET request, without following redirects. Errors are in the reply.

    Args:
        html_only: leave the body of anything else unread.
        max_bytes: a longer body is cut off there, and its connection closed.
    """
    reply = Reply(url=url, failure=f"there was no whole answer within {ANSWER_S:g} seconds")
    with trio.move_on_after(ANSWER_S):
        try:
            reply = await _exchange(http, url, html_only, max_bytes)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reply = Reply(url=url, failure=in_words(error), transient=_is_transient(error))
    return reply


def wait_before_retry(reply: Reply, attempt: int) -> float | None:
    """Return for how many seconds to wait before the next try, or None if there is to be none.

    Args:
        attempt: 1 for the first try.
    """
    overloaded = reply.status is not None and (reply.status == 429 or reply.status >= 500)
    if attempt >= TRIES or not (overloaded or reply.transient):
        return None
    asked = retry_after(reply.headers)
    if asked is not None:
        return asked
    # Spread, so that many do not come back together; but the same for the same address.
    spread = random.Random(f"{reply.url} {attempt}").uniform(0.5, 1.5)
    return BACKOFF_S * float(2 ** (attempt - 1)) * spread


def retry_after(headers: httpx.Headers) -> float | None:
    """Return the seconds that a server asks to wait for, within bounds; None if it does not.

    A date is compared with the answer's own, so that wrong clocks do not matter.
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal():
        return min(float(value), RETRY_AFTER_MAX_S)
    try:
        until, now = (parsedate_to_datetime(date) for date in (value, headers.get("date", "")))
        return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_MAX_S)
    except (ValueError, TypeError):
        return None


async def _exchange(http: httpx.AsyncClient, url: str, html_only: bool, max_bytes: int) -> Reply:
    async with http.stream("GET", url, headers=_HEADERS, follow_redirects=False) as response:
        reply = Reply(url=url, status=response.status_code, headers=response.headers)
        if reply.problem or (html_only and not reply.is_html):
            return reply
        body, truncated = await read_body(response, max_bytes)
    return Reply(
        url=url, status=reply.status, headers=reply.headers, body=body, truncated=truncated
    )


async def read_body(response: httpx.Response, max_bytes: int) -> tuple[bytes, bool]:
    """Return a body, decompressed, up to a bound, and whether there was more.

    The request has to ask for no encoding but gzip.

    Raises:
        httpx.HTTPError: it is not whole, or is encoded otherwise.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise httpx.DecodingError(f"the answer is encoded as {encoding}, which was not asked for")
    intake = Intake(max_bytes, gzip=encoding != "identity")
    try:
        async for chunk in response.aiter_raw():
            if not intake.take(chunk):
                # Makes the next read fail, which winds up the generators below this loop in
                # order; leaving the loop would leave them to the garbage collector.
                await response.aclose()
    except (httpx.TransportError, httpx.StreamError):
        if not intake.full and not intake.broken:
            raise
    if intake.broken:
        raise httpx.DecodingError("the answer's gzip encoding is broken")
    if intake.cut_off:
        raise httpx.RemoteProtocolError("its gzip encoding has no end")
    return bytes(intake.body[:max_bytes]), intake.full


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what an error came from, through its chain and its groups."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _causes(each)
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield from _causes(cause)


def _is_bad_redirect(error: Exception) -> bool:
    # httpx looks at where a redirect leads although it is told not to follow it. Addresses of
    # our own are never invalid.
    return isinstance(error, httpx.InvalidURL) or "location header" in str(error)


def _is_transient(error: Exception) -> bool:
    if _is_bad_redirect(error) or any(
        isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error)
    ):
        return False
    return isinstance(
        error, httpx.NetworkError | httpx.TimeoutException | httpx.RemoteProtocolError
    )


def in_words(error: Exception) -> str:
    """Return what went wrong with a request, as the end of a sentence."""
    if _is_bad_redirect(error):
        return "it redirects to what is no address"
    for cause in _causes(error):
        match cause:
            case socket.gaierror():
                return "its name does not resolve; is it spelt right?"
            case ConnectionRefusedError():
                return "connection refused; is the server running?"
            case ssl.SSLCertVerificationError():
                return f"its TLS certificate is not trusted ({cause.verify_message})"
            case ssl.SSLError():
                return "the TLS handshake failed; does the server speak https at that port?"
    match error:
        case httpx.ConnectTimeout():
            return "it took too long to connect; is the host up, with no firewall in between?"
        case httpx.NetworkError() | httpx.RemoteProtocolError():
            return f"the connection broke before the answer was whole ({_detail(error)})"
        case _:
            return _detail(error)


def _detail(error: Exception) -> str:
    return str(error) or type(error).__name__

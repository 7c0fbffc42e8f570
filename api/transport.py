"""What a client's calls go through: one server's connections, and its errors as ours."""

from __future__ import annotations

import json
import re
import ssl
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from orchestrator import (
    IllegalTransition,
    InvalidInput,
    NobodyAsks,
    OrchestratorError,
    ParentIsPaused,
    RunEnded,
    RunId,
    RunStatus,
    UnknownRun,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from api.asks import Ask

_Answer = TypeVar("_Answer")

DEFAULT_URL = "http://127.0.0.1:8080"

CONNECT_S = 5.0
# For any answer, on top of what the call itself may wait; streams say something every 15 s.
ANSWER_S = 45.0
# For how long in all a call is asked again that is refused for the moment, and how soon at most.
RETRIED_S = 30.0
LEAST_PAUSE_S = 0.1
# The server is full or draining, or what is in front of it does not reach it.
_NOT_NOW = (429, 502, 503, 504)
# What reading it ends in, if an answer is not of the form that a server of ours gives it.
UNLIKE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


class ServerGone(OrchestratorError):
    """No server answers."""

    def __init__(self, url: str, why: str) -> None:
        self.url = url
        super().__init__(
            f"no server answers at {url} ({why}); start one with `quiesce serve`,"
            " or name another with --server or QUIESCE_SERVER"
        )


class TokenRefused(OrchestratorError):
    """The server wants a token, or another one.

    Attributes:
        problem: what the server said.
    """

    def __init__(self, url: str, problem: Mapping[str, Any]) -> None:
        self.url = url
        self.problem = dict(problem)
        what = "wants a token"
        if not str(problem.get("type")).endswith("no-token"):
            what = f"does not take this token ({problem.get('detail')})"
        super().__init__(f"{url} {what}; give one with --token or QUIESCE_TOKEN")


class CallRefused(OrchestratorError):
    """The server refused a call.

    Attributes:
        status: the HTTP status.
        problem: the problem document; empty if the server sent none.
    """

    def __init__(self, status: int, problem: Mapping[str, Any], url: str) -> None:
        self.status = status
        self.problem = dict(problem)
        unlike = f"{url} does not answer like a server of Quiesce (HTTP {status})"
        super().__init__(str(self.problem.get("detail") or unlike))


class Settings(TypedDict):
    """What every client of ``httpx`` is made with."""

    base_url: str
    headers: dict[str, str]
    timeout: httpx.Timeout
    trust_env: bool
    verify: ssl.SSLContext | bool


def settings(url: str, token: str | None) -> Settings:
    """Return with what to make a client of a server.

    Raises:
        InvalidInput: it is not an HTTP URL, or cannot be a token.
    """
    base = _base_url(url)
    return {
        "base_url": base,
        "headers": _bearing(token),
        "timeout": httpx.Timeout(ANSWER_S, connect=CONNECT_S),
        # A proxy that the environment names is not for a server on this machine.
        "trust_env": False,
        # Against those that the system trusts, or the file that SSL_CERT_FILE names; over
        # plain HTTP there is nothing to verify, and loading them takes time.
        "verify": ssl.create_default_context() if base.startswith("https:") else False,
    }


class Request(TypedDict):
    """What a client of ``httpx`` is told to send."""

    method: str
    url: str
    params: dict[str, str]
    content: str | None
    headers: dict[str, str]
    timeout: httpx.Timeout


def request_of(ask: Ask[Any]) -> Request:
    """Return how to send a call."""
    return {
        "method": ask.method,
        "url": ask.path,
        "params": {name: value for name, value in ask.query.items() if value is not None},
        # Escaped, so that the server hears of text that is no text, and can say so.
        "content": None if ask.body is None else json.dumps(ask.body),
        "headers": {} if ask.key is None else {"Idempotency-Key": ask.key},
        "timeout": httpx.Timeout(ANSWER_S + ask.wait_s, connect=CONNECT_S),
    }


def stream_of(run_id: str, after: int) -> tuple[str, str, dict[str, str]]:
    """Return the method, the path and the headers that ask for a run's stream."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
    return "GET", path_of(run_id, "events"), headers


def meaning_of(ask: Ask[_Answer], response: httpx.Response, url: str) -> _Answer:
    """Return what an answer means, or raise the error that it reports."""
    if not response.is_success:  # nor is a redirection an answer of ours, but of what is in front
        raise error_of(response, url)
    try:
        return ask.read(response)
    except UNLIKE:
        raise CallRefused(response.status_code, {}, url) from None


class Retries:
    """How often a call is asked again that the server refuses for the moment.

    Only what may be asked twice, only when the server says after how long, and not for ever.
    """

    def __init__(self, ask: Ask[Any]) -> None:
        self._left_s = RETRIED_S if ask.repeatable else 0.0

    def pause_s(self, response: httpx.Response) -> float | None:
        """Return after how many seconds to ask again; None if this is the answer."""
        said = response.headers.get("Retry-After", "")
        if response.status_code not in (429, 503) or not re.fullmatch(r"\d{1,6}", said):
            return None
        pause_s = max(float(said), LEAST_PAUSE_S)
        self._left_s -= pause_s
        return pause_s if self._left_s >= 0 else None


class Transport:
    """The connections to one server. For ``with``; may be used from several threads at once.

    Args:
        url: the server's base URL; ``http://`` may be left out.
        token: says who we are; for a server with tokens.

    Raises:
        InvalidInput: it is not an HTTP URL, or cannot be a token.
    """

    def __init__(self, url: str = DEFAULT_URL, *, token: str | None = None) -> None:
        made = settings(url, token)
        self.url = made["base_url"]
        self._http = httpx.Client(**made)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection. May be called twice."""
        self._http.close()

    @contextmanager
    def _stream(self, run_id: str, after: int) -> Iterator[httpx.Response]:
        method, path, headers = stream_of(run_id, after)
        with self._http.stream(method, path, headers=headers) as response:
            if not is_stream(response):
                response.read()
                raise error_of(response, self.url)
            yield response

    def _do(self, ask: Ask[_Answer]) -> _Answer:
        retries = Retries(ask)
        while True:
            try:
                response = self._http.request(**request_of(ask))
            except httpx.RequestError as error:
                raise gone(self.url, error) from None
            pause_s = retries.pause_s(response)
            if pause_s is None:
                return meaning_of(ask, response, self.url)
            time.sleep(pause_s)


def is_stream(response: httpx.Response) -> bool:
    """Whether an answer is an event stream, and not a refusal or somebody's page."""
    kind = response.headers.get("Content-Type", "")
    return response.is_success and kind.startswith("text/event-stream")


def error_of(response: httpx.Response, url: str) -> OrchestratorError:
    """Return the error that an answer reports."""
    try:
        problem = response.json()
    except (ValueError, RecursionError):
        problem = None
    match problem:
        case {"type": str()} if response.status_code == 401:
            return TokenRefused(url, problem)
        case {"type": str()}:
            with suppress(ValueError):  # a status that only a later server has
                if known := _known(problem):
                    return known
            return CallRefused(response.status_code, problem, url)
    return CallRefused(response.status_code, {}, url)


def _known(problem: dict[str, Any]) -> OrchestratorError | None:
    """Return the orchestrator's own error that the server had, if it can be had again."""
    match problem:
        case {"type": "urn:quiesce:unknown-run", "run_id": str(run_id)}:
            return UnknownRun(run_id)
        case {"type": "urn:quiesce:run-ended", "run_id": str(run_id), "run_status": status}:
            return RunEnded(RunId(run_id), RunStatus(status))
        case {"type": "urn:quiesce:illegal-transition", "run_status": status, "move": str(move)}:
            return IllegalTransition(RunStatus(status), move)
        case {
            "type": "urn:quiesce:parent-is-paused",
            "run_id": str(run_id),
            "parent_id": str(parent_id),
        }:
            return ParentIsPaused(RunId(run_id), RunId(parent_id))
        case {
            "type": "urn:quiesce:nobody-asks",
            "run_id": str(run_id),
            "question_id": str(question_id),
        }:
            return NobodyAsks(RunId(run_id), question_id)
    return None


def gone(url: str, error: Exception) -> ServerGone:
    """Return the error that says that nobody answers there."""
    return error if isinstance(error, ServerGone) else ServerGone(url, str(error) or "no answer")


def passing(url: str, error: Exception) -> OrchestratorError:
    """Return an error that may pass: nobody answers, or not now.

    Raises:
        CallRefused: that is the answer.
    """
    if isinstance(error, CallRefused):
        if error.status not in _NOT_NOW:
            raise error
        return error
    return gone(url, error)


def path_of(run_id: str, *rest: str) -> str:
    """Return the path of a run, or of something of it.

    Raises:
        UnknownRun: no run can have that id.
    """
    if run_id in ("", ".", "..") or "/" in run_id:  # which no path can name
        raise UnknownRun(run_id)
    return "/".join(["/runs", *(quote(part, safe="") for part in (run_id, *rest))])


def _bearing(token: str | None) -> dict[str, str]:
    if token is None:
        return {}
    if not re.fullmatch(r"[!-~]+", token):
        raise InvalidInput([("token", "must be printable ASCII without spaces")])
    return {"Authorization": f"Bearer {token}"}


def _base_url(url: str) -> str:
    full = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(full)
        named = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is none, or half of an address in brackets
        named = False
    if not named:
        like = f"is not like {DEFAULT_URL}, with a port from 1 to 65535"
        raise InvalidInput([("server", f"{url!r} {like}")])
    return full.rstrip("/")

"""A synchronous client of a server's HTTP interface.

with Client("http://127.0.0.1:8080") as client:
    run = client.start("crawl", {"url": "http://127.0.0.1:9000"})
    for event in client.events(run.id):
        print(event.type)
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from api.sse import Loss, ending_of, read_events
from orchestrator import (
    InvalidInput,
    OrchestratorError,
    RunEnded,
    RunId,
    RunRecord,
    RunStatus,
    StopMode,
    UnknownRun,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator import Event

DEFAULT_URL = "http://127.0.0.1:8080"

CONNECT_S = 5.0
# For any answer, on top of what the call itself may wait; streams say something every 15 s.
ANSWER_S = 45.0
# One long poll; ``wait`` makes as many as it takes.
WAIT_S = 30.0

_RECORD = TypeAdapter(RunRecord)


class ServerGone(OrchestratorError):
    """No server answers."""

    def __init__(self, url: str, why: str) -> None:
        self.url = url
        super().__init__(
            f"no server answers at {url} ({why}); start one with `quiesce serve`,"
            " or name another with --server or QUIESCE_SERVER"
        )


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


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as a server shows it.

    Attributes:
        partial: its latest partial result; None in lists and in the answer to a stop.
        json: the whole answer as it came.
    """

    record: RunRecord
    partial: Any
    json: dict[str, Any]

    @property
    def id(self) -> RunId:
        """The run's id."""
        return self.record.id


class Client:
    """One server. For ``with``; may be used from several threads at once.

    Every method raises ``ServerGone`` if nobody answers, ``UnknownRun`` for a run that the server
    does not know, and ``CallRefused`` for any other error that the server reports.

    Args:
        url: the server's base URL; ``http://`` may be left out.

    Raises:
        InvalidInput: it is not an HTTP URL.
    """

    def __init__(self, url: str = DEFAULT_URL) -> None:
        self.url = _base_url(url)
        # A proxy that the environment names is not for a server on this machine.
        self._http = httpx.Client(
            base_url=self.url,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection. May be called twice."""
        self._http.close()

    def agents(self) -> list[dict[str, Any]]:
        """Return the registered agents: name, description, input_schema, options, …"""
        return list(self._call("GET", "/agents")["agents"])

    def start(
        self,
        agent: str,
        input: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> RunView:
        """Start a run; it is durable when this returns."""
        order = {"agent": agent, "input": dict(input or {}), "options": dict(options or {})}
        return self._view(self._call("POST", "/runs", body=order))

    def runs(
        self, *, after: str | None = None, limit: int = 50, **where: str | None
    ) -> tuple[list[RunView], str | None]:
        """Return a page of runs, newest first, and the cursor of the next page.

        Args:
            where: ``status agent owner tag root parent``; ``parent="none"`` for roots alone.
        """
        query = {"after": after, "limit": str(limit), **where}
        page = self._call("GET", "/runs", query=query)
        return [self._view(each) for each in page["runs"]], page["next"]

    def get(self, run_id: str, *, wait_s: float = 0) -> RunView:
        """Return a run, once it has ended or ``wait_s`` seconds are over."""
        query = {"wait_s": str(wait_s)} if wait_s else {}
        return self._view(self._call("GET", _path(run_id), query=query, wait_s=wait_s))

    def wait(self, run_id: str) -> RunView:
        """Wait until the run has ended, and return it."""
        while True:
            view = self.get(run_id, wait_s=WAIT_S)
            if view.record.status.is_terminal:
                return view
            time.sleep(0.05)  # should the server not take its time

    def tree(self, run_id: str) -> list[RunView]:
        """Return the run and its sub-agents, parents before children."""
        found = [self._call("GET", _path(run_id, "tree"))]
        for node in found:
            found.extend(node["children"])
        return [self._view(node) for node in found]

    def stop(
        self,
        run_id: str,
        *,
        mode: StopMode | str = StopMode.GRACEFUL,
        grace_s: float | None = None,
        reason: str = "",
        wait_s: float = 0,
    ) -> RunView:
        """Stop a run. The stop is durable when this returns; its receipt is ``record.stop``.

        Args:
            wait_s: how long to wait for the run to be torn down.

        Raises:
            RunEnded: it had ended without a stop.
        """
        order = {"mode": StopMode(mode), "reason": reason, "wait_s": wait_s}
        if grace_s is not None:
            order["grace_s"] = grace_s
        answer = self._call("POST", _path(run_id, "stop"), body=order, wait_s=wait_s)
        return self._view(answer["run"])

    def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        on_lost: Callable[[], None] = lambda: None,
    ) -> Iterator[Event]:
        """Yield the events of a run and its sub-agents, each once, until the run's final one.

        A connection that is lost is made again, from the last event on, for half a minute.

        Args:
            after: events up to this number are left out.
            on_lost: called when the connection is lost.
        """
        over, loss = False, Loss(on_lost)
        while True:
            try:
                with self._stream(run_id, after) as response:
                    loss.made_good()
                    for event in read_events(response.iter_bytes()):
                        if event.seq > after:
                            after = event.seq
                            yield event
                        if event.run_id == run_id and ending_of(event):
                            return
                # A stream that ends without that is one of a server that closes, or one that
                # began behind the end. If the run was over before it began, it has said all.
                if over:
                    return
                over = self.get(run_id).record.status.is_terminal
            except (httpx.TransportError, ServerGone) as error:
                loss.bear(_gone(self.url, error))

    @contextmanager
    def _stream(self, run_id: str, after: int) -> Iterator[httpx.Response]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        with self._http.stream("GET", _path(run_id, "events"), headers=headers) as response:
            if response.is_error:
                response.read()
                raise self._error(response)
            yield response

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | None] | None = None,
        body: Any = None,
        wait_s: float = 0,
    ) -> Any:
        try:
            response = self._http.request(
                method,
                path,
                params={name: value for name, value in (query or {}).items() if value is not None},
                json=body,
                timeout=httpx.Timeout(ANSWER_S + wait_s, connect=CONNECT_S),
            )
        except httpx.TransportError as error:
            raise _gone(self.url, error) from None
        if response.is_error:
            raise self._error(response)
        try:
            return response.json()
        except ValueError:
            raise CallRefused(response.status_code, {}, self.url) from None

    def _error(self, response: httpx.Response) -> OrchestratorError:
        try:
            problem = response.json()
        except ValueError:
            problem = None
        match problem:
            case {"type": "urn:quiesce:unknown-run", "run_id": str(run_id)}:
                return UnknownRun(run_id)
            case {"type": "urn:quiesce:run-ended", "run_id": str(run_id), "run_status": status}:
                return RunEnded(RunId(run_id), RunStatus(status))
            case {"type": str()}:
                return CallRefused(response.status_code, problem, self.url)
        return CallRefused(response.status_code, {}, self.url)

    def _view(self, answer: dict[str, Any]) -> RunView:
        try:
            record = _RECORD.validate_python(answer)
        except ValidationError:
            raise CallRefused(200, {}, self.url) from None
        return RunView(record, answer.get("partial"), answer)


def _gone(url: str, error: Exception) -> ServerGone:
    return error if isinstance(error, ServerGone) else ServerGone(url, str(error) or "no answer")


def _path(run_id: str, *rest: str) -> str:
    if run_id in ("", ".", "..") or "/" in run_id:  # which no path can name
        raise UnknownRun(run_id)
    return "/".join(["/runs", quote(run_id, safe=""), *rest])


def _base_url(url: str) -> str:
    full = url if "://" in url else f"http://{url}"
    parts = urlsplit(full)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput([("server", f"{url!r} is not like {DEFAULT_URL}")])
    return full.rstrip("/")

"""A transport for ``httpx`` that answers from a script: no sockets, delays in Trio's time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx
import trio

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One scripted answer.

    Attributes:
        text, json: the body, as text or as a value to encode; ``chunks`` instead sends it piece
            by piece, each after so many seconds.
        delay_s: seconds before the head of the answer.
        error: raised after the delay instead of an answer, such as ``httpx.ConnectError("…")``.
    """

    status: int = 200
    text: str = ""
    json: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: Sequence[tuple[float, bytes]] = ()
    delay_s: float = 0.0
    error: Exception | None = None

    @property
    def body(self) -> list[tuple[float, bytes]]:
        """The body as pieces, each with the seconds before it."""
        if self.json is not None:
            return [(0.0, json.dumps(self.json).encode())]
        return list(self.chunks) or [(0.0, self.text.encode())]

    @property
    def content_type(self) -> str:
        """What the body is, unless the headers say."""
        return "application/json" if self.json is not None else "text/html; charset=utf-8"


Answer: TypeAlias = Reply | Callable[[httpx.Request], Reply]


@dataclass(slots=True, eq=False)
class Seen:
    """A request that came.

    Attributes:
        at: when, on Trio's clock.
        content: its body.
        done: the answer was read to its end.
        closed: the answer was closed, or never given.
    """

    method: str
    url: str
    headers: dict[str, str]
    content: bytes
    at: float
    done: bool = False
    closed: bool = False

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.content)


class ScriptedHTTP(httpx.AsyncBaseTransport):
    """Pass it as ``transport`` to ``open_orchestrator`` or to a sweep.

    Attributes:
        requests: what came, in order.
    """

    def __init__(self, otherwise: Answer | None = None) -> None:
        """Make a transport.

        Args:
            otherwise: answers what nothing is scripted for; a 404 if left out.
        """
        self.requests: list[Seen] = []
        self._otherwise = otherwise or Reply(status=404, text="nothing is scripted for this")
        self._scripts: dict[tuple[str, str], list[Answer]] = {}
        self._used: dict[tuple[str, str], int] = {}
        self._restarts: list[Callable[[], None]] = []

    def on(self, method: str, url: str, *answers: Answer, **reply: Any) -> None:
        """Script what a URL answers: the answers in turn, the last one from then on.

        Args:
            answers: replies, or functions of the request that return one.
            reply: the fields of one ``Reply``, instead of answers.
        """
        key = method.upper(), str(httpx.URL(url))
        self._scripts.setdefault(key, []).extend(answers or [Reply(**reply)])

    def on_restart(self, call: Callable[[], None]) -> None:
        """Call that too whenever the script begins anew."""
        self._restarts.append(call)

    def restart(self) -> None:
        """Begin the script anew, and forget the requests."""
        self.requests.clear()
        self._used.clear()
        for call in self._restarts:
            call()

    @property
    def open(self) -> list[Seen]:
        """The requests whose answers were not closed."""
        return [seen for seen in self.requests if not seen.closed]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer; ``httpx`` calls this."""
        content = await request.aread()
        url = str(request.url.copy_with(fragment=None))
        headers = dict(request.headers)
        seen = Seen(request.method, url, headers, content, trio.current_time())
        self.requests.append(seen)
        answer = self._next(request.method, url)
        reply = answer(request) if callable(answer) else answer
        try:
            await trio.sleep(reply.delay_s)
            if reply.error is not None:
                raise reply.error
        except BaseException:
            seen.closed = True
            raise
        headers = {"content-type": reply.content_type, **reply.headers}
        return httpx.Response(reply.status, headers=headers, stream=_Body(reply, seen))

    def _next(self, method: str, url: str) -> Answer:
        script = self._scripts.get((method, url))
        if script is None:
            return self._otherwise
        turn = self._used[method, url] = self._used.get((method, url), -1) + 1
        return script[min(turn, len(script) - 1)]


class _Body(httpx.AsyncByteStream):
    def __init__(self, reply: Reply, seen: Seen) -> None:
        self._reply = reply
        self._seen = seen

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for delay_s, chunk in self._reply.body:
            await trio.sleep(delay_s)
            yield chunk
        self._seen.done = True

    async def aclose(self) -> None:
        self._seen.closed = True

"""A language model at the other end of the wire: scripted answers on a real socket, and notes.

    async with open_model_server() as server:
        server.will(say("Hel", go_on, "lo"), fail(429, retry_after_s=1), hang())

Each request takes the next answer of the script; once that is used up, the answer is ``ok``. A
``trio.Event`` among the pieces of an answer is waited for, so that a test decides how far it gets.
"""

from __future__ import annotations

import json
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h11
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    Answer = Callable[["Talk"], Awaitable[None]]

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
EVENT_STREAM = "text/event-stream"


@dataclass(eq=False)
class Asked:
    """One request as the server saw it; ``finished`` is when its whole answer was sent."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    begun: float
    finished: float | None = None


@dataclass(eq=False)
class Connection:
    """One connection as the server saw it. Times are on Trio's clock; ``closed`` by either side."""

    opened: float
    closed: float | None = None
    asked: list[Asked] = field(default_factory=list)


class ModelServer:
    """What the server will answer, and what it has seen."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[Connection] = []
        self._script: deque[Answer] = deque()
        self._changed = trio.Event()

    @property
    def url(self) -> str:
        """The base URL, as clients of OpenAI take it."""
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def open(self) -> list[Connection]:
        """The connections that nobody has closed."""
        return [each for each in self.connections if each.closed is None]

    @property
    def asked(self) -> list[Asked]:
        """All requests, in the order of their arrival."""
        return sorted((a for c in self.connections for a in c.asked), key=lambda a: a.begun)

    def will(self, *answers: Answer) -> None:
        """Add answers to the script."""
        self._script.extend(answers)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the server has seen something."""
        while not condition():
            await self._changed.wait()

    async def until_asked(self, times: int = 1) -> None:
        """Wait until so many requests have arrived in all."""
        await self.until(lambda: len(self.asked) >= times)

    def changed(self) -> None:
        """Wake those who wait for something to be seen."""
        self._changed.set()
        self._changed = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Serve one connection until its client leaves."""
        connection = Connection(trio.current_time())
        self.connections.append(connection)
        try:
            async with stream, trio.open_nursery() as nursery:
                talk = Talk(stream)
                nursery.start_soon(talk.listen, nursery.cancel_scope)
                while not nursery.cancel_scope.cancel_called:
                    asked = await talk.next_request()
                    connection.asked.append(asked)
                    self.changed()
                    await (self._script.popleft() if self._script else say("ok"))(talk)
                    asked.finished = trio.current_time()
                    self.changed()
        except* trio.BrokenResourceError:
            pass
        finally:
            connection.closed = trio.current_time()
            self.changed()


class Talk:
    """One connection, in the hands of an answer."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER)
        self._heard = trio.Event()
        self.asked = Asked("", {}, {}, 0.0)

    async def listen(self, leaving: trio.CancelScope) -> None:
        """Take in what the client sends, and notice when it leaves, whatever is under way."""
        with suppress(trio.BrokenResourceError):
            while data := await self._stream.receive_some():
                self._http.receive_data(data)
                self._heard.set()
        leaving.cancel()

    async def next_request(self) -> Asked:
        """Wait for a request, its body included."""
        if self._http.our_state is h11.DONE:
            self._http.start_next_cycle()
        head, body = None, b""
        while not isinstance(event := self._http.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                await self._heard.wait()
                self._heard = trio.Event()
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
        assert head is not None
        headers = {name.decode(): value.decode() for name, value in head.headers}
        path = head.target.decode()
        self.asked = Asked(path, headers, json.loads(body or b"{}"), trio.current_time())
        return self.asked

    async def begin(
        self, status: int, content_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send the head of an answer."""
        all_headers = {"content-type": content_type, "transfer-encoding": "chunked"}
        all_headers |= headers or {}
        await self._send(h11.Response(status_code=status, headers=list(all_headers.items())))

    async def write(self, data: bytes) -> None:
        """Send a piece of the body."""
        await self._send(h11.Data(data=data))

    async def end(self) -> None:
        """Send the end of the body."""
        await self._send(h11.EndOfMessage())

    async def chunk(self, **data: Any) -> None:
        """Send one chunk of a stream of completions."""
        chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, **data}
        await self.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            await self._stream.send_all(data)


def say(
    *pieces: str | trio.Event,
    calls: Sequence[tuple[str, dict[str, Any] | str]] = (),
    usage: Mapping[str, Any] | None = USAGE,
    finish: str | None = None,
) -> Answer:
    """Answer with a text and tool calls: piece by piece if a stream is asked for, else as a whole.

    Args:
        calls: name and arguments of each; arguments that are a string are sent as they are.
        usage: what is reported; None for nothing.
    """
    finish = finish or ("tool_calls" if calls else "stop")
    functions = [
        {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)}
        for name, given in calls
    ]
    tools = [
        {"id": f"call_{n}", "type": "function", "function": each}
        for n, each in enumerate(functions, 1)
    ]

    async def streamed(talk: Talk, model: str) -> None:
        await talk.begin(200, EVENT_STREAM)
        for piece in pieces:
            if isinstance(piece, trio.Event):
                await piece.wait()
            else:
                delta: dict[str, Any] = {"role": "assistant", "content": piece}
                await talk.chunk(model=model, choices=[{"index": 0, "delta": delta}])
        for index, tool in enumerate(tools):
            for part in _fragments(tool):
                delta = {"tool_calls": [{"index": index, **part}]}
                await talk.chunk(model=model, choices=[{"index": 0, "delta": delta}])
        last = {"index": 0, "delta": {}, "finish_reason": finish}
        await talk.chunk(model=model, choices=[last])
        if usage is not None and talk.asked.body.get("stream_options", {}).get("include_usage"):
            await talk.chunk(model=model, choices=[], usage=usage)
        await talk.write(b"data: [DONE]\n\n")
        await talk.end()

    async def whole(talk: Talk, model: str) -> None:
        for piece in pieces:
            if isinstance(piece, trio.Event):
                await piece.wait()
        text = "".join(piece for piece in pieces if isinstance(piece, str))
        message: dict[str, Any] = {"role": "assistant", "content": text or None}
        if tools:
            message["tool_calls"] = tools
        choice = {"index": 0, "message": message, "finish_reason": finish}
        completion = {"id": "c1", "object": "chat.completion", "created": 1, "model": model}
        completion |= {"choices": [choice]} | ({} if usage is None else {"usage": usage})
        await _send_json(talk, 200, completion)

    async def answer(talk: Talk) -> None:
        body = talk.asked.body
        await (streamed if body.get("stream") else whole)(talk, body.get("model", ""))

    return answer


def fail(status: int, *, retry_after_s: float | None = None, message: str = "no") -> Answer:
    """Answer with an error, as OpenAI words it."""

    async def answer(talk: Talk) -> None:
        headers = {} if retry_after_s is None else {"retry-after": f"{retry_after_s:g}"}
        await _send_json(talk, status, {"error": {"message": message, "type": "error"}}, headers)

    return answer


def send(*parts: bytes | trio.Event, content_type: str = EVENT_STREAM, end: bool = True) -> Answer:
    """Answer with these very bytes; without an ``end`` the connection is cut after them."""

    async def answer(talk: Talk) -> None:
        await talk.begin(200, content_type)
        for part in parts:
            if isinstance(part, trio.Event):
                await part.wait()
            else:
                await talk.write(part)
        if not end:
            raise trio.BrokenResourceError
        await talk.end()

    return answer


def hang() -> Answer:
    """Take the request, and never say a word."""

    async def answer(talk: Talk) -> None:
        await trio.sleep_forever()

    return answer


def _fragments(tool: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a tool call in the pieces in which models stream it."""
    arguments = tool["function"]["arguments"]
    half = len(arguments) // 2
    return [
        tool | {"function": {"name": tool["function"]["name"], "arguments": ""}},
        {"function": {"arguments": arguments[:half]}},
        {"function": {"arguments": arguments[half:]}},
    ]


async def _send_json(
    talk: Talk, status: int, data: object, headers: Mapping[str, str] | None = None
) -> None:
    await talk.begin(status, "application/json", headers)
    await talk.write(json.dumps(data).encode())
    await talk.end()


@asynccontextmanager
async def open_model_server() -> AsyncIterator[ModelServer]:
    """Serve on loopback while the body runs."""
    server = ModelServer()
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=1000)
        server.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        yield server
        nursery.cancel_scope.cancel()

"""The reader of an event stream, straight from its socket."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import h11
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Reader:
    """Reads the frames of an event stream one by one, straight from the socket.

    (Leaving a stream of httpx before its end leaves generators to the collector.)
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)
        self._text = ""
        # The whole run, once it was told at the end of its feed.
        self.snapshot: dict[str, Any] | None = None

    async def open(self, path: str, headers: dict[str, str]) -> None:
        """Ask for the stream."""
        fields = [("Host", "localhost"), *headers.items()]
        request = h11.Request(method="GET", target=path, headers=fields)
        await self._stream.send_all(self._http.send(request) or b"")
        await self._stream.send_all(self._http.send(h11.EndOfMessage()) or b"")
        response = await self._next()
        assert isinstance(response, h11.Response)
        assert response.status_code == 200
        assert (b"content-type", b"text/event-stream") in response.headers

    async def _next(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive_some())
        return event

    async def frame(self) -> str | None:
        """Return the next frame, or None at the proper end of the stream."""
        while "\n\n" not in self._text:
            match await self._next():
                case h11.Data(data=data):
                    self._text += bytes(data).decode()
                case h11.EndOfMessage():
                    return None
                case other:
                    raise AssertionError(f"the stream was cut: {other!r}")
        frame, _, self._text = self._text.partition("\n\n")
        return frame

    async def fields(self) -> dict[str, str] | None:
        """Return the fields of the next frame that has data, or None at the end."""
        while (frame := await self.frame()) is not None:
            fields = dict(line.split(": ", 1) for line in frame.splitlines())
            if "data" in fields:
                return fields
        return None

    async def event(self) -> dict[str, Any] | None:
        """Return the next event of a run's feed, or None at the end.

        What comes between the last event and the end is the snapshot, and nothing else.
        """
        if (fields := await self.fields()) is None:
            return None
        if fields["event"] == "snapshot":
            assert "id" not in fields
            self.snapshot = json.loads(fields["data"])
            assert await self.frame() is None
            return None
        event: dict[str, Any] = json.loads(fields["data"])
        assert (fields["id"], fields["event"]) == (str(event["seq"]), event["type"])
        return event

    async def notice(self) -> tuple[str, dict[str, Any]]:
        """Return the next position and event of the feed of all runs."""
        fields = await self.fields()
        assert fields is not None
        event: dict[str, Any] = json.loads(fields["data"])
        assert fields["event"] == event["type"]
        return fields["id"], event

    async def reset(self) -> str:
        """Return the position of a reset, which must be next."""
        fields = await self.fields()
        assert fields is not None
        assert fields["event"] == "reset", fields
        assert json.loads(fields["data"]) == {"position": fields["id"]}
        return fields["id"]

    async def rest(self) -> list[dict[str, Any]]:
        """Return all events up to the end."""
        events = []
        while (event := await self.event()) is not None:
            events.append(event)
        return events


@asynccontextmanager
async def reading(url: str, path: str, **headers: str) -> AsyncIterator[Reader]:
    """Open an event stream; the underscores of ``headers`` are dashes."""
    async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as stream:
        reader = Reader(stream)
        await reader.open(path, {name.replace("_", "-"): value for name, value in headers.items()})
        yield reader

"""Server-sent events: feeds as streams that may be resumed.

A stream holds a cursor and nothing else, so a slow reader costs no memory: what it has not read
stays in the store. No scope or nursery spans a ``yield``; cleanup is synchronous.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import trio
from quart import Response, json

from api.schema import event_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from orchestrator import Event, Listener, Subscription

KEEP_ALIVE_S = 15.0
# What a stream that is behind gets to catch up when the server closes.
CLOSING_S = 0.2
# What a reader that lost its connection waits before it connects again.
RETRY_MS = 1000


class Source(Protocol):
    """Where a stream comes from."""

    @property
    def behind(self) -> bool:
        """Whether there is something that the reader has not seen yet."""

    @property
    def idle(self) -> str:
        """What to send when nothing has happened for a while."""

    async def next_frames(self) -> str:
        """Wait for what comes next; empty at the end. May be cancelled; nothing is lost by it."""


class OneRun:
    """The feed of a run and its sub-agents up to its final event, and then the whole run.

    Args:
        snapshot: returns the whole run as JSON.
    """

    idle = ": keep-alive\n\n"

    def __init__(
        self, subscription: Subscription, snapshot: Callable[[], Awaitable[dict[str, Any]]]
    ) -> None:
        self._subscription = subscription
        self._snapshot = snapshot
        self._all_said = False

    @property
    def behind(self) -> bool:
        """See ``Source.behind``."""
        return self._subscription.behind or (self._subscription.over and not self._all_said)

    async def next_frames(self) -> str:
        """See ``Source.next_frames``."""
        batch = await self._subscription.next_batch()
        if batch or self._all_said:
            return "".join(_frame(str(event.seq), event) for event in batch)
        run = json.dumps(await self._snapshot())
        self._all_said = True
        # Without an id, so that who comes back does so with the number of an event.
        return f"event: snapshot\ndata: {run}\n\n"


class AllRuns:
    """The events of all runs; a reader that has no place in them is told where they are."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    @property
    def behind(self) -> bool:
        """See ``Source.behind``."""
        return self._listener.behind

    @property
    def idle(self) -> str:
        """A comment, and the position: a reader of few events does not lose its place so."""
        return f": keep-alive\nid: {self._listener.position}\n\n"

    async def next_frames(self) -> str:
        """See ``Source.next_frames``."""
        heard = await self._listener.next_batch()
        if heard is None:
            position = self._listener.position
            return f"id: {position}\nevent: reset\ndata: {json.dumps({'position': position})}\n\n"
        return "".join(_frame(each.position, each.event) for each in heard)


class Streams:
    """The open streams of a server, so that they can end before it does.

    Attributes:
        closing: streams end as soon as their readers have what there is.
    """

    def __init__(self) -> None:
        self.closing = False
        self._naps: set[trio.CancelScope] = set()

    def close(self) -> None:
        """End every stream. May be called twice."""
        self.closing = True
        for nap in self._naps:
            nap.cancel()

    @contextmanager
    def nap(self) -> Iterator[None]:
        """Let the body wait for a while at most, and not much beyond the closing."""
        with trio.move_on_after(CLOSING_S if self.closing else KEEP_ALIVE_S) as scope:
            self._naps.add(scope)
            try:
                yield
            finally:
                self._naps.discard(scope)

    def respond(self, source: Source) -> Response:
        """Return the response that streams a source."""
        response = Response(
            self._frames(source),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        # Quart's default would cut the stream after a minute.
        response.timeout = None
        return response

    async def _frames(self, source: Source) -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MS}\n\n".encode()
        while not (closing := self.closing) or source.behind:
            frames: str | None = None
            with self.nap():
                # One write for all that has come: at 1,000 events a second a write for each
                # would be too slow.
                frames = await source.next_frames()
            if frames is None and not closing:
                frames = source.idle
            if not frames:
                return
            yield frames.encode()


def _frame(place: str, event: Event) -> str:
    return f"id: {place}\nevent: {event.type}\ndata: {event_text(event)}\n\n"

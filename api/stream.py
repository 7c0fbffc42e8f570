"""Server-sent events: a run's feed as a stream that may be resumed.

A stream holds a cursor and nothing else, so a slow reader costs no memory: what it has not read
stays in the store. No scope or nursery spans a ``yield``; cleanup is synchronous.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio
from quart import Response, json

from api.schema import event_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from orchestrator import Event, Subscription

KEEP_ALIVE_S = 15.0
# What a reader that lost its connection waits before it connects again.
RETRY_MS = 1000


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
    def nap(self, seconds: float) -> Iterator[None]:
        """Let the body wait that long at most, and not beyond the closing."""
        with trio.move_on_after(seconds) as scope:
            self._naps.add(scope)
            try:
                yield
            finally:
                self._naps.discard(scope)

    def respond(self, subscription: Subscription) -> Response:
        """Return the response that streams a subscription."""
        response = Response(
            self._events(subscription),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        # Quart's default would cut the stream after a minute.
        response.timeout = None
        return response

    async def _events(self, subscription: Subscription) -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MS}\n\n".encode()
        while not self.closing or subscription.behind:
            batch: list[Event] | None = None
            with self.nap(KEEP_ALIVE_S):
                batch = await subscription.next_batch()
            if batch is None:
                yield b": keep-alive\n\n"
            elif not batch:
                return
            else:
                # One write for all that has come: at 1,000 events a second a write for each
                # would be too slow.
                yield "".join(map(_frame, batch)).encode()


def _frame(event: Event) -> str:
    return f"id: {event.seq}\nevent: {event.type}\ndata: {json.dumps(event_json(event))}\n\n"

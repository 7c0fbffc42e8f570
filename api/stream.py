"""Feeds as streams that may be resumed: what they are made of, and as server-sent events.

A stream holds a cursor and nothing else, so a slow reader costs no memory: what it has not read
stays in the store. No scope or nursery spans a ``yield``; cleanup is synchronous.
"""

from __future__ import annotations

from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import trio
from quart import Response, json, request

from api.audience import Audience
from api.encoding import plain

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator

    from orchestrator import Listener, Run, Subscription

KEEP_ALIVE_S = 15.0
# What a stream that is behind gets to catch up when the server closes.
CLOSING_S = 0.2
# What a reader that lost its connection waits before it connects again.
RETRY_MS = 1000


class Part(NamedTuple):
    """One thing that a stream says.

    Attributes:
        name: the type of an event, ``snapshot``, ``reset``, or empty for nothing but the place.
        place: where a reader goes on that has seen this; None if it is no place.
        data: JSON text; empty only if ``name`` is.
    """

    name: str
    place: str | None
    data: str = ""


class Source(Protocol):
    """Where a stream comes from."""

    @property
    def run(self) -> Run | None:
        """The live run that the reader watches; None if it watches no one in particular."""

    @property
    def behind(self) -> bool:
        """Whether there is something that the reader has not seen yet."""

    @property
    def place(self) -> str | None:
        """Where a reader stands that hears nothing for a while; None if it does not move."""

    async def next_parts(self) -> list[Part]:
        """Wait for what comes next; empty at the end. May be cancelled; nothing is lost by it."""


class OneRun:
    """The feed of a run and its sub-agents up to its final event, and then the whole run.

    Args:
        run: the run, while it is live.
        snapshot: returns the whole run as JSON.
    """

    place = None

    def __init__(
        self,
        subscription: Subscription,
        run: Run | None,
        snapshot: Callable[[], Awaitable[dict[str, Any]]],
    ) -> None:
        self.run = run
        self._subscription = subscription
        self._snapshot = snapshot
        self._all_said = False

    @property
    def behind(self) -> bool:
        """See ``Source.behind``."""
        return self._subscription.behind or (self._subscription.over and not self._all_said)

    async def next_parts(self) -> list[Part]:
        """See ``Source.next_parts``."""
        batch = await self._subscription.next_batch()
        if batch or self._all_said:
            return [Part(event.type, str(event.seq), plain(event).decode()) for event in batch]
        snapshot = Part("snapshot", None, plain(await self._snapshot()).decode())
        self._all_said = True
        return [snapshot]


class AllRuns:
    """The events of all runs; a reader that has no place in them is told where it is."""

    run = None

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    @property
    def behind(self) -> bool:
        """See ``Source.behind``."""
        return self._listener.behind

    @property
    def place(self) -> str:
        """See ``Source.place``: a reader of few events must not lose its place by that."""
        return self._listener.position

    async def next_parts(self) -> list[Part]:
        """See ``Source.next_parts``."""
        heard = await self._listener.next_batch()
        if heard is None:
            place = self._listener.position
            return [Part("reset", place, json.dumps({"position": place}))]
        return [Part(each.event.type, each.position, plain(each.event).decode()) for each in heard]


class Streams:
    """The open streams of a server, so that they can end before it does.

    Attributes:
        closing: set when streams are to end, as soon as their readers have what there is.
        audience: who watches which run.
    """

    def __init__(self) -> None:
        self.closing = trio.Event()
        self.audience = Audience()
        self._naps: set[trio.CancelScope] = set()

    def close(self) -> None:
        """End every stream, for the server does. May be called twice."""
        self.audience.close()
        self._end()

    def renew(self) -> None:
        """End every stream that is open now, but none that is opened from now on.

        Whoever comes back goes on where they were, and is asked anew who they are.
        """
        self._end()
        self.closing = trio.Event()

    def _end(self) -> None:
        self.closing.set()
        for nap in self._naps:
            nap.cancel()

    async def follow(self, source: Source) -> AsyncGenerator[list[Part], None]:
        """Yield what the source has, as it comes, and where the reader stands in a silence."""
        closing = self.closing
        with self.audience.watching(source.run):
            async with aclosing(self._parts(source)) as following:
                async for parts in following:
                    yield parts
        if closing is not self.closing:
            self.audience.expect(source.run)

    async def _parts(self, source: Source) -> AsyncGenerator[list[Part], None]:
        closing = self.closing
        while not (over := closing.is_set()) or source.behind:
            parts: list[Part] | None = None
            with self._nap(CLOSING_S if over else KEEP_ALIVE_S):
                parts = await source.next_parts()
            if parts is None and not over:
                parts = [Part("", source.place)]
            if not parts:
                return
            yield parts

    @contextmanager
    def _nap(self, seconds: float) -> Iterator[None]:
        """Let the body wait for so long at most, and not much beyond the closing."""
        with trio.move_on_after(seconds) as scope:
            self._naps.add(scope)
            try:
                yield
            finally:
                self._naps.discard(scope)

    def respond(self, source: Source) -> Response:
        """Return the response that streams a source as server-sent events."""
        # Of a stream that nobody is sent, the end would keep its connection from the next request.
        heads_only = request.method == "HEAD"
        response = Response(
            _no_frames() if heads_only else self._frames(source),
            content_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        # Quart's default would cut the stream after a minute.
        response.timeout = None
        return response

    async def _frames(self, source: Source) -> AsyncIterator[bytes]:
        yield f"retry: {RETRY_MS}\n\n".encode()
        async with aclosing(self.follow(source)) as following:
            async for parts in following:
                # One write for all that has come: at 1,000 events a second a write for each
                # would be too slow.
                yield "".join(map(_frame, parts)).encode()


async def _no_frames() -> AsyncIterator[bytes]:
    return
    yield


def _frame(part: Part) -> str:
    place = "" if part.place is None else f"id: {part.place}\n"
    if not part.name:
        return f": keep-alive\n{place}\n"
    return f"{place}event: {part.name}\ndata: {part.data}\n\n"

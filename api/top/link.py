"""One server: its calls and its streams, for Textual's event loop."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import httpx

from api import asks
from api.asks import Ask, view_of
from api.sse import FrameReader, event_of
from api.transport import (
    CONNECT_S,
    error_of,
    gone,
    is_stream,
    meaning_of,
    path_of,
    request_of,
    settings,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from api.sse import Frame
    from orchestrator import Event, RunRecord

_Answer = TypeVar("_Answer")

# A stream says something every 15 s.
SILENCE_S = 35.0


class Link:
    """The connections to one server. For ``async with``.

    Every method raises ``ServerGone``, ``TokenRefused``, ``UnknownRun`` and ``CallRefused`` as
    those of ``Client`` do.

    Args:
        url: the server's base URL; ``http://`` may be left out.
        token: says who we are; for a server with tokens.

    Raises:
        InvalidInput: it is not an HTTP URL, or cannot be a token.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        made = settings(url, token)
        self.url: str = made["base_url"]
        made["headers"] = {"Accept": "application/json", **made["headers"]}
        self._http = httpx.AsyncClient(**made)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def runs(
        self, *, limit: int, after: str | None = None, **where: str | None
    ) -> tuple[list[RunRecord], str | None]:
        """Return a page of runs, newest first, without their inputs and results, and the cursor
        of the next page."""
        views, following = await self._do(asks.runs(after, limit, True, where))
        return [view.record for view in views], following

    async def get(self, run_id: str) -> RunRecord:
        """Return a run."""
        return (await self._do(asks.get(run_id, 0))).record

    async def events(self, run_id: str, *, after: int) -> tuple[list[Event], int | None]:
        """Return a page of a run's feed, and where the next one begins."""

        def read(response: httpx.Response) -> tuple[list[Event], int | None]:
            page = response.json()
            return [event_of(each) for each in page["events"]], page["next"]

        query = {"after": str(after)}
        return await self._do(Ask("GET", path_of(run_id, "events"), read, query=query))

    async def ask(self, run_id: str, verb: str, **order: Any) -> RunRecord:
        """Ask something of a run: ``stop pause resume rerun``.

        Returns:
            the run, as durable as its answer; of ``rerun`` the new one.

        Raises:
            RunEnded, IllegalTransition, ParentIsPaused: its status does not allow it.
        """

        def read(response: httpx.Response) -> RunRecord:
            answer = response.json()
            return view_of(answer.get("run", answer)).record

        return await self._do(Ask("POST", path_of(run_id, verb), read, body=order))

    @asynccontextmanager
    async def stream(self, path: str, last: str | None) -> AsyncIterator[AsyncIterator[Frame]]:
        """Open an event stream, behind its event ``last``, for the time of the body."""
        headers = {"Accept": "text/event-stream"}
        headers |= {} if last is None else {"Last-Event-ID": last}
        patience = httpx.Timeout(SILENCE_S, connect=CONNECT_S)
        try:
            async with self._http.stream(
                "GET", path, headers=headers, timeout=patience
            ) as response:
                if not is_stream(response):
                    await response.aread()
                    raise error_of(response, self.url)
                yield _frames(response)
        except httpx.RequestError as error:
            raise gone(self.url, error) from None

    async def _do(self, ask: Ask[_Answer]) -> _Answer:
        try:
            response = await self._http.request(**request_of(ask))
        except httpx.RequestError as error:
            raise gone(self.url, error) from None
        return meaning_of(ask, response, self.url)


async def _frames(response: httpx.Response) -> AsyncIterator[Frame]:
    reader = FrameReader()
    async for chunk in response.aiter_bytes():
        for frame in reader.feed(chunk):
            yield frame

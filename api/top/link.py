"""One server: its calls and its streams, for Textual's event loop."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from api.sse import FrameReader, event_of
from api.transport import CONNECT_S, CallRefused, error_of, gone, path_of, request_of, settings_of
from api.views import view_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self, Unpack

    from api.sse import Frame
    from api.transport import Asked
    from orchestrator import Event, RunRecord

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
        settings = settings_of(url, token)
        self.url: str = settings["base_url"]
        settings["headers"] = {"Accept": "application/json", **settings["headers"]}
        self._http = httpx.AsyncClient(**settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def runs(self, **query: str | None) -> tuple[list[RunRecord], str | None]:
        """Return a page of runs, newest first, and the cursor of the next page."""
        page = await self._call("GET", "/runs", query=query)
        return [view_of(each, self.url).record for each in page["runs"]], page["next"]

    async def get(self, run_id: str) -> RunRecord:
        """Return a run."""
        return view_of(await self._call("GET", path_of(run_id)), self.url).record

    async def events(self, run_id: str, *, after: int) -> tuple[list[Event], int | None]:
        """Return a page of a run's feed, and where the next one begins."""
        path = path_of(run_id, "events")
        page = await self._call("GET", path, query={"after": str(after)})
        return [event_of(each) for each in page["events"]], page["next"]

    async def ask(self, run_id: str, verb: str, **order: Any) -> RunRecord:
        """Ask something of a run: ``stop pause resume rerun``.

        Returns:
            the run, as durable as its answer; of ``rerun`` the new one.

        Raises:
            RunEnded, IllegalTransition, ParentIsPaused: its status does not allow it.
        """
        answer = await self._call("POST", path_of(run_id, verb), body=order)
        return view_of(answer.get("run", answer), self.url).record

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
                if response.is_error:
                    await response.aread()
                    raise error_of(response, self.url)
                yield _frames(response)
        except httpx.TransportError as error:
            raise gone(self.url, error) from None

    async def _call(self, method: str, path: str, **asked: Unpack[Asked]) -> Any:
        try:
            response = await self._http.request(method, path, **request_of(asked))
        except httpx.TransportError as error:
            raise gone(self.url, error) from None
        if response.is_error:
            raise error_of(response, self.url)
        try:
            return response.json()
        except ValueError:
            raise CallRefused(response.status_code, {}, self.url) from None


async def _frames(response: httpx.Response) -> AsyncIterator[Frame]:
    reader = FrameReader()
    async for chunk in response.aiter_bytes():
        for frame in reader.feed(chunk):
            yield frame

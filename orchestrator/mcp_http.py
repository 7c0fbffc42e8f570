"""A server of the Model Context Protocol over HTTP: what breaks or hangs costs its own call only.

To the protocol's library a connection that breaks is the end of the whole session, whose reason
nobody is told; and when it has said that a call is cancelled it waits for the answer to that before
it says anything else.
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import trio
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CONNECTION_CLOSED

from orchestrator.errors import in_words
from orchestrator.mcp_process import END_S, FLUSH_S, LONGEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

# Within this a server must take a connection. Answers have no limit of their own.
CONNECT_S = 10.0


@asynccontextmanager
async def over_http(url: str, headers: Mapping[str, str] | None) -> AsyncIterator[Any]:
    """Give the streams that the protocol's library wants, which connects as it needs to."""
    timeout = httpx2.Timeout(None, connect=CONNECT_S)
    async with (
        _Client(headers=dict(headers or {}), timeout=timeout) as client,
        trio.open_nursery() as client.beside,
    ):
        async with streamable_http_client(
            url, http_client=client, max_sse_event_size=LONGEST
        ) as streams:
            yield streams
        client.beside.cancel_scope.deadline = trio.current_time() + FLUSH_S


class _Client(httpx2.AsyncClient):
    """Gives every message an answer, also when its connection breaks.

    Attributes:
        beside: where the server is told that calls are cancelled.
    """

    beside: trio.Nursery

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """Send a request, as the library does."""
        match request.method:
            case "POST" if _cancels(request):
                self.beside.start_soon(self._post, request)
                return httpx2.Response(202, request=request)
            case "POST":
                return await self._post(request, **options)
            case "DELETE":
                with trio.move_on_after(END_S):
                    return await super().send(request, **options)
                return httpx2.Response(504, request=request)
        return await super().send(request, **options)

    async def _post(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        try:
            response = await super().send(request, **options)
            if response.headers.get("content-type", "").startswith("application/json"):
                await _read(response)
        except httpx2.RequestError as error:
            return _broken(request, error)
        return response


def _cancels(request: httpx2.Request) -> bool:
    method: object = json.loads(request.content).get("method")
    return method == "notifications/cancelled"


async def _read(response: httpx2.Response) -> None:
    try:
        await response.aread()
    finally:
        await response.aclose()


def _broken(request: httpx2.Request, error: httpx2.RequestError) -> httpx2.Response:
    why = {"code": CONNECTION_CLOSED, "message": f"{type(error).__name__}: {in_words(error)}"}
    said = {"jsonrpc": "2.0", "id": None, "error": why}
    return httpx2.Response(502, json=said, request=request)

"""A server of the Model Context Protocol over HTTP that answers no more."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from tests.orchestrator.mcp import using
from tests.orchestrator.worker.running import BOUND_S, stopped

if TYPE_CHECKING:
    from orchestrator import Orchestrator

ABOUT = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "mute", "version": "1"},
}


class Mute:
    """Opens a session, as servers do that are told in words what is cancelled, and then is mute."""

    def __init__(self, calls: int) -> None:
        self._left = calls
        self.called = trio.Event()

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer what comes on one connection."""
        heard = b""
        async with stream:
            async for piece in stream:
                heard += piece
                head, _, body = heard.partition(b"\r\n\r\n")
                if head.startswith(b"POST") and not body.endswith(b"}"):
                    continue
                heard = b""
                await self._answer(stream, json.loads(body or "{}"))

    async def _answer(self, stream: trio.SocketStream, asked: dict[str, Any]) -> None:
        match asked.get("method"):
            case "initialize":
                said = {"jsonrpc": "2.0", "id": asked["id"], "result": ABOUT}
                await _send(stream, 200, json.dumps(said))
            case "notifications/initialized":
                await _send(stream, 202)
            case "server/discover":
                await _send(stream, 404)
            case "tools/call":
                self._left -= 1
                if not self._left:
                    self.called.set()


async def _send(stream: trio.SocketStream, status: int, body: str = "") -> None:
    head = f"HTTP/1.1 {status} -\r\nmcp-session-id: 1\r\ncontent-type: application/json\r\n"
    await stream.send_all(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())


async def test_a_stop_does_not_wait_for_one_that_answers_no_more(
    orchestrator: Orchestrator,
) -> None:
    """It takes neither the word that calls are cancelled, nor that the session is over."""
    mute = Mute(calls=3)
    with trio.fail_after(BOUND_S):
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, mute.serve, 0, host="127.0.0.1")
            [listener] = await nursery.start(serve)
            url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/mcp"
            given = {"url": url, "calls": 3}
            run = await orchestrator.start(using.at_once, given, options={"cleanup_s": 1})
            await mute.called.wait()
            receipt = await stopped(run, mode="now")
            assert receipt.operations.cut == 3
            nursery.cancel_scope.cancel()

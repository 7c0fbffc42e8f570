"""The client's end of Socket.IO, packet by packet."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import trio

from api.service import open_server
from api.socketio.engine import Session
from orchestrator import Orchestrator, open_orchestrator
from tests.api.agents import ALL
from tests.api.peer import Peer, talking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

    from api.auth import Access

POLLING = {"EIO": "4", "transport": "polling"}
WEBSOCKET = "/socket.io/?EIO=4&transport=websocket"
SEPARATOR = "\x1e"


@asynccontextmanager
async def serving(
    access: Access | None = None,
) -> AsyncIterator[tuple[Orchestrator, str]]:
    """A server with Archon's dialect; nothing in the body may hang."""
    with trio.fail_after(30):
        async with (
            open_orchestrator(agents=ALL) as orchestrator,
            open_server(orchestrator, access=access, dialects=["archon"]) as url,
        ):
            yield orchestrator, url


class Polls:
    """A session over long polls.

    Attributes:
        facts: what the server said when it was opened.
    """

    def __init__(self, client: httpx.AsyncClient, facts: dict[str, Any]) -> None:
        self.client = client
        self.facts = facts
        self._frames: list[str] = []

    @property
    def query(self) -> dict[str, str]:
        return {**POLLING, "sid": self.facts["sid"]}

    async def poll(self) -> httpx.Response:
        return await self.client.get("/socket.io/", params=self.query)

    async def post(self, *frames: str) -> httpx.Response:
        body = SEPARATOR.join(frames)
        return await self.client.post("/socket.io/", params=self.query, content=body)

    async def next(self) -> str:
        """Return the next frame."""
        while not self._frames:
            answer = await self.poll()
            assert answer.status_code == 200, answer.text
            self._frames = answer.text.split(SEPARATOR)
        return self._frames.pop(0)

    async def connect(self, auth: dict[str, Any] | None = None) -> str:
        """Connect to the main namespace, and return what is said to that."""
        text = "40" if auth is None else f"40{json.dumps(auth)}"
        assert (await self.post(text)).text == "ok"
        return await self.next()

    async def ask(self, name: str, **body: Any) -> dict[str, Any]:
        """Send an event and return its answer; what comes before it is forgotten."""
        await self.post(f"427{json.dumps([name, body])}")
        while not (said := await self.next()).startswith("437"):
            pass
        (answer,) = json.loads(said[3:])
        assert isinstance(answer, dict)
        return answer

    async def event(self, name: str) -> dict[str, Any]:
        """Return what the next event of that name says."""
        while True:
            said = await self.next()
            if said.startswith("42") and (heard := json.loads(said[2:]))[0] == name:
                body: dict[str, Any] = heard[1]
                return body


@asynccontextmanager
async def polling(url: str, **headers: str) -> AsyncIterator[Polls]:
    """Open a session over long polls; the underscores of ``headers`` are dashes."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    # Nothing is encrypted here; certificates would take their time to be read.
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, verify=False) as client:
        opened = await client.get("/socket.io/", params=POLLING)
        assert opened.status_code == 200, opened.text
        assert opened.headers["Content-Type"] == "text/plain; charset=UTF-8"
        assert opened.text[0] == "0"
        yield Polls(client, json.loads(opened.text[1:]))


@asynccontextmanager
async def socket(url: str, sid: str = "") -> AsyncIterator[Peer]:
    """Open a WebSocket, for a session that is there or for one of its own."""
    async with talking(url, WEBSOCKET + (f"&sid={sid}" if sid else "")) as peer:
        yield peer


def next_poll(monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """Return what is set once the next poll has come to the server, in the step it waits from."""
    came = trio.Event()
    poll = Session.poll

    async def seen(session: Session) -> list[str]:
        came.set()
        return await poll(session)

    monkeypatch.setattr(Session, "poll", seen)
    return came

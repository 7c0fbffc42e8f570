"""A token that is taken away ends what it had opened: streams and sockets too."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import trio

from api.auth import FileAccess
from api.auth.tokens import hash_of
from api.service import open_server
from orchestrator import open_orchestrator
from tests.api.agents import ALL
from tests.api.peer import Closed, Peer, talking
from tests.api.reading import reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from orchestrator import Orchestrator

ENTRY = '[[token]]\nprincipal = "{0}"\nrole = "viewer"\nhash = "{1}"\n'
BEARER = {"ann": "Bearer token-of-ann", "bob": "Bearer token-of-bob"}


def write(path: Path, *names: str) -> None:
    path.write_text("".join(ENTRY.format(name, hash_of(f"token-of-{name}")) for name in names))


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Orchestrator, str, FileAccess]]:
    """A server that knows ann and bob."""
    write(path, "ann", "bob")
    allowed = FileAccess(path, ())
    async with (
        open_orchestrator(agents=ALL) as orchestrator,
        open_server(orchestrator, access=allowed) as url,
    ):
        yield orchestrator, url, allowed


async def closing_code(peer: Peer) -> int | None:
    try:
        while True:
            await peer.receive()
    except Closed as closed:
        return closed.code


async def test_its_streams_end_and_others_come_back_where_they_were(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with opened(tmp_path / "tokens.toml") as (orchestrator, url, allowed):
            run = await orchestrator.start("sleeper")
            feed = f"/runs/{run.id}/events"
            async with (
                reading(url, feed, Authorization=BEARER["ann"]) as anns,
                reading(url, feed, Authorization=BEARER["bob"]) as bobs,
            ):
                seen = 0
                for reader in (anns, bobs):
                    first = await reader.event()
                    assert first is not None
                    seen = first["seq"]
                write(tmp_path / "tokens.toml", "bob")
                allowed.reload()
                last = [[event["seq"] for event in await each.rest()] for each in (anns, bobs)]
            async with httpx.AsyncClient(base_url=url) as client:
                refused = await client.get(feed, headers={"Authorization": BEARER["ann"]})
                assert refused.status_code == 401
            seen = max([seen, *last[1]])
            again = {"Authorization": BEARER["bob"], "Last_Event_ID": str(seen)}
            async with reading(url, feed, **again) as reader:
                await run.stop()
                told = [event["type"] for event in await reader.rest()]
            assert told[-2:] == ["run.stopping", "run.stopped"]


async def test_its_sockets_are_closed(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with opened(tmp_path / "tokens.toml") as (_, url, allowed):
            async with talking(url, Authorization=BEARER["ann"]) as peer:
                await peer.ask(subscribe="*")
                write(tmp_path / "tokens.toml", "bob")
                allowed.reload()
                assert await closing_code(peer) == 1001
            port = int(url.rpartition(":")[2])
            for name, status in (("ann", 401), ("bob", 101)):
                async with await trio.open_tcp_stream("127.0.0.1", port) as tcp:
                    sent = [(b"Authorization", BEARER[name].encode())]
                    assert await Peer(tcp).open(sent) == status


async def test_a_broken_file_ends_nothing(tmp_path: Path) -> None:
    with trio.fail_after(30):
        async with opened(tmp_path / "tokens.toml") as (orchestrator, url, allowed):
            run = await orchestrator.start("sleeper")
            feed = f"/runs/{run.id}/events"
            async with reading(url, feed, Authorization=BEARER["ann"]) as reader:
                assert await reader.event() is not None
                (tmp_path / "tokens.toml").write_text("broken")
                allowed.reload()
                await run.stop()
                assert (await reader.rest())[-1]["type"] == "run.stopped"

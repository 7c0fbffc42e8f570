"""The sessions: handshakes, both transports, the way from one to the other, and every end."""

from __future__ import annotations

import json

import httpx
import pytest
import trio
from wsproto.events import BytesMessage

from api.service import open_server
from api.socketio import calls, conversation, engine
from orchestrator import open_orchestrator
from tests.api.peer import Peer
from tests.api.socketio.raw import (
    POLLING,
    WEBSOCKET,
    next_poll,
    polling,
    serving,
    socket,
)


async def poll(url: str, **query: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url) as client:
        return await client.get("/socket.io/", params=query)


async def handshake(peer: Peer) -> dict[str, object]:
    text = await peer.receive_text()
    assert text[0] == "0"
    facts: dict[str, object] = json.loads(text[1:])
    return facts


# Handshakes


async def test_a_session_over_polls_says_what_it_is() -> None:
    async with serving() as (_, url), polling(url) as one, polling(url) as two:
        assert one.facts == {
            "sid": one.facts["sid"],
            "upgrades": ["websocket"],
            "pingInterval": 25_000,
            "pingTimeout": 20_000,
            "maxPayload": 65_536,
        }
        assert one.facts["sid"] != two.facts["sid"]
        assert len(one.facts["sid"]) == 43  # 256 bits of the system's randomness


async def test_a_session_over_a_websocket_has_nothing_to_go_over_to() -> None:
    async with serving() as (_, url), socket(url) as peer:
        assert (await handshake(peer))["upgrades"] == []
        await peer.send_text("40")
        said = await peer.receive_text()
        assert said.startswith('40{"sid":"')


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"transport": "polling"}, 5),
        ({"EIO": "3", "transport": "polling"}, 5),
        ({"EIO": "4"}, 0),
        ({"EIO": "4", "transport": "websocket"}, 0),
        ({"EIO": "4", "transport": "polling", "sid": "a"}, 1),
        ({"EIO": "4", "transport": "polling", "sid": ""}, 1),
    ],
)
async def test_a_handshake_that_is_none_is_refused(query: dict[str, str], code: int) -> None:
    async with serving() as (_, url):
        answer = await poll(url, **query)
        assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize("path", ["?EIO=3&transport=websocket", "?EIO=4", "?EIO=4&transport=x"])
async def test_so_is_that_of_a_websocket(path: str) -> None:
    async with serving() as (_, url):
        port = int(url.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await Peer(stream).open([], f"/socket.io/{path}") == 400
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await Peer(stream).open([], f"{WEBSOCKET}&sid=nobody") == 400


async def test_a_post_needs_a_session() -> None:
    async with serving() as (_, url), httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/socket.io/", params=POLLING, content="40")
        assert (answer.status_code, answer.json()["type"]) == (400, "urn:quiesce:unknown-session")


# Rules that a client breaks


NO_PACKETS = (
    *("abc", "", "9", "2", "5", '0{"sid":"x"}', "bAQID", "4", "4x", "49", "451-[]", "40\x1e40"),
    *("41/custom", "43[", '42["a"]', "4[[", "\x1e" * 300, "4" + "[" * 60_000, "42" + "[" * 60_000),
)


async def test_a_malformed_packet_ends_its_session_and_no_other() -> None:
    async with serving() as (_, url), polling(url) as good:
        for payload in NO_PACKETS:
            async with polling(url) as bad:
                answer = await bad.post(payload)
                assert answer.status_code == 400, payload
                assert answer.json()["type"] == "urn:quiesce:malformed-packet"
                assert (await bad.poll()).json()["type"] == "urn:quiesce:unknown-session"
        assert (await good.connect()).startswith("40")


async def test_so_does_an_event_that_is_none() -> None:
    async with serving() as (_, url):
        for payload in ("42[]", "42{}", '42"a"', "42", '42[{"a":1}]', "42[1]", '45["a"]'):
            async with polling(url) as bad:
                await bad.connect()
                assert (await bad.post(payload)).status_code == 400, payload
                assert (await bad.poll()).status_code == 400


async def test_over_a_websocket_that_closes_it_and_says_why() -> None:
    async with serving() as (_, url):
        for payload in ("abc", "4[", '42["a"]', "2"):
            async with socket(url) as peer:
                await handshake(peer)
                await peer.send_text(payload)
                closed = await peer.until_closed()
                assert closed.code == engine.POLICY
                assert closed.reason
        async with socket(url) as peer:
            await handshake(peer)
            await peer.send_frame(BytesMessage(data=b"\x01"))
            assert (await peer.until_closed()).reason == "binary data is not taken"


async def test_a_payload_is_bounded() -> None:
    async with serving() as (_, url), polling(url) as polls:
        assert (await polls.post("3" + "x" * engine.MAX_PAYLOAD)).status_code == 400
        assert (await polls.poll()).status_code == 400


async def test_two_polls_at_a_time_end_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as (_, url), polling(url) as polls, polling(url) as other:
        other.facts = polls.facts
        answers: list[httpx.Response] = []

        async def first() -> None:
            answers.append(await polls.poll())

        came = next_poll(monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await came.wait()
            assert (await other.poll()).status_code == 400
        assert (answers[0].status_code, answers[0].text) == (200, "1")
        assert (await polls.poll()).status_code == 400


async def test_a_poll_that_is_broken_off_ends_the_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once, and not only when a ping is not answered."""
    async with serving() as (_, url), polling(url) as polls:
        await polls.connect()
        came = next_poll(monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(polls.poll)
            await came.wait()
            nursery.cancel_scope.cancel()
        with trio.fail_after(engine.PING_INTERVAL_S / 3):
            while (await polls.poll()).status_code != 400:
                pass


async def test_who_closes_a_session_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as (_, url), polling(url) as polls, polling(url) as other:
        other.facts = polls.facts
        answers: list[str] = []

        async def wait() -> None:
            answers.append((await polls.poll()).text)

        came = next_poll(monkeypatch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await came.wait()
            await other.post("1")
        assert answers == ["6"]
        assert (await polls.poll()).status_code == 400


# Who is not there any more


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "PING_INTERVAL_S", 0.1)
    monkeypatch.setattr(engine, "PING_TIMEOUT_S", 0.2)


async def test_a_polling_client_that_vanishes_is_dropped_after_the_ping_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hurry(monkeypatch)
    async with serving() as (_, url), polling(url) as gone, polling(url) as there:
        assert there.facts["pingTimeout"] == 200
        for _ in range(4):
            assert await there.next() == "2"
            await there.post("3")
        assert (await gone.poll()).json()["type"] == "urn:quiesce:unknown-session"


async def test_a_websocket_whose_client_answers_no_ping_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hurry(monkeypatch)
    async with serving() as (_, url), socket(url) as dead, socket(url) as there:
        await handshake(dead)
        await handshake(there)
        for _ in range(4):
            assert await there.receive_text() == "2"
            await there.send_text("3")
        closed = await dead.until_closed()
        assert (closed.code, closed.reason) == (
            engine.POLICY,
            "a ping was not answered within 0.2 s",
        )


async def test_who_does_not_connect_in_time_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "CONNECT_S", 0.2)
    async with serving() as (_, url), socket(url) as idle, socket(url) as busy:
        await handshake(busy)
        await busy.send_text("40")
        assert (await busy.receive_text()).startswith("40")
        assert (await idle.until_closed()).reason == "nobody has connected within 0.2 s"
        await busy.send_text('421["crawl_unsubscribe",{"progress_id":"a"}]')
        assert (await busy.receive_text()).startswith("431")


async def test_the_session_of_a_connection_that_breaks_is_gone() -> None:
    async with serving() as (_, url):
        async with socket(url) as peer:
            sid = str((await handshake(peer))["sid"])
            peer.reset()
        query = {"EIO": "4", "transport": "polling", "sid": sid}
        while (await poll(url, **query)).json()["type"] != "urn:quiesce:unknown-session":
            pass


# From polls to a WebSocket


async def test_a_client_goes_over_to_a_websocket_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving() as (orchestrator, url), polling(url) as polls:
        await polls.connect()
        run = await orchestrator.start("sleeper")
        came = next_poll(monkeypatch)
        async with trio.open_nursery() as nursery, socket(url, polls.facts["sid"]) as peer:
            nursery.start_soon(polls.next)
            await came.wait()
            await peer.send_text("2probe")
            assert await peer.receive_text() == "3probe"
            await peer.send_text("5")
            await peer.send_text(f'421["crawl_subscribe",{{"progress_id":"{run.id}"}}]')
            said = [await peer.receive_text() for _ in range(2)]
            assert {text[:3] for text in said} == {"42[", "431"}
            for answer in (await polls.poll(), await polls.post("3")):
                assert answer.json()["type"] == "urn:quiesce:malformed-packet"
            await peer.send_text('422["crawl_unsubscribe",{"progress_id":"a"}]')
            assert (await peer.receive_text()).startswith("432")


async def test_a_session_has_one_websocket() -> None:
    async with (
        serving() as (_, url),
        polling(url) as polls,
        socket(url, polls.facts["sid"]) as peer,
    ):
        port = int(url.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await Peer(stream).open([], f"{WEBSOCKET}&sid={polls.facts['sid']}") == 400
        await peer.send_text("2probe")
        assert await peer.receive_text() == "3probe"


@pytest.mark.parametrize("said", [["2"], ["4hello"], ["2probe", "2probe"], []])
async def test_a_websocket_that_comes_to_nothing_leaves_the_polls(
    said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "UPGRADE_S", 0.3)
    async with serving() as (_, url), polling(url) as polls:
        async with socket(url, polls.facts["sid"]) as peer:
            for text in said:
                await peer.send_text(text)
            assert (await peer.until_closed()).code == engine.POLICY
        assert (await polls.connect()).startswith("40")


# The server


async def test_sessions_end_with_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that clients connect again: nobody is told that the server wants them gone."""
    told: list[object] = []
    came = next_poll(monkeypatch)

    async def waiting(url: str, *, task_status: trio.TaskStatus[None]) -> None:
        async with polling(url) as polls:
            task_status.started()
            told.append((await polls.poll()).text)

    async def listening(url: str, *, task_status: trio.TaskStatus[None]) -> None:
        async with socket(url) as peer:
            await handshake(peer)
            task_status.started()
            told.append((await peer.until_closed()).code)

    with trio.fail_after(30):
        async with (
            open_orchestrator() as orchestrator,
            trio.open_nursery() as nursery,
            open_server(orchestrator, dialects=["archon"]) as url,
        ):
            await nursery.start(waiting, url)
            await nursery.start(listening, url)
            await came.wait()
    assert sorted(map(str, told)) == ["1001", "6"]


async def test_one_holder_has_so_many_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_SESSIONS", 2)
    async with serving() as (_, url), polling(url), socket(url) as peer:
        await handshake(peer)
        answer = await poll(url, **POLLING)
        assert (answer.status_code, answer.json()["type"]) == (429, "urn:quiesce:too-many-sessions")
        await peer.send_text("1")
        await peer.until_closed()
        while (await poll(url, **POLLING)).status_code != 200:
            pass

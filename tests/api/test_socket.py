"""The WebSocket, on a real socket, seen from the peer's end."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from wsproto.events import BytesMessage, CloseConnection
from wsproto.events import Ping as PingFrame

from api import server, socket, stream
from api.connection import Socket
from api.service import open_server
from orchestrator import Context, Orchestrator, StoreUnavailable, agent
from tests.api.peer import Peer, talking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx


@pytest.fixture
async def peer(url: str) -> AsyncIterator[Peer]:
    """A peer of the server; no test that asks for it may hang."""
    with trio.fail_after(20):
        async with talking(url) as opened:
            yield opened


async def events_of(peer: Peer, feed: str) -> list[dict[str, Any]]:
    """Return the events of a feed up to its snapshot, which is added last."""
    found = []
    while True:
        message = await peer.receive()
        if message.get("feed") == feed:
            found.append(message["event"] if "event" in message else message["snapshot"])
            if "snapshot" in message:
                return found


# Feeds


async def test_a_run_is_followed_to_its_end_as_over_http(
    peer: Peer, client: httpx.AsyncClient, served: Orchestrator
) -> None:
    run = await served.start("family", {"children": 2})

    reply = await peer.ask(subscribe=run.id, request=7)

    assert (reply["status"], reply["body"]) == (200, {"subscribed": run.id})
    first = await peer.receive()
    assert (first["feed"], first["after"], first["event"]["seq"]) == (run.id, 1, 1)
    run.request_stop(reason="enough")
    *events, snapshot = [first["event"], *await events_of(peer, run.id)]
    page = await client.get(f"/runs/{run.id}/events", headers={"Accept": "application/json"})
    assert events == page.json()["events"]
    assert snapshot == (await client.get(f"/runs/{run.id}")).json()


async def test_a_feed_begins_where_it_is_told_to(peer: Peer, served: Orchestrator) -> None:
    run = await served.start("echo", {"text": "x"})
    await run.wait()

    await peer.ask(subscribe=run.id, after=4)

    *events, snapshot = await events_of(peer, run.id)
    assert [event["seq"] for event in events] == [5, 6]
    assert snapshot["status"] == "succeeded"


async def test_all_runs_are_followed_and_resumed_from_a_place(
    url: str, peer: Peer, served: Orchestrator
) -> None:
    await peer.ask(subscribe="*", types="run.queued,run.succeeded")
    reset = await peer.receive()
    assert reset == {"reset": {"position": reset["after"]}, "feed": "*", "after": reset["after"]}
    runs = [await served.start("echo", {"text": str(n)}) for n in range(3)]
    heard = [await peer.receive() for _ in range(6)]

    async with talking(url) as again:
        await again.ask(subscribe="*", after=heard[1]["after"], types="run.queued,run.succeeded")
        rest = [await again.receive() for _ in range(4)]

    assert rest == heard[2:]
    assert {message["event"]["run_id"] for message in heard} == {run.id for run in runs}
    assert {message["event"]["type"] for message in heard} == {"run.queued", "run.succeeded"}


async def test_a_silent_feed_of_all_runs_tells_its_place(
    url: str, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.02)
    with trio.fail_after(10):
        async with talking(url) as peer:
            await peer.ask(subscribe="*", types="test.nothing")
            await peer.receive()
            await (await served.start("echo", {"text": "x"})).wait()
            now = served.broadcast.position(served.broadcast.count)
            while await peer.receive() != {"feed": "*", "after": now}:
                pass


async def test_who_unsubscribes_hears_no_more(peer: Peer, served: Orchestrator) -> None:
    one, two = [await served.start("asker") for _ in range(2)]
    for run in (one, two):
        await peer.ask(subscribe=run.id)
        assert [(await peer.receive())["event"]["type"] for _ in range(3)][-1] == "run.asked"

    reply = await peer.ask(unsubscribe=one.id, request="u")
    for run in (one, two):
        run.request_stop()

    assert (reply["status"], reply["body"]) == (200, {"unsubscribed": one.id})
    assert {event["run_id"] for event in (await events_of(peer, two.id))[:-1]} == {two.id}
    again = await peer.ask(unsubscribe=one.id)
    assert (again["status"], again["body"]["type"]) == (404, "urn:quiesce:not-subscribed")
    await peer.ask(subscribe=one.id, after=4)
    assert (await events_of(peer, one.id))[-1]["status"] == "stopped"


async def test_a_second_subscription_takes_the_place_of_the_first(
    peer: Peer, served: Orchestrator
) -> None:
    run = await served.start("asker")
    await peer.ask(subscribe=run.id)
    assert [(await peer.receive())["after"] for _ in range(3)] == [1, 2, 3]
    await peer.ask(subscribe=run.id, after=1)
    assert [(await peer.receive())["after"] for _ in range(2)] == [2, 3]
    await run.stop()
    *events, _ = await events_of(peer, run.id)
    assert [event["seq"] for event in events] == [4, 5, 6]


async def test_each_request_is_answered_once_also_if_the_next_one_takes_its_place(
    peer: Peer, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is read before the first subscription is opened."""
    all_read = trio.Event()
    monkeypatch.setattr(socket, "check_run", lambda *_: all_read.wait())
    run = await served.start("asker")
    mine = str(run.id)
    asked = [("subscribe", mine), ("subscribe", mine), ("unsubscribe", mine)]
    asked += [("subscribe", "run_no"), ("subscribe", "run_no"), ("subscribe", "*"), ("ping", "*")]
    heard: list[dict[str, Any]] = []

    async def hear_until(message: dict[str, Any]) -> None:
        while (latest := await peer.receive()) != message:
            heard.append(latest)

    await peer.send_many([{name: value, "request": n} for n, (name, value) in enumerate(asked)])
    await hear_until({"pong": "*", "request": 6})
    all_read.set()
    await trio.testing.wait_all_tasks_blocked(cushion=0.01)
    await peer.send(ping="last")
    await hear_until({"pong": "last"})

    replies = [(each["request"], each["status"]) for each in heard if "request" in each]
    assert sorted(replies) == [(0, 200), (1, 200), (2, 200), (3, 404), (4, 404), (5, 200)]
    assert [each for each in heard if each.get("feed", "*") != "*"] == []


async def test_subscriptions_that_were_replaced_count_as_answers_that_wait(
    served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "MAX_PENDING", 10)
    run = await served.start("sleeper")
    hung = trio.Event()
    monkeypatch.setattr(served, "events", lambda *_, **__: hung.wait())
    with trio.fail_after(10):
        async with open_server(served) as url, talking(url) as peer:
            await peer.send_many([{"subscribe": run.id}] * 11)
            closed = await peer.until_closed()
    hung.set()
    assert (closed.code, "more than 10 answers wait" in closed.reason) == (1008, True)


async def test_there_are_only_so_many_feeds(
    peer: Peer, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "MAX_FEEDS", 1)
    one, two = [await served.start("echo", {"text": "x"}) for _ in range(2)]
    await one.wait()
    await peer.ask(subscribe="*")
    assert "reset" in await peer.receive()
    refused = await peer.ask(subscribe=one.id)
    assert refused["status"] == 422
    assert "1 feeds are open" in refused["body"]["detail"]
    await peer.ask(unsubscribe="*")
    await peer.ask(subscribe=one.id)
    assert len(await events_of(peer, one.id)) == 7
    await peer.ask(subscribe=two.id)
    assert len(await events_of(peer, two.id)) == 7


# Commands


async def test_a_stop_is_that_of_http(
    peer: Peer, client: httpx.AsyncClient, served: Orchestrator
) -> None:
    run = await served.start("busy")
    await trio.testing.wait_all_tasks_blocked()

    reply = await peer.ask(stop=run.id, mode="now", reason="enough", wait_s=5, request=[1, {}])

    assert reply["status"] == 200
    again = await client.post(f"/runs/{run.id}/stop")
    assert reply["body"] == again.json()
    receipt = reply["body"]["receipt"]
    assert (receipt["outcome"], receipt["reached"]) == ("stopped", "now")
    assert (receipt["reason"], receipt["source"], receipt["requested_by"]) == (
        "enough",
        "user",
        "anonymous",
    )


async def test_a_run_is_paused_stepped_resumed_and_stopped(
    peer: Peer, served: Orchestrator
) -> None:
    run = await served.start("asker")
    await peer.ask(subscribe=run.id)
    while (await peer.receive())["event"]["type"] != "run.asked":
        pass

    async def say(**command: Any) -> tuple[int, str]:
        await peer.send(**command)
        while "status" not in (reply := await peer.receive()):
            pass
        body = reply["body"].get("run", reply["body"])
        return reply["status"], body["status"] if "id" in body else body["type"]

    assert await say(pause=run.id, reason="lunch") == (202, "paused")
    assert await say(pause=run.id) == (409, "urn:quiesce:illegal-transition")
    assert await say(step=run.id) == (202, "paused")
    assert await say(resume=run.id) == (202, "running")
    assert await say(stop=run.id, wait_s=5) == (200, "stopped")
    assert await say(pause=run.id) == (409, "urn:quiesce:run-ended")


async def test_commands_take_effect_in_their_order(peer: Peer, served: Orchestrator) -> None:
    run = await served.start("asker")
    with trio.fail_after(5):
        while run.record.waiting_for is None:
            await trio.lowlevel.checkpoint()

    commands = [{"pause" if n % 2 == 0 else "resume": run.id, "request": n} for n in range(30)]
    await peer.send_many(commands)
    replies = [await peer.receive() for _ in range(30)]

    assert {reply["status"] for reply in replies} == {202}
    assert sorted(reply["request"] for reply in replies) == list(range(30))
    await run.stop()


async def test_a_stop_works_while_the_store_does_not(
    peer: Peer, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = [await served.start("busy") for _ in range(2)]
    while run.status != "running" or other.status != "running":
        await trio.lowlevel.checkpoint()

    async def fail(_: int) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(served, "durable", fail)
        reply = await peer.ask(stop=run.id, request=1)
    assert (reply["status"], reply["body"]["type"]) == (503, "urn:quiesce:stop-not-durable")
    assert reply["body"]["receipt"]["outcome"] == "stopping"

    hung = trio.Event()
    with monkeypatch.context() as patch:
        patch.setattr(served, "durable", lambda _: hung.wait())
        await peer.send(stop=other.id, mode="now", request=2)
        await other.ended.wait()
        await peer.send(ping="there")
        assert await peer.receive() == {"pong": "there"}
        hung.set()
        assert (await peer.receive())["request"] == 2
    await run.stop(mode="now")


@pytest.mark.parametrize(
    ("text", "status", "kind", "said"),
    [
        ("{", 422, "invalid-input", "message: is not JSON"),
        ("", 422, "invalid-input", "message: is not JSON"),
        ("[" * 10_000, 422, "invalid-input", "message: is not JSON"),
        ("[]", 422, "invalid-input", "message: must be a JSON object"),
        ("{}", 422, "invalid-input", "exactly one of: subscribe, unsubscribe, stop, pause"),
        ('{"halt": "x"}', 422, "invalid-input", "exactly one of"),
        ('{"stop": "x", "pause": "x"}', 422, "invalid-input", "exactly one of"),
        ('{"stop": 7}', 422, "invalid-input", "stop: must be the id of a run"),
        ('{"subscribe": null}', 422, "invalid-input", "subscribe: must be the id"),
        ('{"ping": 1e999}', 422, "invalid-input", "ping: has a number that JSON has no word"),
        (
            '{"ping": [{"x": -1e999}]}',
            422,
            "invalid-input",
            "ping: has a number that JSON has no word",
        ),
        ('{"stop": "x", "grace_s": 1e999}', 422, "invalid-input", "grace_s: "),
        ('{"stop": "x", "mode": "gently"}', 422, "invalid-input", "mode: "),
        ('{"stop": "x", "why": "y"}', 422, "invalid-input", "why: is not known; known are: mode"),
        ('{"subscribe": "x", "after": -1}', 422, "invalid-input", "after: "),
        ('{"subscribe": "x", "types": "y"}', 422, "invalid-input", "types: is not known"),
        ('{"subscribe": "*", "after": "7"}', 422, "invalid-input", "after: '7' is not a position"),
        ('{"subscribe": "*", "status": "7"}', 422, "invalid-input", "status: is not known"),
        ('{"subscribe": "x"}', 404, "unknown-run", "'x'"),
        ('{"subscribe": "\\ud800"}', 404, "unknown-run", "ud800"),
        ('{"stop": "x"}', 404, "unknown-run", "'x'"),
        ('{"pause": "x", "reason": "y"}', 404, "unknown-run", "'x'"),
        ('{"unsubscribe": "x"}', 404, "not-subscribed", "'x'"),
    ],
)
async def test_what_cannot_be_done_is_answered_and_the_connection_lives(
    peer: Peer, text: str, status: int, kind: str, said: str
) -> None:
    if text.startswith("{") and len(text) > 2:
        text = text[:-1] + ', "request": 5}'
    await peer.send_text(text)

    reply = await peer.receive()

    assert (reply["status"], reply["body"]["type"]) == (status, f"urn:quiesce:{kind}")
    assert said in reply["body"]["detail"]
    assert reply["request"] == (5 if "request" in text else None)
    await peer.send(ping=[1])
    assert await peer.receive() == {"pong": [1]}


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ("1e999", "request: has a number that JSON has no word for"),
        ('{"x": [-1e999]}', "request: has a number that JSON has no word for"),
        ("NaN", "message: is not JSON: NaN is no number of JSON"),
        ("Infinity", "message: is not JSON: Infinity is no number of JSON"),
        ('{"x": [NaN]}', "message: is not JSON: NaN is no number of JSON"),
    ],
)
async def test_a_request_that_no_answer_can_repeat_does_nothing(
    peer: Peer, served: Orchestrator, request_: str, said: str
) -> None:
    run = await served.start("sleeper")
    await peer.send_text(f'{{"stop": "{run.id}", "request": {request_}}}')
    reply = await peer.receive()
    assert (reply["request"], reply["status"]) == (None, 422)
    assert said in reply["body"]["detail"]
    assert run.ladder.stop is None


async def test_binary_messages_are_read_too(peer: Peer, served: Orchestrator) -> None:
    await peer.send_frame(BytesMessage(data=b'{"ping": 1}'))
    assert await peer.receive() == {"pong": 1}
    await peer.send_frame(BytesMessage(data=b""))
    assert (await peer.receive())["status"] == 422
    await peer.send_frame(BytesMessage(data=b"\xff\xfe"))
    assert (await peer.receive())["status"] == 422


# The connection


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"Origin", b"https://evil.example")], 403),
        ([(b"Origin", b"null")], 403),
        ([(b"Origin", b"http://localhost:1")], 403),
        ([(b"Origin", b"http://localhost")], 101),
        ([], 101),
    ],
)
async def test_foreign_origins_are_refused(
    url: str, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as tcp:
            assert await Peer(tcp).open(headers) == status


async def test_nothing_is_compressed(peer: Peer) -> None:
    assert peer.accepted is not None
    assert peer.accepted.extensions == []


async def test_the_beat_is_there_for_pages_to_see(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "KEEP_ALIVE_S", 0.02)
    with trio.fail_after(5):
        async with talking(url) as peer:
            assert [await peer.receive() for _ in range(3)] == [{"ping": n} for n in (1, 2, 3)]
            await peer.send(pong=3)
            assert await peer.receive() == {"ping": 4}


@pytest.mark.slow
async def test_a_silence_is_survived_by_who_answers_pings_and_by_nobody_else(
    served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "PING_S", 0.05)
    monkeypatch.setattr(Socket, "SILENCE_S", 0.4)
    run = await served.start("sleeper")
    with trio.fail_after(20):
        async with open_server(served) as url, talking(url) as living, talking(url) as dead:
            dead.mute = True
            for peer in (living, dead):
                await peer.ask(subscribe=run.id)

            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(living.until_closed)
                closed = await dead.until_closed()
                took = trio.current_time() - began
                await trio.sleep(2 * took)
                nursery.cancel_scope.cancel()

            assert (closed.code, closed.reason) == (1008, "nothing was heard of you")
            assert 0.3 < took < 5
            assert dead.pings >= 4
            await living.send(ping=0)
            while await living.receive() != {"pong": 0}:
                pass


async def test_a_peer_that_vanishes_is_forgotten(
    served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await served.start("sleeper")
    with trio.fail_after(10):
        async with open_server(served) as url:
            await trio.testing.wait_all_tasks_blocked()
            before = trio.lowlevel.current_statistics().tasks_living
            for how in ("fin", "rst", "close", "close unread") * 5:
                async with talking(url) as peer:
                    await peer.ask(subscribe="*")
                    await peer.send(subscribe=run.id)
                    while (await peer.receive()).get("feed") != run.id:
                        pass
                    if how == "rst":
                        peer.reset()
                    elif how.startswith("close"):
                        await peer.send_frame(CloseConnection(1000))
                        if how == "close":
                            assert (await peer.until_closed()).code == 1000
            while trio.lowlevel.current_statistics().tasks_living > before:
                await trio.sleep(0.005)


async def test_the_server_says_goodbye_when_all_is_said(served: Orchestrator) -> None:
    @agent
    async def teller(ctx: Context) -> None:
        for n in range(500):
            await ctx.emit("test.count", {"n": n})
        await ctx.sleep(1000)

    run = await served.start(teller)
    while run.feed.shown < 502:
        await trio.sleep(0.005)
    with trio.fail_after(10):
        async with AsyncExitStack() as later:
            async with open_server(served) as url:
                peers = [await later.enter_async_context(talking(url)) for _ in range(3)]
                await peers[0].send(subscribe=run.id)
                await peers[1].ask(subscribe="*", types="test.nothing")
                for peer in peers:
                    await peer.send(ping=1)
                    while await peer.receive() != {"pong": 1}:
                        pass
                began = trio.current_time()
            assert trio.current_time() - began < 3
            for peer in peers:
                closed = await peer.until_closed()
                assert (closed.code, closed.reason) == (1001, "the server is closing")
    assert run.status == "running"


async def test_a_mistake_of_the_servers_is_said_and_logged(
    peer: Peer, served: Orchestrator, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(served, "listen", fail)
    await peer.send(subscribe="*")
    closed = await peer.until_closed()

    assert closed.code == 1011
    assert "a bug" not in closed.reason
    assert "a bug" in caplog.text


async def test_a_message_that_is_too_large_ends_the_connection(peer: Peer) -> None:
    await peer.send(ping="x" * server.MAX_MESSAGE_BYTES)
    assert (await peer.until_closed()).code == 1009
    # Who stays could send the rest for ever, and all of it would be kept.
    assert (await peer.until_closed()).code is None


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (b"\x81\x82\0\0\0\0\xff\xfe", 1007),
        (b"\x88\x83\0\0\0\0\x03\xe8\xff", 1007),
        (b"\x83\x80\0\0\0\0", 1002),
        (b"\x81\x02{}", 1002),
    ],
    ids=["no text", "no reason", "no opcode", "no mask"],
)
async def test_what_cannot_be_read_ends_the_connection_with_a_code(
    peer: Peer, frame: bytes, code: int
) -> None:
    await peer.stream.send_all(frame)
    assert (await peer.until_closed()).code == code


async def test_who_asks_and_never_reads_is_dropped(
    served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "MAX_PENDING", 10)
    run = await served.start("sleeper")
    hung = trio.Event()
    monkeypatch.setattr(served, "durable", lambda _: hung.wait())
    with trio.fail_after(10):
        async with open_server(served) as url, talking(url) as peer:
            for _ in range(11):
                await peer.send(pause=run.id)
            closed = await peer.until_closed()
    hung.set()
    assert closed.code == 1008
    assert "more than 10 answers wait" in closed.reason


@pytest.mark.slow
async def test_a_flood_of_messages_leaves_nothing_behind(
    served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the handler has ended nobody reads, and yet the connection must close."""
    monkeypatch.setattr(socket, "MAX_PENDING", 3)
    hung = trio.Event()
    run = await served.start("sleeper")
    with trio.fail_after(20):
        async with open_server(served) as url:
            await trio.testing.wait_all_tasks_blocked()
            before = trio.lowlevel.current_statistics().tasks_living
            monkeypatch.setattr(served, "durable", lambda _: hung.wait())
            for _ in range(3):
                async with talking(url) as peer:
                    with suppress(trio.BrokenResourceError):
                        await peer.send_many([{"pause": run.id}] * 5_000)
                    assert (await peer.until_closed()).code in (1008, None)
            while trio.lowlevel.current_statistics().tasks_living > before:
                await trio.sleep(0.005)
    hung.set()


async def test_pings_of_the_peer_are_answered(peer: Peer) -> None:
    await peer.send_frame(PingFrame(b"hello"))
    await peer.send(ping=1)
    assert await peer.receive() == {"pong": 1}


async def test_an_unknown_path_is_not_found(url: str) -> None:
    with trio.fail_after(5):
        async with await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2])) as tcp:
            await tcp.send_all(
                b"GET /nope HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: bKdPyn3u98cTfZJSh4TNeQ==\r\n\r\n"
            )
            assert (await tcp.receive_some()).startswith(b"HTTP/1.1 404 ")

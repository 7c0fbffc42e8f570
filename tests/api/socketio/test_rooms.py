"""Archon's events: who hears what of a run, and who may stop it."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from werkzeug.datastructures import Headers

from api.auth.identity import Credentials
from api.auth.sessions import COOKIE
from api.dialects import archon_rooms
from api.socketio import conversation, engine
from orchestrator import Context, Orchestrator, Run, agent
from tests.api.auth.people import access, token_of
from tests.api.peer import Peer
from tests.api.socketio.raw import POLLING, WEBSOCKET, Polls, polling, serving, socket

if TYPE_CHECKING:
    from api.auth import Access

STOPPING = "Stopping crawl operation..."
CANCELLED = "Crawl cancelled by user"


@agent
async def teller(ctx: Context, told: int = 3, pause_s: float = 0) -> None:
    """Tell how far it is, and then nothing more."""
    for number in range(told):
        await ctx.progress(min(number * 10, 100), f"page {number}")
        await ctx.sleep(pause_s)
    await ctx.sleep(1000)


async def telling(orchestrator: Orchestrator, **options: Any) -> Run:
    """Return a run that has told all that it tells."""
    run = await orchestrator.start(teller, owner="olga", **options)
    await until_told(orchestrator, run, "page 2")
    return run


async def until_told(orchestrator: Orchestrator, run: Run, message: str) -> None:
    """Wait until everybody can see that the run has told that."""
    async for event in await orchestrator.events(run.id):
        if event.data.get("message") == message:
            return


def progress(run: Run, status: str = "in_progress", log: str = "page 2") -> dict[str, Any]:
    return {"progressId": run.id, "status": status, "progress": 20, "log": log}


async def heard(polls: Polls, *names: str) -> list[dict[str, Any]]:
    return [await polls.event(name) for name in names]


# What is heard


async def test_B1_every_client_hears_of_a_stop_once_and_then_of_its_end() -> None:
    async with serving() as (orchestrator, url), polling(url) as one, polling(url) as two:
        run = await telling(orchestrator)
        for client in (one, two):
            await client.connect()
            await client.post(f'42["crawl_subscribe",{{"progress_id":"{run.id}"}}]')
            assert await client.event("crawl_progress") == progress(run)
        answer = await one.ask("crawl_stop", progress_id=run.id)
        assert answer == {
            "success": True,
            "message": "Crawl task stopped successfully",
            "progressId": run.id,
        }
        ended = progress(run, "cancelled", CANCELLED)
        stopped = {
            "progressId": run.id,
            "status": "cancelled",
            "message": CANCELLED,
            "timestamp": run.record.ended_at,
        }
        assert await heard(two, "crawl:stopping", "crawl_progress", "crawl:stopped") == [
            {"progressId": run.id, "message": STOPPING},
            ended,
            stopped,
        ]
        # Whatever else there was to say would have come before this answer.
        await two.post(f'427["crawl_unsubscribe",{{"progress_id":"{run.id}"}}]')
        assert (await two.next()).startswith("437")


def news_of(run: Run, room: archon_rooms.Room) -> list[str]:
    return [name for name, _ in room.news(run.record)]


async def test_what_is_new_by_how_the_run_stands(orchestrator: Orchestrator) -> None:
    """Each order in which a client may come, the run be stopped, and end."""
    with trio.fail_after(20):
        run = await telling(orchestrator, cleanup_s=60)
        early, again, slow = (archon_rooms.Room(run.id) for _ in range(3))
        for room in (early, slow):
            assert news_of(run, room) == ["crawl_progress"]
            assert news_of(run, room) == []
        run.request_stop()
        assert news_of(run, early) == ["crawl:stopping"]
        assert news_of(run, early) == []
        assert news_of(run, again) == ["crawl_progress", "crawl:stopping"]
        await run.wait()
        assert news_of(run, early) == ["crawl_progress", "crawl:stopped"]
        # One that was told nothing in between hears of both.
        assert news_of(run, slow) == ["crawl:stopping", "crawl_progress", "crawl:stopped"]
        late = archon_rooms.Room(run.id)
        assert news_of(run, late) == ["crawl_progress", "crawl:stopped"]


async def test_a_run_that_ends_by_itself_was_not_stopped() -> None:
    async with serving() as (orchestrator, url), polling(url) as polls:
        await polls.connect()
        run = await orchestrator.start("echo", {"text": "x"})
        await run.wait()
        await polls.post(f'42["crawl_subscribe",{{"progress_id":"{run.id}"}}]')
        told = await polls.event("crawl_progress")
        assert (told["status"], told["progress"]) == ("completed", 50)
        answer = await polls.ask("crawl_stop", progress_id=run.id)
        assert (answer["success"], answer["type"]) == (False, "urn:quiesce:run-ended")


async def test_who_asks_again_hears_again_how_the_run_stands() -> None:
    async with serving() as (orchestrator, url), polling(url) as polls:
        await polls.connect()
        run = await telling(orchestrator)
        subscribe = f'42["crawl_subscribe",{{"progress_id":"{run.id}"}}]'
        for _ in range(3):
            await polls.post(subscribe)
            assert await polls.event("crawl_progress") == progress(run)


async def test_who_unsubscribes_hears_no_more() -> None:
    async with serving() as (orchestrator, url), polling(url) as polls:
        await polls.connect()
        run, other = [await telling(orchestrator) for _ in range(2)]
        for each in (run, other):
            await polls.post(f'42["crawl_subscribe",{{"progress_id":"{each.id}"}}]')
            await polls.event("crawl_progress")
        assert (await polls.ask("crawl_unsubscribe", progress_id=run.id))["success"]
        for each in (run, other):
            await each.stop()
        assert (await polls.event("crawl:stopping"))["progressId"] == other.id
        # Nor does it matter whether one was there.
        assert (await polls.ask("crawl_unsubscribe", progress_id="nobody"))["success"]


@pytest.mark.slow
async def test_a_client_that_does_not_read_costs_no_memory_and_then_hears_the_present() -> None:
    async with serving() as (orchestrator, url), polling(url) as polls:
        await polls.connect()
        # One at a time, so that there is something to say after each.
        run = await orchestrator.start(teller, {"told": 200, "pause_s": 0.005})
        await polls.post(f'42["crawl_subscribe",{{"progress_id":"{run.id}"}}]')
        # Before that can be seen by anybody, the present is still another.
        await until_told(orchestrator, run, "page 199")
        heard = 1
        while (await polls.event("crawl_progress"))["log"] != "page 199":
            heard += 1
        # What waits in the queue, what waits for a place in it, and the present.
        assert heard <= engine.MAX_WAITING + 2


@pytest.mark.parametrize(
    ("name", "body", "field"),
    [
        ("crawl_subscribe", {}, "progress_id"),
        ("crawl_subscribe", {"progress_id": 1}, "progress_id"),
        ("crawl_stop", {"progress_id": "a", "more": 1}, "more"),
        ("crawl_nothing", {"progress_id": "a"}, "event"),
    ],
)
async def test_what_does_not_fit_is_answered_with_its_field(
    name: str, body: dict[str, Any], field: str
) -> None:
    async with serving() as (_, url), polling(url) as polls:
        await polls.connect()
        answer = await polls.ask(name, **body)
        assert (answer["success"], answer["status"]) == (False, 422)
        assert [each["field"] for each in answer["errors"]] == [field]


async def test_an_error_nobody_has_asked_to_be_told_is_an_event() -> None:
    async with serving() as (_, url), polling(url) as polls:
        await polls.connect()
        for said in ('["crawl_stop"]', '["crawl_stop",[]]', '["crawl_stop",{"progress_id":"a"}]'):
            await polls.post(f"42{said}")
            told = await polls.event("error")
            assert told["success"] is False
            assert told["message"]


async def test_rooms_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archon_rooms, "MAX_ROOMS", 1)
    async with serving() as (orchestrator, url), polling(url) as polls:
        await polls.connect()
        one, two = [await telling(orchestrator) for _ in range(2)]
        assert (await polls.ask("crawl_subscribe", progress_id=one.id))["success"]
        assert (await polls.ask("crawl_subscribe", progress_id=two.id))["status"] == 422
        await polls.ask("crawl_unsubscribe", progress_id=one.id)
        assert (await polls.ask("crawl_subscribe", progress_id=two.id))["success"]
        # A room that nobody could enter is none.
        await polls.ask("crawl_unsubscribe", progress_id=two.id)
        assert (await polls.ask("crawl_subscribe", progress_id="nobody"))["status"] == 404
        assert (await polls.ask("crawl_subscribe", progress_id=one.id))["success"]


async def test_so_are_the_answers_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "MAX_PENDING", 20)
    async with serving() as (_, url), polling(url) as polls:
        await polls.connect()
        asked = ['421["crawl_unsubscribe",{"progress_id":"a"}]'] * 10
        codes = [(await polls.post(*asked)).status_code for _ in range(5)]
        assert codes[0] == 200
        assert codes[-1] == 400


# Who may


async def rejected(url: str, auth: dict[str, Any] | None = None, **headers: str) -> str:
    """Return what a client is told that is turned away, for nobody knows it, as it connects so."""
    async with polling(url, **headers) as polls:
        said = await polls.connect(auth)
        assert said.startswith('44{"message":'), said
        told: dict[str, Any] = json.loads(said[2:])
        assert told["data"]["status"] == 401
        assert told["data"]["detail"] == told["message"]
        return str(told["message"])


async def test_who_it_is_is_said_by_a_token_a_header_or_a_cookie() -> None:
    allowed = access()
    again = Credentials(token_of("viewer"), Headers(), "127.0.0.1")
    cookie = f"{COOKIE}={allowed.sessions.open(lambda: allowed.identify(again))}"
    async with serving(allowed) as (_, url):
        host = url.removeprefix("http://")
        for auth, headers in (
            ({"token": token_of("viewer")}, {}),
            (None, {"Authorization": f"Bearer {token_of('viewer')}"}),
            (None, {"Cookie": cookie, "Origin": f"http://{host}"}),
            # A token that is given with the event counts, whatever else is there.
            ({"token": token_of("viewer")}, {"Authorization": "Bearer nonsense"}),
        ):
            async with polling(url, **headers) as polls:
                assert (await polls.connect(auth)).startswith('40{"sid":"')
        nothing: list[dict[str, Any] | None] = [None, {"token": ""}, {"token": 1}]
        for said in nothing:
            assert "connect with `auth: {token: TOKEN}`" in await rejected(url, said)
        assert "is not known here" in await rejected(url, {"token": "nonsense"})


async def test_without_identity_nothing_is_heard_or_done() -> None:
    async with serving(access()) as (orchestrator, url), polling(url) as polls:
        run = await telling(orchestrator)
        assert (await polls.connect()).startswith("44")
        stop = f'42["crawl_stop",{{"progress_id":"{run.id}"}}]'
        assert (await polls.post(stop)).status_code == 400
        assert run.record.stop is None


@pytest.mark.parametrize("name", ["crawl_subscribe", "crawl_stop"])
async def test_a_run_that_one_may_not_see_is_one_that_is_not_there(name: str) -> None:
    async with serving(access()) as (orchestrator, url), polling(url) as polls:
        run = await telling(orchestrator)
        await polls.connect({"token": token_of("narrow other")})
        hidden = await polls.ask(name, progress_id=run.id)
        unknown = await polls.ask(name, progress_id="run_0")
        assert hidden["status"] == 404
        assert str(hidden).replace(run.id, "run_0") == str(unknown)
        # Not even by asking twice in one go.
        subscribe = f'42["crawl_subscribe",{{"progress_id":"{run.id}"}}]'
        await polls.post(subscribe, subscribe)
        assert [(await polls.event("error"))["status"] for _ in range(2)] == [404, 404]
        assert run.record.stop is None


@pytest.mark.parametrize(
    ("who", "status"), [("viewer", 403), ("other", 403), ("owner", None), ("admin", None)]
)
async def test_a_stop_needs_the_right_and_is_in_the_audit(who: str, status: int | None) -> None:
    async with serving(access()) as (orchestrator, url), polling(url) as polls:
        run = await telling(orchestrator)
        await polls.connect({"token": token_of(who)})
        answer = await polls.ask("crawl_stop", progress_id=run.id)
        assert answer.get("status") == status
        assert (run.record.stop is not None) == (status is None)
        async with httpx.AsyncClient(base_url=url) as client:
            token = {"Authorization": f"Bearer {token_of('admin')}"}
            entries = (await client.get("/audit", headers=token)).json()["audit"]
        noted = [(each["action"], each["run_id"], each["result"]) for each in entries]
        assert noted[0] == ("stop", run.id, "forbidden" if status else "ok")
        assert entries[0]["principal"] in ("vic", "otto", "olga", "ada")
        assert entries[0]["from"] == "127.0.0.1"


async def test_a_page_of_another_site_gets_nothing() -> None:
    async with serving() as (_, url), httpx.AsyncClient(base_url=url) as client:
        for origin in ("http://evil.example", "null"):
            headers = {"Origin": origin}
            asked = await client.get("/socket.io/", params=POLLING, headers=headers)
            assert asked.json()["type"] == "urn:quiesce:foreign-origin"
            posted = await client.post("/socket.io/", params=POLLING, headers=headers, content="40")
            assert posted.json()["type"] == "urn:quiesce:foreign-origin"
            port = int(url.rpartition(":")[2])
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                assert await Peer(stream).open([(b"Origin", origin.encode())], WEBSOCKET) == 403


@pytest.mark.slow
async def test_a_principal_has_so_many_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(access()) as (_, url), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(polling(url)) for _ in range(4)]
        monkeypatch.setattr(engine, "MAX_SESSIONS", 2)
        token = {"token": token_of("viewer")}
        said = [(await each.connect(token))[:2] for each in clients[:3]]
        assert said == ["40", "40", "44"]
        assert (await clients[3].connect({"token": token_of("owner")}))[:2] == "40"
        await clients[0].post("1")
        assert (await clients[2].connect(token))[:2] == "40"


async def test_other_rules_end_the_sessions_of_the_old_ones() -> None:
    allowed: Access = access()
    async with serving(allowed) as (_, url), polling(url) as polls, socket(url) as peer:
        await polls.connect({"token": token_of("viewer")})
        for tell in allowed.when_changed:
            tell()
        assert (await peer.until_closed()).code == engine.GOING_AWAY
        while (await polls.poll()).status_code != 400:
            pass
        async with polling(url) as again:
            assert (await again.connect({"token": token_of("viewer")})).startswith("40")


async def test_the_last_one_to_leave_stops_a_run_that_is_for_its_watchers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.audience.RECONNECT_S", 0.1)
    async with serving() as (orchestrator, url):
        run = await telling(orchestrator, on_disconnect="stop")
        async with polling(url) as polls:
            await polls.connect()
            await polls.post(f'42["crawl_subscribe",{{"progress_id":"{run.id}"}}]')
            await polls.event("crawl_progress")
            await polls.post("1")
        await run.ended.wait()
        assert run.record.stop is not None
        assert run.record.stop.source == "disconnect"

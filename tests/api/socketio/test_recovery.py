"""Clients whose connection broke: who is in its rooms again, and who is not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio

from api.socketio import engine, recovery
from api.socketio.recovery import Recovery
from tests.api.auth.people import access, token_of
from tests.api.socketio.raw import Polls, polling, serving, socket
from tests.api.socketio.test_rooms import progress, telling

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock


async def pid_of(polls: Polls, pid: str = "", token: str = "") -> str:
    """Connect, as a client that is known by that id; return by which it is known from now on."""
    auth = {"pid": pid, "offset": None, "token": token}
    said = await polls.connect({name: value for name, value in auth.items() if value})
    known: str = json.loads(said.removeprefix("40"))["pid"]
    return known


async def asked(polls: Polls, name: str, run_id: str) -> dict[str, Any]:
    return await polls.ask(name, progress_id=run_id)


async def test_a_client_that_is_back_is_in_its_rooms_though_nobody_missed_it() -> None:
    """Its old connection is half open: the server still takes it to be there."""
    async with serving() as (orchestrator, url), polling(url) as back, socket(url) as old:
        run, left = [await telling(orchestrator) for _ in range(2)]
        await old.receive_text()
        await old.send_text("40")
        pid = json.loads((await old.receive_text())[2:])["pid"]
        for number, each in enumerate((run, left)):
            await old.send_text(f'42{number}["crawl_subscribe",{{"progress_id":"{each.id}"}}]')
            while not (await old.receive_text()).startswith(f"43{number}"):
                pass
        await old.send_text(f'429["crawl_unsubscribe",{{"progress_id":"{left.id}"}}]')
        while not (await old.receive_text()).startswith("439"):
            pass

        assert await pid_of(back, pid) == pid

        assert (await old.until_closed()).code == engine.GOING_AWAY
        assert await back.event("crawl_progress") == progress(run)
        await left.stop()
        await run.stop()
        assert (await back.event("crawl:stopping"))["progressId"] == run.id
        assert (await back.event("crawl:stopped"))["progressId"] == run.id


async def test_who_says_goodbye_or_is_unknown_begins_anew() -> None:
    async with serving() as (orchestrator, url), polling(url) as first:
        run = await telling(orchestrator)
        pid = await pid_of(first)
        assert (await asked(first, "crawl_subscribe", run.id))["success"]
        await first.post("41")
        await first.post("1")
        for unknown in (pid, "nobody", ""):
            async with polling(url) as again:
                assert await pid_of(again, unknown) not in (unknown, pid)
                # Nothing came before this answer.
                await again.post('427["crawl_unsubscribe",{"progress_id":"a"}]')
                assert (await again.next()).startswith("437")


async def test_the_rooms_of_another_are_not_for_whoever_has_learnt_its_id() -> None:
    async with serving(access()) as (orchestrator, url), polling(url) as first:
        run = await telling(orchestrator)
        pid = await pid_of(first, token=token_of("owner"))
        assert (await asked(first, "crawl_subscribe", run.id))["success"]
        async with polling(url) as thief:
            assert await pid_of(thief, pid, token_of("other")) != pid
        # Nor has that ended the session of its owner.
        assert (await asked(first, "crawl_unsubscribe", "a"))["success"]
        await first.post("1")
        async with polling(url) as thief:
            assert await pid_of(thief, pid, token_of("other")) != pid
        async with polling(url) as back:
            assert await pid_of(back, pid, token_of("narrow owner")) == pid
            assert await back.event("crawl_progress") == progress(run)


async def test_what_cannot_be_seen_any_more_is_not_told() -> None:
    async with serving() as (orchestrator, url), polling(url) as first:
        run = await telling(orchestrator)
        pid = await pid_of(first)
        assert (await asked(first, "crawl_subscribe", run.id))["success"]
        await first.post("1")
        await run.stop()
        await orchestrator.forget(run.id)
        async with polling(url) as back:
            assert await pid_of(back, pid) == pid
            await back.post('427["crawl_unsubscribe",{"progress_id":"a"}]')
            assert (await back.next()).startswith("437")


async def test_it_is_kept_for_a_while_and_of_so_many(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Recovery()
    kept.keep("early", "ann", ("a", "b"))
    kept.keep("late", "ann", ("c",))
    assert kept.take("early", "ann") == ("a", "b")
    assert kept.take("early", "ann") is None
    await trio.sleep(recovery.KEPT_S + 1)
    assert kept.take("late", "ann") is None
    kept.keep("new", "ann", ())
    assert len(kept) == 1
    monkeypatch.setattr(recovery, "MAX_KEPT", 2)
    for pid in ("x", "y"):
        kept.keep(pid, "ann", ())
    assert kept.take("new", "ann") is None
    assert kept.take("x", "ann") == ()

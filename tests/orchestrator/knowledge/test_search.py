"""What runs have found is found again: all of it, at once, and no longer than it is there."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Context, Knowledge, Orchestrator, agent, open_orchestrator
from orchestrator.agents.crawl import crawl as real_crawl
from orchestrator.retention import Keeper
from tests.orchestrator.agents.conftest import site as site  # a fixture
from tests.orchestrator.agents.site import Answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from orchestrator import Passage, Run
    from tests.orchestrator.agents.site import Site
    from tests.postgres import Server

BOUND_S = 30


@agent
async def ingest(ctx: Context, texts: dict[str, str], more: bool = False) -> None:
    """Keep texts as the built-in agent does; wait for a stop if there is more to come."""
    for name, text in texts.items():
        line = {"source": name, "title": f"About {name}", "page": 2, "start": 10, "text": text}
        await ctx.artifact("chunks.jsonl", json.dumps(line).encode() + b"\n", append=True)
    if more:
        await ctx.log("kept")
        await trio.sleep_forever()


@asynccontextmanager
async def opened(url: str = "memory://") -> AsyncIterator[tuple[Orchestrator, Knowledge]]:
    with trio.fail_after(BOUND_S):
        async with open_orchestrator(url, agents=[ingest, real_crawl]) as orchestrator:
            knowledge = Knowledge(orchestrator)
            try:
                yield orchestrator, knowledge
            finally:
                knowledge.close()


async def keep(orchestrator: Orchestrator, owner: str = "", **texts: str) -> Run:
    run = await orchestrator.start(ingest, {"texts": texts}, owner=owner)
    await run.wait()
    return run


async def keeping(orchestrator: Orchestrator, **texts: str) -> Run:
    """Start a run that has kept this, and goes on."""
    run = await orchestrator.start(ingest, {"texts": texts, "more": True})
    async for event in await orchestrator.events(run.id):
        if event.type == "run.log":
            return run
    raise AssertionError


def sources(found: list[Passage]) -> list[str]:
    return [each.source for each in found]


async def test_a_passage_says_where_it_is_from() -> None:
    async with opened() as (orchestrator, knowledge):
        run = await keep(orchestrator, book="Nurseries hold their tasks.")
        (found,) = await knowledge.search("task nursery")
        assert (found.run_id, found.source, found.title) == (run.id, "book", "About book")
        assert (found.page, found.start, found.end) == (2, 10, 37)
        assert found.text == "Nurseries hold their tasks."


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("stopping", ["a"]),
        ("STOPS", ["a"]),
        ("cafe", ["b"]),
        ("café stop", []),
        ("about", ["b", "a"]),
        ("", ["b", "a"]),
        ('"stop OR NEAR(', []),
        ("stop'; DROP TABLE runs", []),
        ("*", []),
        ("---", []),
        ("stop\0", ["a"]),
        ("title:stop", []),
        ("the " * 1_000, []),
    ],
)
async def test_words_are_words_and_nothing_else(words: str, expected: list[str]) -> None:
    async with opened() as (orchestrator, knowledge):
        await keep(orchestrator, a="It stops.", b="Un café.")
        assert sources(await knowledge.search(words)) == expected


async def test_a_title_counts_for_more_than_the_text() -> None:
    async with opened() as (orchestrator, knowledge):
        await keep(orchestrator, stop="nothing", other="a stop, and a stop")
        assert sources(await knowledge.search("stop")) == ["stop", "other"]


async def test_one_finds_what_runs_of_one_owner_have_found() -> None:
    async with opened() as (orchestrator, knowledge):
        await keep(orchestrator, "olga", hers="word")
        await keep(orchestrator, "otto", his="word")
        assert sources(await knowledge.search("word", owner="olga")) == ["hers"]
        assert sources(await knowledge.search(owner="otto")) == ["his"]
        assert sources(await knowledge.search("word", owner="eve")) == []
        assert sorted(sources(await knowledge.search("word"))) == ["hers", "his"]


async def test_pages_of_what_is_found_follow_on_each_other() -> None:
    async with opened() as (orchestrator, knowledge):
        await keep(orchestrator, **{f"n{number}": f"word {number}" for number in range(5)})
        pages = [await knowledge.search("word", skip=skip, limit=2) for skip in (0, 2, 4, 6)]
        assert [len(page) for page in pages] == [2, 2, 1, 0]
        assert len({source for page in pages for source in sources(page)}) == 5


async def test_what_runs_have_found_alike_is_there_once_as_the_latest_found_it() -> None:
    async with opened() as (orchestrator, knowledge):
        await keep(orchestrator, page="same words")
        await knowledge.search("same")
        latest = await keep(orchestrator, page="same words")
        assert [each.run_id for each in await knowledge.search("same")] == [latest.id]
        await orchestrator.forget(latest.id)
        assert len(await knowledge.search("same")) == 1


async def test_a_run_is_found_while_it_goes_on_and_after_it_was_stopped() -> None:
    async with opened() as (orchestrator, knowledge):
        assert await knowledge.search("half") == []
        run = await keeping(orchestrator, book="half of it")
        assert sources(await knowledge.search("half")) == ["book"]
        await run.stop()
        assert sources(await knowledge.search("half")) == ["book"]


async def test_what_goes_with_a_run_is_found_no_more() -> None:
    """Deleted, discarded by its stop, or kept for long enough."""
    async with opened() as (orchestrator, knowledge):
        deleted = await keep(orchestrator, deleted="word")
        discarded = await keeping(orchestrator, discarded="word")
        old = await orchestrator.start(ingest, {"texts": {"old": "word"}}, retention_s=0)
        await old.wait()
        assert len(await knowledge.search("word")) == 3

        await orchestrator.forget(deleted.id)
        assert sorted(sources(await knowledge.search("word"))) == ["discarded", "old"]
        await discarded.stop(discard=True)
        assert sources(await knowledge.search("word")) == ["old"]
        await Keeper(orchestrator._services, 1e9).look()
        assert await knowledge.search("word") == []
        assert await knowledge.search() == []


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store that outlasts whoever has it."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/runs.db"
    server: Server = request.getfixturevalue("postgres_server")
    return server.make_database("knowledge")


async def test_a_new_process_finds_what_the_store_has(url: str) -> None:
    async with opened(url) as (orchestrator, knowledge):
        await keep(orchestrator, first="word")
        await keep(orchestrator, second="word")
        assert sources(await knowledge.search("")) == ["second", "first"]
    async with opened(url) as (orchestrator, knowledge):
        assert sources(await knowledge.search("")) == ["second", "first"]
        await keep(orchestrator, third="word")
        assert sources(await knowledge.search("")) == ["third", "second", "first"]


async def test_a_search_that_is_cancelled_loses_nothing() -> None:
    """Before anything is read, and between the runs that are taken in."""
    async with opened() as (orchestrator, knowledge):
        for number in range(3):
            await keep(orchestrator, **{f"n{number}": "word"})
        for turns in range(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(knowledge.search, "word")
                for _ in range(turns):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert sorted(sources(await knowledge.search("word"))) == ["n0", "n1", "n2"]


async def test_many_search_at_once() -> None:
    found: list[Any] = []
    async with opened() as (orchestrator, knowledge):
        await keep(orchestrator, book="word")

        async def search() -> None:
            found.append(sources(await knowledge.search("word")))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(search)
    assert found == [["book"]] * 20


async def test_what_a_crawl_has_found_is_found(site: Site) -> None:
    kind = {"Content-Type": "text/html"}
    home = b"<title>Home</title><p>Welcome to nurseries.<p><a href='/a'>a</a>"
    site.answers["/"] = [Answer(home, headers=kind)]
    site.answers["/a"] = [Answer(b"<title>Other</title><p>Nothing.", headers=kind)]
    async with opened() as (orchestrator, knowledge):
        run = await orchestrator.start(real_crawl, {"url": site.url("/")})
        await run.wait()
        (found,) = await knowledge.search("nursery")
        assert (found.source, found.title, found.page) == (site.url("/"), "Home", None)
        assert (found.start, found.text) == (0, "Welcome to nurseries.\na")
        assert len(await knowledge.search()) == 2

"""A tree of sub-agents with streams at its leaves, stopped; all facts are the victim's."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trio.testing

from api.service import open_server
from orchestrator import Context, Event, Orchestrator, RunStatus, agent, open_orchestrator
from orchestrator.events import ENDINGS
from tests.victim import Victim, open_victim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIDDLES, LEAVES = 4, 10
# The root, its sub-agents and theirs.
RUNS = 1 + MIDDLES + MIDDLES * LEAVES

# What the agents' `finally` blocks say, by the root's id.
finals: dict[str, list[str]] = {}


@agent(http_concurrency=10)
async def leaf(ctx: Context, url: str, root: str) -> None:
    """Stream for ever, in one operation."""
    try:
        async with ctx.operation("http", url), ctx.http.stream("GET", url) as response:
            async for _ in response.aiter_raw():
                pass
    finally:
        finals.setdefault(root, []).append(url)


@agent
async def polite(ctx: Context, url: str, root: str) -> None:
    """Make one finite request after the other."""
    try:
        while True:
            await ctx.get(url)
    finally:
        finals.setdefault(root, []).append(url)


@agent
async def middle(ctx: Context, kind: str, urls: list[str], how: str, root: str) -> None:
    """Run the leaves in one of the three ways in which sub-agents run."""
    inputs = [{"url": url, "root": root} for url in urls]
    match how:
        case "map":
            await ctx.map(kind, inputs)
        case "start":
            for each in inputs:
                await ctx.start(kind, **each)
        case _:
            async with trio.open_nursery() as nursery:
                for each in inputs:
                    nursery.start_soon(partial(ctx.call, kind, **each))


@agent
async def top(ctx: Context, url: str, kind: str) -> None:
    """Run the middles, in all of those ways too."""
    given = [
        {
            "kind": kind,
            "urls": [f"{url}&of={ctx.run_id}&leaf={n}.{m}" for m in range(LEAVES)],
            "how": how,
            "root": ctx.run_id,
        }
        for n, how in enumerate(["map", "start", "call", "map"])
    ]
    await ctx.start(middle, **given[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(ctx.call, middle, **given[1]))
        nursery.start_soon(ctx.map, middle, given[2:])


ALL = [leaf, polite, middle, top]


@dataclass
class Stage:
    """A victim, an orchestrator, and a bystander whose stream nobody may disturb."""

    victim: Victim
    orchestrator: Orchestrator
    random: random.Random = field(default_factory=random.Random)

    def of(self, run_id: str) -> list[Any]:
        """Return the victim's connections of one tree."""
        return [
            c for c in self.victim.connections if any(f"of={run_id}&" in r.path for r in c.requests)
        ]

    async def begin(self, path: str, kind: str) -> str:
        """Start a tree, and wait until the victim sees all of its leaves."""
        given = {"url": self.victim.url + path, "kind": kind}
        run_id = (await self.orchestrator.start(top, given)).id
        await self.victim.until(lambda: len(self.of(run_id)) >= MIDDLES * LEAVES)
        await trio.sleep(self.random.choice([0, 0, self.random.uniform(0, 0.01)]))
        return run_id

    async def check_feed(self, run_id: str) -> list[Event]:
        """Check the tree's feed: gapless, children's ends before parents', the root's last."""
        events = await self.orchestrator.store.events(run_id, after=0, limit=100_000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        ends = {event.run_id: event.seq for event in events if event.type in ENDINGS}
        tree = await self.orchestrator.tree(run_id)
        assert len([event for event in events if event.type in ENDINGS]) == len(tree) == len(ends)
        for run in tree:
            assert run.status is RunStatus.STOPPED
            assert run.parent_id is None or ends[run.id] < ends[run.parent_id]
        assert events[-1].run_id == run_id
        return events

    def bystanders_ticks(self) -> int:
        """How many chunks the bystander was sent so far."""
        return sum(n for path, n in self.victim.sent.items() if "bystander" in path)

    async def check_bystander(self) -> None:
        """See that the bystander's stream goes on."""
        before = self.bystanders_ticks()
        with trio.fail_after(5):
            while self.bystanders_ticks() == before:
                await trio.sleep(0.001)


@asynccontextmanager
async def on_stage(seed: int) -> AsyncIterator[Stage]:
    finals.clear()
    async with open_victim() as victim, open_orchestrator(agents=ALL) as orchestrator:
        stage = Stage(victim, orchestrator, random.Random(seed))
        url = victim.url + "/stream?bystander"
        run = await orchestrator.start(leaf, {"url": url, "root": "bystander"})
        await victim.until(lambda: stage.bystanders_ticks() > 0)
        yield stage
        assert run.status is RunStatus.RUNNING
        await run.stop(mode="now")
        assert finals.pop("bystander") == [url]


async def stop_now(stage: Stage) -> None:
    run_id = await stage.begin("/stream?", "leaf")
    run = stage.orchestrator.live(run_id)
    assert run is not None

    receipt = await run.stop(mode="now")

    # The agents' side is certain the moment that the stop returns.
    assert len(finals.pop(run_id)) == MIDDLES * LEAVES
    assert receipt.runs_stopped == RUNS
    assert receipt.clients_closed == MIDDLES * LEAVES
    assert receipt.operations.cut == MIDDLES * LEAVES
    assert not [each for each in stage.orchestrator.registry if each.record.root_id == run_id]
    # The kernel has the closing; the victim's tasks only have to be scheduled to see it.
    await trio.testing.wait_all_tasks_blocked()
    assert [c for c in stage.of(run_id) if c.closed is None] == []
    await stage.check_feed(run_id)
    await stage.check_bystander()
    stage.victim.forget()


async def stop_gracefully(stage: Stage) -> None:
    run_id = await stage.begin("/slow?seconds=0.02&", "polite")
    run = stage.orchestrator.live(run_id)
    assert run is not None

    ticket = run.request_stop(grace_s=10)
    await stage.orchestrator.durable(ticket)
    acknowledged = trio.current_time()
    record = await run.wait()
    await trio.sleep(0.03)

    requests = [r for c in stage.of(run_id) for r in c.requests]
    assert record.stop is not None
    assert record.stop.operations.cut == 0
    assert all(r.finished is not None for r in requests)
    # An operation that was in flight may have sent its request only then, but no other may.
    late = [r.path for r in requests if r.begun > acknowledged]
    assert len(set(late)) == len(late) <= record.stop.operations.finished
    events = await stage.check_feed(run_id)
    stopping = next(e.seq for e in events if e.type == "run.stopping")
    assert not [e for e in events if e.type == "operation.started" and e.seq > stopping]
    assert len([e for e in events if e.type == "operation.started"]) == len(requests)
    assert len(finals.pop(run_id)) == MIDDLES * LEAVES
    await stage.check_bystander()
    stage.victim.forget()


async def stop_over_http(stage: Stage, client: httpx.AsyncClient) -> None:
    run_id = await stage.begin("/stream?", "leaf")

    answer = await client.post(f"/runs/{run_id}/stop", json={"mode": "now", "wait_s": 20})

    assert len(finals.pop(run_id)) == MIDDLES * LEAVES
    assert answer.status_code == 200
    assert answer.json()["receipt"]["runs_stopped"] == RUNS
    await trio.testing.wait_all_tasks_blocked()
    assert [c for c in stage.of(run_id) if c.closed is None] == []
    await stage.check_feed(run_id)
    await stage.check_bystander()
    stage.victim.forget()


async def stop_gracefully_over_http(stage: Stage, client: httpx.AsyncClient) -> None:
    run_id = await stage.begin("/held?", "polite")
    await trio.testing.wait_all_tasks_blocked()
    before = [r for c in stage.of(run_id) for r in c.requests]

    answer = await client.post(f"/runs/{run_id}/stop", json={"grace_s": 20})
    assert answer.status_code == 202
    assert answer.json()["receipt"]["outcome"] == "stopping"
    stage.victim.release.set()
    ended = (await client.get(f"/runs/{run_id}", params={"wait_s": 20})).json()

    assert ended["status"] == "stopped"
    assert ended["stop"]["reached"] == "graceful"
    assert ended["stop"]["operations"]["finished"] == MIDDLES * LEAVES
    await trio.testing.wait_all_tasks_blocked()
    # Not one request after those that were in flight at the stop, and all of those were answered.
    assert [r for c in stage.of(run_id) for r in c.requests] == before
    assert all(r.finished is not None for r in before)
    assert len(finals.pop(run_id)) == MIDDLES * LEAVES
    await stage.check_feed(run_id)
    await stage.check_bystander()
    stage.victim.forget()


TIMES = 50
SOME = [3, pytest.param(TIMES, marks=pytest.mark.slow)]


@pytest.mark.parametrize("times", SOME)
async def test_a_stop_now_has_closed_everything_when_it_returns(times: int) -> None:
    with trio.fail_after(240):
        async with on_stage(seed=times) as stage:
            for _ in range(times):
                await stop_now(stage)


@pytest.mark.parametrize("times", SOME)
async def test_a_graceful_stop_lets_nothing_new_out(times: int) -> None:
    with trio.fail_after(240):
        async with on_stage(seed=times) as stage:
            for _ in range(times):
                await stop_gracefully(stage)


@pytest.mark.slow
async def test_the_same_over_http() -> None:
    with trio.fail_after(240):
        async with (
            on_stage(seed=TIMES) as stage,
            open_server(stage.orchestrator) as url,
            httpx.AsyncClient(base_url=url, timeout=30) as client,
        ):
            for _ in range(TIMES):
                await stop_over_http(stage, client)
                await stop_gracefully_over_http(stage, client)

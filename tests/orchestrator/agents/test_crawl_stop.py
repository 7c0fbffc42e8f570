"""Stopping a crawl, seen from the site: nothing new arrives, and nothing that came is lost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import Orchestrator, Run, RunStatus, StopMode, StopOutcome
from orchestrator.agents.crawl import crawl
from tests.orchestrator.agents.site import Answer

if TYPE_CHECKING:
    from tests.orchestrator.agents.site import Site

CONCURRENCY = 4


async def in_mid_crawl(orchestrator: Orchestrator, site: Site, hold: trio.Event) -> Run:
    """Start a crawl and return once as many requests as may be are held by the site."""
    site.page("/", *(f"/{n}" for n in range(20)))
    for n in range(20):
        site.page(f"/{n}", f"/{n}/more", hold=hold)
    run = await orchestrator.start(
        crawl, {"url": site.url("/"), "concurrency": CONCURRENCY}, grace_s=10
    )
    await site.until(lambda: len(site.targets()) == 1 + CONCURRENCY)
    return run


async def stored(orchestrator: Orchestrator, run: Run) -> tuple[list[str], list[str]]:
    """Return the addresses in the artifact and in the partial result."""
    artifact = await orchestrator.artifact(run.id, "pages.jsonl") or b""
    partial: dict[str, Any] = await orchestrator.partial(run.id)
    assert partial["done"] == len(partial["pages"])
    lines = [json.loads(line)["url"] for line in artifact.splitlines()]
    return lines, [page["url"] for page in partial["pages"]]


async def test_a_graceful_stop_lets_what_is_in_flight_finish_and_keeps_it(
    orchestrator: Orchestrator, site: Site
) -> None:
    go = trio.Event()
    with trio.fail_after(10):
        run = await in_mid_crawl(orchestrator, site, go)
        await orchestrator.durable(run.request_stop(reason="enough"))
        asked = len(site.asked)
        go.set()
        receipt = await run.stop()
        await site.until(lambda: site.open == 0)

    assert run.status == RunStatus.STOPPED
    assert receipt.outcome is StopOutcome.STOPPED
    assert receipt.reached is StopMode.GRACEFUL
    assert (receipt.operations.finished, receipt.operations.cut) == (CONCURRENCY, 0)
    assert receipt.operations.refused == 0
    assert receipt.clients_closed == 1
    assert len(site.asked) == asked
    assert all(each.finished and not each.cut for each in site.asked)
    lines, listed = await stored(orchestrator, run)
    assert lines == listed
    assert sorted(lines) == sorted(site.url(target) for target in site.targets())


async def test_a_stop_now_closes_every_connection_before_it_returns(
    orchestrator: Orchestrator, site: Site
) -> None:
    with trio.fail_after(10):
        run = await in_mid_crawl(orchestrator, site, trio.Event())
        asked = len(site.asked)
        receipt = await run.stop(mode=StopMode.NOW)
        # The sockets are closed by now; the site needs a moment to see it.
        assert run.client.connections == 0
        await site.until(lambda: site.open == 0)

    assert run.status == RunStatus.STOPPED
    assert receipt.operations.cut == CONCURRENCY
    assert receipt.seconds is not None
    assert receipt.seconds < 1
    assert len(site.asked) == asked
    assert [each.target for each in site.asked if each.cut] == site.targets()[1:]
    lines, listed = await stored(orchestrator, run)
    assert lines == listed == [site.url("/")]


async def test_a_grace_that_runs_out_cuts_what_hangs_and_keeps_the_rest(
    orchestrator: Orchestrator, site: Site
) -> None:
    go = trio.Event()
    with trio.fail_after(10):
        site.page("/", "/hangs", "/answers")
        site.page("/hangs", hold=trio.Event())
        site.page("/answers", hold=go)
        run = await orchestrator.start(crawl, {"url": site.url("/")})
        await site.until(lambda: len(site.targets()) == 3)
        run.request_stop(grace_s=0.3)
        go.set()
        receipt = await run.stop()
        await site.until(lambda: site.open == 0)

    assert (receipt.operations.finished, receipt.operations.cut) == (1, 1)
    assert receipt.reached is StopMode.NOW
    assert [each.target for each in site.asked if each.cut] == ["/hangs"]
    lines, listed = await stored(orchestrator, run)
    assert lines == listed == [site.url("/"), site.url("/answers")]


async def test_a_stop_ends_the_wait_between_tries_at_once(
    orchestrator: Orchestrator, site: Site
) -> None:
    site.says("/", Answer(status=503, headers={"Retry-After": "60"}))
    with trio.fail_after(5):
        run = await orchestrator.start(crawl, {"url": site.url("/")})
        async for event in await orchestrator.events(run.id):
            if event.type == "run.log":
                break
        receipt = await run.stop()
    assert receipt.operations.cut == receipt.operations.finished == 0
    assert site.times("/") == 1
    assert "next try in 60.0 s" in event.data["message"]


async def test_a_stop_ends_the_wait_for_a_polite_moment_at_once(
    orchestrator: Orchestrator, site: Site
) -> None:
    site.page("/", "/a")
    with trio.fail_after(5):
        run = await orchestrator.start(crawl, {"url": site.url("/"), "delay_s": 100})
        await site.until(lambda: site.times("/robots.txt") == 1)
        await run.stop()
    assert site.targets() == []


async def test_a_stop_while_a_large_body_comes_in(orchestrator: Orchestrator, site: Site) -> None:
    html = {"Content-Type": "text/html", "Content-Length": str(1 << 40)}
    site.says("/", Answer(bytes(1 << 20), headers=html))
    with trio.fail_after(10):
        run = await orchestrator.start(crawl, {"url": site.url("/")})
        await site.until(lambda: len(site.asked) == 2 and site.asked[1].finished)
        assert site.open == 1
        await run.stop(mode=StopMode.NOW)
        await site.until(lambda: site.open == 0)
    assert (await stored(orchestrator, run)) == ([], [])


@pytest.mark.parametrize("mode", [StopMode.GRACEFUL, StopMode.NOW])
async def test_a_stop_at_any_moment_loses_no_page(
    orchestrator: Orchestrator, site: Site, mode: StopMode
) -> None:
    site.page("/", *(f"/{n}" for n in range(30)))
    for n in range(30):
        site.page(f"/{n}", text="word " * 1000)
    for moment in range(0, 32, 3):
        site.asked.clear()
        with trio.fail_after(10):
            run = await orchestrator.start(crawl, {"url": site.url("/")})
            await site.until(lambda: len(site.asked) > moment)  # noqa: B023  # awaited here
            run.request_stop(mode=mode)
            in_flight_at_most = len(site.asked) + 8
            await run.stop(mode=mode)
            await site.until(lambda: site.open == 0)
        assert len(site.asked) <= in_flight_at_most
        lines, listed = await stored(orchestrator, run)
        assert lines == listed
        if mode is StopMode.GRACEFUL:
            assert sorted(lines) == sorted(map(site.url, site.targets()))


async def test_other_crawls_go_on(orchestrator: Orchestrator, site: Site, other: Site) -> None:
    go = trio.Event()
    with trio.fail_after(10):
        stopped = await in_mid_crawl(orchestrator, site, trio.Event())
        goes_on = await in_mid_crawl(orchestrator, other, go)
        await stopped.stop(mode=StopMode.NOW)
        go.set()
        record = await goes_on.wait()
    assert record.status is RunStatus.SUCCEEDED
    assert record.result["done"] == 41
    assert len(other.targets()) == 41

"""Archon's stop where something fails, or does not end: in one process, on the virtual clock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from api.app import create_app
from orchestrator import Context, Orchestrator, RunId, RunStatus, agent, open_orchestrator
from orchestrator.store import SaveRun
from tests.orchestrator.test_journal import store as store  # a fixture
from tests.orchestrator.test_retention import virtual_now

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.orchestrator.test_journal import FailingStore

PATH = "/api/knowledge-items/stop/"


@agent
async def crawl(ctx: Context, url: str, clings_s: float = 0) -> None:
    """Wait for a stop, and cling to life for a while."""
    try:
        for percent in (39, 40):  # what it says twice is shown once
            await ctx.progress(percent, "4 of 10 pages")
        await trio.sleep_forever()
    finally:
        with ctx.cleanup():
            await trio.sleep(clings_s)


class Archon:
    """A client of an orchestrator's."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._client: Any = create_app(orchestrator, dialects=["archon"]).test_client()

    async def ask(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        answer = await self._client.open(path, method=method, headers={"Host": "localhost"})
        return answer.status_code, await answer.get_json()

    async def progress(self, run_id: str) -> dict[str, Any]:
        status, said = await self.ask("GET", f"/api/crawl-progress/{run_id}")
        assert status == 200
        return said


async def test_A1_a_stop_that_is_not_durable_is_a_500(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    async with open_orchestrator(agents=[crawl]) as orchestrator:
        run = await orchestrator.start(crawl, {"url": "x"})
        store.failing = True
        status, said = await Archon(orchestrator).ask("POST", PATH + run.id)
        assert (status, list(said)) == (500, ["error"])
        assert said["error"].startswith("the stop is being carried out but is not durable yet")
        store.failing = False


async def test_A4_a_stop_goes_on_although_the_store_fails(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    async with open_orchestrator(agents=[crawl]) as orchestrator:
        run = await orchestrator.start(crawl, {"url": "x"})
        store.failing = True
        archon = Archon(orchestrator)
        await archon.ask("POST", PATH + run.id)
        await trio.testing.wait_all_tasks_blocked()
        assert run.record.status is RunStatus.STOPPED
        # Nobody is told what is not durable.
        assert (await archon.progress(run.id))["status"] == "crawling"
        store.failing = False
        await run.wait()
        said = await archon.progress(run.id)
        assert (said["status"], said["progress"]) == ("cancelled", 40)
        assert said["logs"] == ["4 of 10 pages", "Crawl cancelled by user"]


async def test_A4_a_task_that_is_alive_after_two_seconds_is_not_dropped(
    autojump_clock: MockClock,
) -> None:
    async with open_orchestrator(agents=[crawl]) as orchestrator:
        run = await orchestrator.start(crawl, {"url": "x", "clings_s": 3.5}, cleanup_s=4)
        await trio.testing.wait_all_tasks_blocked()
        archon, began = Archon(orchestrator), trio.current_time()
        status, said = await archon.ask("POST", PATH + run.id)
        assert trio.current_time() - began == 2
        assert (status, said) == (
            200,
            {
                "success": True,
                "message": "Crawl task is stopping, and has not ended yet",
                "progressId": run.id,
            },
        )
        assert orchestrator.live(run.id) is run
        said = await archon.progress(run.id)
        assert (said["status"], said["log"]) == ("in_progress", "Stopping crawl operation...")
        # A second click says the same, until it has ended.
        status, said = await archon.ask("POST", PATH + run.id)
        assert trio.current_time() - began == 3.5
        assert said["message"] == "Crawl task stopped successfully"
        assert (await archon.ask("POST", PATH + run.id))[0] == 404
        assert (await archon.progress(run.id))["status"] == "cancelled"


async def test_A3_each_status_has_its_word(autojump_clock: MockClock) -> None:
    async with open_orchestrator(agents=[crawl], max_running=1) as orchestrator:
        archon = Archon(orchestrator)
        running = await orchestrator.start(crawl, {"url": "x"})
        queued = await orchestrator.start(crawl, {"url": "x"})
        late = await orchestrator.start(crawl, {"url": "x"}, deadline_s=5)
        assert (await archon.progress(queued.id))["status"] == "starting"
        await running.stop()
        await trio.testing.wait_all_tasks_blocked()
        assert (await archon.progress(queued.id))["status"] == "crawling"
        await queued.stop()
        await late.wait()
        assert (await archon.progress(late.id))["status"] == "error"
        orchestrator.refuse_starts("the end")
    assert running.record.status is RunStatus.STOPPED


async def test_B6_stale_records_and_orphans_are_reaped(
    store: FailingStore, autojump_clock: MockClock
) -> None:
    async with open_orchestrator(
        agents=[crawl], now=virtual_now, retention_s=1_800
    ) as orchestrator:
        archon = Archon(orchestrator)
        run = await orchestrator.start(crawl, {"url": "x"})
        # Nobody runs this one, although it has not ended.
        orphan = replace(run.record, id=RunId("run_orphan"), root_id=RunId("run_orphan"))
        await store.write([SaveRun(orphan)])
        await run.stop()
        await trio.sleep(120)
        assert orchestrator.upkeep.records_reaped == 1
        assert (await archon.progress("run_orphan"))["status"] == "error"
        await trio.sleep(1_800)
        assert (await archon.ask("GET", f"/api/progress/{run.id}"))[0] == 404
        assert (await archon.ask("POST", PATH + run.id))[0] == 404
        assert orchestrator.upkeep.forgotten >= 1

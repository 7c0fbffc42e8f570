"""What a server measures: each number asked of the exposition itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import Metrics, watch_loop
from api.metrics.labels import Few
from orchestrator import Context, Orchestrator, RunStatus, agent, open_orchestrator
from orchestrator.events import RunStarted
from orchestrator.feed import Feed
from orchestrator.testing import until
from tests.crash.test_recovery import _record
from tests.orchestrator.test_journal import store as store  # a fixture

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx
    from trio.testing import MockClock

    from tests.orchestrator.test_journal import FailingStore


@agent
async def worker(ctx: Context, seconds: float = 2.0) -> None:
    async with ctx.operation("work"):
        await trio.sleep(seconds)


@agent
async def boss(ctx: Context) -> None:
    await ctx.map(worker, [{"seconds": 1000}] * 3)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def measured(metrics: Metrics) -> AsyncIterator[Orchestrator]:
    """An orchestrator in memory whose ``metrics`` are taken."""
    async with open_orchestrator(agents=[worker, boss], observers=[metrics]) as opened:
        metrics.watch(opened)
        yield opened


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """Return one sample as Prometheus would see it; None if there is none."""
    return metrics.registry.get_sample_value(f"quiesce_{name}", labels)


async def test_a_stop_is_counted_with_its_time(
    measured: Orchestrator, metrics: Metrics, autojump_clock: MockClock
) -> None:
    run = await measured.start(worker)
    await trio.sleep(0.5)
    await run.stop()
    asked = {"mode": "graceful", "source": "user", "outcome": "stopped"}
    assert value(metrics, "stops_total", **asked) == 1
    assert value(metrics, "stop_duration_seconds_sum", reached="graceful") == 1.5
    assert value(metrics, "stop_duration_seconds_bucket", reached="graceful", le="1.0") == 0
    assert value(metrics, "stop_duration_seconds_bucket", reached="graceful", le="2.5") == 1


async def test_the_time_of_a_stop_is_filed_under_the_rung_that_it_took(
    measured: Orchestrator, metrics: Metrics, autojump_clock: MockClock
) -> None:
    run = await measured.start(worker, {"seconds": 1000})
    await trio.sleep(0.5)
    await run.stop(grace_s=3)
    assert value(metrics, "stop_duration_seconds_sum", reached="now") == pytest.approx(3, abs=0.01)
    assert value(metrics, "stop_duration_seconds_count", reached="graceful") is None


async def test_what_a_parent_passes_on_is_not_a_stop_of_its_own(
    measured: Orchestrator, metrics: Metrics, autojump_clock: MockClock
) -> None:
    run = await measured.start(boss)
    await trio.sleep(0.5)
    await run.stop(mode="now")
    about = {"mode": "now", "outcome": "stopped"}
    assert value(metrics, "stops_total", source="user", **about) == 1
    assert value(metrics, "stops_total", source="parent", **about) == 3
    assert value(metrics, "stop_duration_seconds_count", reached="now") == 1
    assert value(metrics, "starts_total", agent="boss", level="root") == 1
    assert value(metrics, "starts_total", agent="worker", level="child") == 3
    assert value(metrics, "runs_ended_total", agent="worker", status="stopped") == 3


async def test_a_stop_that_finished_first_is_no_failure(
    measured: Orchestrator, metrics: Metrics, autojump_clock: MockClock
) -> None:
    @agent
    async def returning(ctx: Context) -> None:
        with ctx.critical("commit", 5):
            await trio.sleep(1)

    run = await measured.start(returning)
    await trio.sleep(0.5)
    await run.stop()
    asked = {"mode": "graceful", "source": "user", "outcome": "finished_first"}
    assert value(metrics, "stops_total", **asked) == 1
    assert value(metrics, "stop_failures_total", outcome="abandoned") == 0


async def test_an_abandoned_run_is_a_failed_stop_and_stuck_until_it_exits(
    measured: Orchestrator, metrics: Metrics, autojump_clock: MockClock
) -> None:
    release = trio.Event()

    @agent
    async def stubborn(ctx: Context) -> None:
        with trio.CancelScope(shield=True):
            await release.wait()

    run = await measured.start(stubborn)
    await trio.testing.wait_all_tasks_blocked()
    await run.stop(mode="kill")
    assert value(metrics, "stop_failures_total", outcome="abandoned") == 1
    assert value(metrics, "stuck_runs") == 1
    release.set()
    await run.exited.wait()
    assert value(metrics, "stuck_runs") == 0


async def test_cleanup_errors_are_counted_once_for_a_tree(
    measured: Orchestrator, metrics: Metrics, autojump_clock: MockClock
) -> None:
    def broken() -> None:
        raise ValueError("no")

    @agent
    async def untidy(ctx: Context) -> None:
        ctx.on_stop(broken)
        await ctx.sleep(1000)

    @agent
    async def above(ctx: Context) -> None:
        await ctx.call(untidy)

    run = await measured.start(above)
    await trio.sleep(1)
    receipt = await run.stop()
    assert len(receipt.cleanup_errors) == 1
    assert value(metrics, "cleanup_errors_total") == 1


async def test_live_runs_are_shown_by_agent_and_status(
    measured: Orchestrator, metrics: Metrics, autojump_clock: MockClock
) -> None:
    assert value(metrics, "runs", agent="worker", status="running") == 0
    runs = [await measured.start(worker, {"seconds": 1000}) for _ in range(3)]
    for run in runs:
        await until(run, "running")
    runs[0].request_stop(grace_s=50)
    await until(runs[0], "stopping")
    assert value(metrics, "runs", agent="worker", status="running") == 2
    assert value(metrics, "runs", agent="worker", status="stopping") == 1
    assert value(metrics, "runs", agent="boss", status="running") == 0
    await measured.drain(grace_s=0)
    assert value(metrics, "runs", agent="worker", status="stopping") == 0
    assert value(metrics, "stops_total", mode="graceful", source="shutdown", outcome="stopped") == 2


def test_the_wait_in_the_queue_is_measured_once(metrics: Metrics) -> None:
    times = {"created_at": "2026-01-01T00:00:00.000Z", "started_at": "2026-01-01T00:00:07.250Z"}
    for attempt in (1, 2):
        record = _record("run_root", status=RunStatus.RUNNING, attempt=attempt, **times)
        event = Feed(record.id).number(record.id, RunStarted("sleeper", attempt), "")
        metrics.shown(event, record)
    assert value(metrics, "queue_wait_seconds_sum") == 7.25
    assert value(metrics, "queue_wait_seconds_count") == 1


async def test_the_store_is_measured_also_while_it_fails(
    store: FailingStore, metrics: Metrics, autojump_clock: MockClock
) -> None:
    async with open_orchestrator(observers=[metrics]) as orchestrator:
        metrics.watch(orchestrator)
        run = await orchestrator.start(worker)
        await trio.sleep(0.5)
        assert value(metrics, "store_commit_duration_seconds_count") == store.transactions
        assert (value(metrics, "store_failing"), value(metrics, "store_backlog")) == (0, 0)
        store.failing = True
        run.request_stop()
        await trio.sleep(0.25)
        assert (value(metrics, "store_failing"), value(metrics, "store_backlog")) == (1, 1)
        store.failing = False
        await run.ended.wait()
        assert (value(metrics, "store_failing"), value(metrics, "store_backlog")) == (0, 0)


async def test_what_a_crash_left_over_is_shown(measured: Orchestrator, metrics: Metrics) -> None:
    assert value(metrics, "orphans_total", became="lost") == 0
    measured.recovered = {"lost": 2, "restarted": 1}
    assert value(metrics, "orphans_total", became="lost") == 2
    assert value(metrics, "orphans_total", became="restarted") == 1


async def test_the_lag_of_the_loop_is_how_late_it_wakes(
    metrics: Metrics, mock_clock: MockClock
) -> None:
    closing = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch_loop, metrics, closing)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(2.0)
        await trio.testing.wait_all_tasks_blocked()
        closing.set()
    assert value(metrics, "event_loop_lag_seconds_sum") == 1.5
    assert value(metrics, "event_loop_lag_seconds_count") == 1


def test_a_label_has_a_bounded_number_of_values() -> None:
    few = Few(3)
    assert [few(name) for name in "abcdaeb"] == ["a", "b", "c", "other", "a", "other", "b"]


async def test_agents_that_are_made_up_do_not_make_series_without_end(
    measured: Orchestrator, metrics: Metrics, autojump_clock: MockClock
) -> None:
    async def nothing(ctx: Context) -> None:
        pass

    for n in range(150):
        await (await measured.start(agent(name=f"agent_{n}")(nothing))).wait()
    shown = {
        sample.labels["agent"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if "agent" in sample.labels
    }
    assert len(shown) == 101
    assert "other" in shown


async def test_metrics_are_those_of_one_orchestrator(measured: Orchestrator) -> None:
    metrics = Metrics()
    metrics.watch(measured)
    metrics.watch(measured)
    async with open_orchestrator() as other:
        with pytest.raises(ValueError, match="make new ones"):
            metrics.watch(other)


# Over HTTP


async def scrape(client: httpx.AsyncClient, **headers: str) -> dict[str, dict[str, float]]:
    """Return name -> labels as JSON -> value, as a Prometheus server reads it."""
    answer = await client.get("/metrics", headers=headers)
    assert answer.status_code == 200
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = json.dumps(sample.labels, sort_keys=True)
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def http_counts(found: dict[str, dict[str, float]]) -> dict[tuple[Any, ...], float]:
    counts = found["quiesce_http_request_duration_seconds_count"]
    return {tuple(sorted(json.loads(labels).values())): n for labels, n in counts.items()}


async def test_calls_are_filed_under_their_route_and_not_their_path(
    client: httpx.AsyncClient,
) -> None:
    run_id = (await client.post("/runs", json={"agent": "sleeper"})).json()["id"]
    await client.get(f"/runs/{run_id}")
    await client.get(f"/runs/{run_id}")
    await client.post(f"/runs/{run_id}/stop", json={"wait_s": 5})
    for n in range(30):
        await client.get(f"/nothing/{n}")
        await client.get(f"/runs/run_{n}")
    await client.request("BREW", "/nothing")
    assert http_counts(await scrape(client)) == {
        ("/runs", "201", "POST"): 1,
        ("/runs/{run_id}", "200", "GET"): 2,
        ("/runs/{run_id}", "404", "GET"): 30,
        ("/runs/{run_id}/stop", "200", "POST"): 1,
        ("404", "GET", "unmatched"): 30,
        ("404", "other", "unmatched"): 1,
    }


async def test_a_refusal_before_the_handler_is_measured_too(client: httpx.AsyncClient) -> None:
    await client.get("/runs", headers={"Origin": "https://elsewhere.example"})
    await client.post("/runs", content=b"{")
    assert http_counts(await scrape(client)) == {
        ("/runs", "403", "GET"): 1,
        ("/runs", "400", "POST"): 1,
    }


async def test_the_exposition_is_complete_and_well_named(client: httpx.AsyncClient) -> None:
    answer = await client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = list(text_string_to_metric_families(answer.text))
    assert {f.name.split("_")[0] for f in families} == {"quiesce", "process", "python"}
    for family in families:
        assert family.documentation, family.name
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith(("_total", "_created")), sample.name
            if family.type == "histogram" and family.name.startswith("quiesce_"):
                assert family.name.endswith("_seconds"), family.name


async def test_a_scraper_may_ask_for_open_metrics(client: httpx.AsyncClient) -> None:
    accept = "application/openmetrics-text; version=1.0.0"
    answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert answer.text.endswith("# EOF\n")

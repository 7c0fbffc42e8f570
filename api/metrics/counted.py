"""What happens, counted as it becomes durable."""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from api.metrics.labels import Few
from api.metrics.live import Live
from api.metrics.totals import Totals
from orchestrator import Observer, StopOutcome, StopSource

if TYPE_CHECKING:
    from api.answered import Answered
    from orchestrator import Event, Orchestrator, Receipt, RunRecord

# Seconds. A stop of what waits takes a few milliseconds; the default grace is half a minute.
_STOP = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_WAIT = (0.01, 0.1, 1, 5, 15, 60, 300, 900, 3600)
_COMMIT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_HTTP = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)

_FAILURES = (StopOutcome.ABANDONED, StopOutcome.LOST)


class Metrics(Observer):
    """The metrics of one server; give it to ``open_orchestrator`` or ``observers.add``.

    Attributes:
        registry: what ``GET /metrics`` shows; whoever measures more registers it here.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.agents = Few()
        self.totals = Totals()
        self.registry.register(self.totals)
        self._about_runs()
        self._about_stops()
        self._about_the_process()
        self._watched: Orchestrator | None = None

    def _about_runs(self) -> None:
        self.starts = self._counter("starts", "Runs that were started.", "agent", "level")
        self.ended = self._counter("runs_ended", "Runs that have ended.", "agent", "status")
        self._start_of = cache(self.starts.labels)
        self.queue_wait = self._histogram(
            "queue_wait", "From the start of a run until its code began.", _WAIT
        )

    def _about_stops(self) -> None:
        self.stops = self._counter(
            "stops", "Stops that are settled, one for each run.", "mode", "source", "outcome"
        )
        self.stop_duration = self._histogram(
            "stop_duration", "From the request of a stop until all is torn down.", _STOP, "reached"
        )
        self.stop_failures = self._counter(
            "stop_failures", "Stops after which something was still there.", "outcome"
        )
        for outcome in _FAILURES:
            self.stop_failures.labels(outcome)
        self.cleanup_errors = self._counter("cleanup_errors", "Cleanup steps that failed in stops.")
        self.killed = self._counter("processes_killed", "Processes that stops had to kill.")

    def _about_the_process(self) -> None:
        self.commit_duration = self._histogram(
            "store_commit_duration", "What the store took to make a batch durable.", _COMMIT
        )
        self.loop_lag = self._histogram(
            "event_loop_lag", "How late the event loop wakes a task.", _LAG
        )
        self.http_duration = self._histogram(
            "http_request_duration",
            "From a request until its answer begins.",
            _HTTP,
            "method",
            "route",
            "status",
        )

    def watch(self, orchestrator: Orchestrator) -> None:
        """Show what the orchestrator has now, and hear of its events. May be called twice.

        Raises:
            ValueError: it watches another one already.
        """
        orchestrator.observers.add(self)
        if self._watched is None:
            self._watched = orchestrator
            self.registry.register(Live(orchestrator, self.agents))
        if self._watched is not orchestrator:
            raise ValueError("metrics are those of one orchestrator; make new ones for another")

    def shown(self, event: Event, record: RunRecord) -> None:
        """Count an event."""
        self.totals.events += 1
        if not event.type.startswith("run."):
            return
        if event.type == "run.queued":
            level = "root" if record.parent_id is None else "child"
            self._start_of(self.agents(record.agent), level).inc()
        elif event.type == "run.started" and record.attempt == 1:
            self.queue_wait.observe(_seconds_between(record.created_at, record.started_at))
        elif record.status.is_terminal:
            self._count_ending(record)

    def committed(self, writes: int, seconds: float) -> None:
        """Count a batch that the store has taken."""
        self.totals.writes += writes
        self.commit_duration.observe(seconds)

    def answered(self, answered: Answered) -> None:
        """Count a call of the interface."""
        labels = (answered.method, answered.route, str(answered.status))
        self.http_duration.labels(*labels).observe(answered.seconds)

    def _count_ending(self, record: RunRecord) -> None:
        self.ended.labels(self.agents(record.agent), record.status).inc()
        stop = record.stop
        if stop is not None:
            self.stops.labels(stop.mode, stop.source, stop.outcome).inc()
            # What a parent passes on is part of the parent's stop, and stands on its receipt.
            if stop.source is not StopSource.PARENT:
                self._count_stop(stop)

    def _count_stop(self, stop: Receipt) -> None:
        self.stop_duration.labels(stop.reached).observe(stop.seconds or 0.0)
        self.cleanup_errors.inc(len(stop.cleanup_errors))
        self.killed.inc(stop.processes_killed)
        if stop.outcome in _FAILURES:
            self.stop_failures.labels(stop.outcome).inc()

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"quiesce_{name}", help, labels, registry=self.registry)

    def _histogram(
        self, name: str, help: str, buckets: tuple[float, ...], *labels: str
    ) -> Histogram:
        return Histogram(
            f"quiesce_{name}_seconds", help, labels, buckets=buckets, registry=self.registry
        )


def _seconds_between(earlier: str, later: str | None) -> float:
    if later is None:
        return 0.0
    took = datetime.fromisoformat(later) - datetime.fromisoformat(earlier)
    return max(0.0, took.total_seconds())

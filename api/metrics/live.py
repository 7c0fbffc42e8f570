"""What there is now, read when somebody asks for the metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from api.connection import Connection
from orchestrator import RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from api.metrics.labels import Few
    from orchestrator import Orchestrator

_LIVE = tuple(status for status in RunStatus if not status.is_terminal)
_ORPHANS = ("restarted", "stopped", "lost")


class Live(Collector):
    """The state of one orchestrator.

    Collected in a thread beside the loop: it only reads, and copies in one step what may change.
    """

    def __init__(self, orchestrator: Orchestrator, agents: Few) -> None:
        self._orchestrator = orchestrator
        self._agents = agents

    def collect(self) -> Iterator[Metric]:
        """Yield what there is now."""
        orchestrator, blocked = self._orchestrator, self._orchestrator.blocked
        yield self._runs()
        yield _gauge(
            "stuck_runs", "Abandoned runs whose code still stands.", len(orchestrator.stuck)
        )
        yield self._orphans()
        workers = sum(run.worker is not None for run in orchestrator.registry)
        yield _gauge("workers", "Runs that have a process of their own now.", workers)
        yield _gauge("store_backlog", "Entries that wait for the store.", orchestrator.backlog)
        failing = orchestrator.store_error is not None
        yield _gauge("store_failing", "1 while the store takes no writes.", failing)
        yield _counter(
            "event_loop_blocked",
            "Times that some code blocked every run.",
            0 if blocked is None else blocked.number,
        )
        yield _counter(
            "connection_failures", "Connections that an error has ended.", Connection.failures
        )
        yield _counter(
            "observer_failures",
            "Times that an observer has raised.",
            orchestrator.observers.failures,
        )

    def _runs(self) -> Metric:
        """Count the live runs; an agent that has none is shown too, with zeros."""
        found = Counter(
            (self._agents(run.record.agent), run.status) for run in self._orchestrator.registry
        )
        named = {self._agents(agent.name) for agent in self._orchestrator.agents}
        runs = GaugeMetricFamily(
            "quiesce_runs", "Runs that have not ended.", labels=("agent", "status")
        )
        for agent in sorted(named | {agent for agent, _ in found}):
            for status in _LIVE:
                runs.add_metric((agent, status), found[agent, status])
        return runs

    def _orphans(self) -> Metric:
        orphans = CounterMetricFamily(
            "quiesce_orphans",
            "Runs that a crash had left over when this process began, and what became of them.",
            labels=("became",),
        )
        for became in _ORPHANS:
            orphans.add_metric((became,), self._orchestrator.recovered.get(became, 0))
        return orphans


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(f"quiesce_{name}", help, value=value)


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(f"quiesce_{name}", help, value=value)

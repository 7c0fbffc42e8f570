"""What is counted at every event and every commit: plain numbers, without a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric


class Totals(Collector):
    """Plain numbers that the loop alone changes, and a thread reads when somebody asks.

    Attributes:
        events: that became durable.
        writes: that the store has made durable.
    """

    def __init__(self) -> None:
        self.events = 0
        self.writes = 0

    def collect(self) -> Iterator[Metric]:
        """Yield both."""
        yield CounterMetricFamily(
            "quiesce_events", "Events that became durable.", value=self.events
        )
        yield CounterMetricFamily(
            "quiesce_store_writes", "Writes that the store has made durable.", value=self.writes
        )

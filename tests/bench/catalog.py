"""All benchmarks, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.commits import bench_commits
from tests.bench.crowd import bench_crowd, bench_tree
from tests.bench.events import bench_events
from tests.bench.idle import bench_idle
from tests.bench.lists import bench_lists
from tests.bench.observers import bench_observers
from tests.bench.readers import bench_readers
from tests.bench.stop import bench_stop
from tests.bench.web import bench_starts, bench_stop_over_http
from tests.bench.workers import bench_workers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tests.bench.measure import Effort
    from tests.bench.report import Figure

BENCHMARKS: Mapping[str, Callable[[Effort], Awaitable[list[Figure]]]] = {
    "stop": bench_stop,
    "http-stop": bench_stop_over_http,
    "starts": bench_starts,
    "idle": bench_idle,
    "crowd": bench_crowd,
    "tree": bench_tree,
    "events": bench_events,
    "commits": bench_commits,
    "observers": bench_observers,
    "workers": bench_workers,
    "lists": bench_lists,
    "readers": bench_readers,
}

"""What it costs each event that somebody watches, beside the same events unwatched."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from api.metrics import Metrics
from orchestrator import Observer, open_orchestrator
from tests.bench.events import teller
from tests.bench.measure import Effort, in_turns
from tests.bench.report import Figure, ratio_at_most

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

EVENTS = 20_000

_WATCHED: Mapping[str, Callable[[], Sequence[Observer]]] = {
    "an idle observer": lambda: [Observer()],
    "metrics": lambda: [Metrics()],
}


async def bench_observers(effort: Effort) -> list[Figure]:
    """Emit events in one run, in memory, so that nothing else is in the way."""
    events = effort.of(EVENTS, least=8)
    measures = {name: partial(_emitted, events, make) for name, make in _WATCHED.items()}
    taken = await in_turns(
        effort.times(15), {"nobody": partial(_emitted, events, list), **measures}
    )
    floor = taken.pop("nobody")
    return [
        Figure(f"an event, {name}", "us", each, "nobody watches", floor, ratio_at_most(1.1))
        for name, each in taken.items()
    ]


async def _emitted(events: int, make: Callable[[], Sequence[Observer]]) -> float:
    """Return microseconds per event."""
    async with open_orchestrator(observers=make()) as orchestrator:
        began = time.monotonic()
        run = await orchestrator.start(teller, {"events": events})
        await run.wait()
        assert run.status == "succeeded"
        return (time.monotonic() - began) / events * 1e6

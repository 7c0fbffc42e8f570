"""How late the event loop is: what every run and every answer waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from api.metrics.counted import Metrics

EVERY_S = 0.5


async def watch_loop(metrics: Metrics, closing: trio.Event) -> None:
    """Measure now and then how late the loop wakes a task, until ``closing`` is set."""
    while not closing.is_set():
        due = trio.current_time() + EVERY_S
        with trio.move_on_at(due):
            await closing.wait()
        if not closing.is_set():
            metrics.loop_lag.observe(trio.current_time() - due)

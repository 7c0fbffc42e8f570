"""Fixtures for tests with real processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.worker import Warden, open_warden
from tests.orchestrator.worker.seen import children

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from orchestrator.worker import WorkerProcess

    Closing = Callable[..., None]


@pytest.fixture
async def warden() -> AsyncIterator[Warden]:
    """A warden, after which nothing may be left of it."""
    before = children()
    async with open_warden(preload=["tests.orchestrator.worker.zoo"]) as opened:
        await opened.ready()
        yield opened
    assert children() == before


@pytest.fixture
async def closing() -> AsyncIterator[Closing]:
    """Close the streams of the given workers after the test, whether or not it succeeds."""
    workers: list[WorkerProcess] = []
    yield lambda *given: workers.extend(given)
    for worker in workers:
        worker.close_streams()

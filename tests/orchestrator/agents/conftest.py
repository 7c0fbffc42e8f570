"""Sites for each test that asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.agents._crawl import fetch
from tests.orchestrator.agents.site import Site, open_site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A website on loopback that counts; real sockets, so the real clock."""
    async with open_site() as opened:
        yield opened


@pytest.fixture
async def other() -> AsyncIterator[Site]:
    """Another website."""
    async with open_site() as opened:
        yield opened


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait next to nothing before a request is tried again."""
    monkeypatch.setattr(fetch, "BACKOFF_S", 0.01)

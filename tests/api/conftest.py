"""An orchestrator behind a real server on a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from api.service import open_server
from orchestrator import Orchestrator, open_orchestrator
from tests.api.agents import ALL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def served() -> AsyncIterator[Orchestrator]:
    """The orchestrator that ``client`` talks to."""
    async with open_orchestrator(agents=ALL) as opened:
        yield opened


@pytest.fixture
async def url(served: Orchestrator) -> AsyncIterator[str]:
    """The base URL of a server on loopback."""
    async with open_server(served) as base:
        yield base


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of that server."""
    async with httpx.AsyncClient(base_url=url) as made:
        yield made

"""A site for each test that asks for one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.orchestrator.agents.site import Site, open_site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    """A website on loopback that counts; real sockets, so the real clock."""
    async with open_site() as opened:
        yield opened

"""Fixtures that many tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator import Orchestrator, open_orchestrator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def orchestrator() -> AsyncIterator[Orchestrator]:
    """An orchestrator in memory. A test that also asks for ``autojump_clock`` has virtual time."""
    async with open_orchestrator() as opened:
        yield opened

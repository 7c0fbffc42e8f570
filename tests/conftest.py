"""Fixtures that many tests share."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from orchestrator import Orchestrator, open_orchestrator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


# A shell starts what runs in its background with SIGINT ignored, and so would be all that the
# tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
async def orchestrator() -> AsyncIterator[Orchestrator]:
    """An orchestrator in memory. A test that also asks for ``autojump_clock`` has virtual time."""
    async with open_orchestrator() as opened:
        yield opened

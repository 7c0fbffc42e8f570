"""Fixtures that many tests share."""

from __future__ import annotations

import functools
import signal
from typing import TYPE_CHECKING

import pytest
from httpx._transports import default as _default

from orchestrator import Orchestrator, open_orchestrator
from tests import postgres, zygote

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


# A shell starts what runs in its background with SIGINT ignored, and so would be all that the
# tests start and then interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

zygote.install()
# A client of httpx reads the certificates of all authorities when it is made: 50 ms each time, and
# the tests make thousands.
_default.create_ssl_context = functools.cache(_default.create_ssl_context)  # type: ignore[attr-defined]


@pytest.fixture
async def orchestrator() -> AsyncIterator[Orchestrator]:
    """An orchestrator in memory. A test that also asks for ``autojump_clock`` has virtual time."""
    async with open_orchestrator() as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres_of_session() -> Iterator[postgres.Server]:
    """One server for all tests; see ``postgres_server``."""
    with postgres.serving() as server:
        yield server


@pytest.fixture
def postgres_server(postgres_of_session: postgres.Server) -> postgres.Server:
    """A PostgreSQL server that runs, and may be ended; the next test has it started again."""
    postgres_of_session.start()
    return postgres_of_session

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.store import SqliteStore, open_store
from orchestrator.store.postgresql import PostgresStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from orchestrator.store import Store
    from tests.postgres import Server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, path: Path) -> str:
    match request.param:
        case "memory":
            return "memory://"
        case "sqlite":
            return f"sqlite:///{path}"
        case _:
            return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    async with open_store(store_url) as opened:
        yield opened


@pytest.fixture
async def sqlite(path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store(f"sqlite:///{path}") as opened:
        assert isinstance(opened, SqliteStore)
        yield opened


@pytest.fixture
def postgres_url(postgres_server: Server) -> str:
    """An empty database."""
    return postgres_server.make_database("stores")


@pytest.fixture
async def postgresql(postgres_url: str) -> AsyncIterator[PostgresStore]:
    async with open_store(postgres_url) as opened:
        assert isinstance(opened, PostgresStore)
        yield opened

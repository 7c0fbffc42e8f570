from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.store import SqliteStore, open_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from orchestrator.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, path: Path) -> AsyncIterator[Store]:
    url = "memory://" if request.param == "memory" else f"sqlite:///{path}"
    async with open_store(url) as opened:
        yield opened


@pytest.fixture
async def sqlite(path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store(f"sqlite:///{path}") as opened:
        assert isinstance(opened, SqliteStore)
        yield opened

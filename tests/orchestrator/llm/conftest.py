"""A model server, and an environment that leads to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.orchestrator.llm_server import ModelServer, open_model_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables as a test expects them, whatever they are outside."""
    for name in ("BASE_URL", "API_KEY", "PRICES"):
        monkeypatch.delenv(f"QUIESCE_LLM_{name}", raising=False)
    monkeypatch.setenv("QUIESCE_LLM_MODEL", "small")


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModelServer]:
    """A model behind ``QUIESCE_LLM_BASE_URL``."""
    async with open_model_server() as opened:
        monkeypatch.setenv("QUIESCE_LLM_BASE_URL", opened.url)
        yield opened

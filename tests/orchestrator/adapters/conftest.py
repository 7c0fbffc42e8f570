"""What the tests of all adapters share: each framework, and an orchestrator that has it loaded."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from orchestrator import Agent, Orchestrator, open_orchestrator
from orchestrator.worker import pool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FRAMEWORKS = ("openai_agents", "pydantic_ai", "langgraph")


@pytest.fixture(params=FRAMEWORKS)
def ask(request: pytest.FixtureRequest) -> Agent:
    """The agent ``ask`` of a framework."""
    module = importlib.import_module(f"tests.orchestrator.adapters.on_{request.param}")
    found: Agent = module.ask
    return found


@pytest.fixture
async def orchestrator(ask: Agent, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Orchestrator]:
    """An orchestrator whose workers have the framework at once: to import it takes seconds."""
    module = ask.function.__module__
    monkeypatch.setattr(pool, "_PRELOAD", (*pool._PRELOAD, module))
    async with open_orchestrator() as opened:
        yield opened


@pytest.fixture
async def orchestrator_of_ours() -> AsyncIterator[Orchestrator]:
    """An orchestrator whose workers have nothing special."""
    async with open_orchestrator() as opened:
        yield opened

"""An orchestrator behind a real server on a real socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from api import answered
from api.schema import Order
from api.service import open_server
from orchestrator import Orchestrator, open_orchestrator
from tests.api.agents import ALL
from tests.api.contract import Contract

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from quart_trio import QuartTrio


@pytest.fixture(autouse=True)
def contract(monkeypatch: pytest.MonkeyPatch) -> Iterator[Contract]:
    """Every answer of every test here is as the document of the interface says."""
    found, install, validate = Contract(), answered.install, Order.model_validate

    def installed(app: QuartTrio, *tell: Any) -> None:
        found.watch(app)
        install(app, *tell)

    def validated(order: type[Order], given: Any) -> Order:
        found.note_parsed(order)
        checked: Order = validate.__func__(order, given)  # type: ignore[attr-defined]
        return checked

    monkeypatch.setattr(answered, "install", installed)
    monkeypatch.setattr(Order, "model_validate", classmethod(validated))
    yield found
    assert found.broken == []


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

"""A server process with every dialect, which these tests share, and the other end of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.api.processes import Site, quiesce

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# It serves all tests of this folder.
LIFETIME_S = 1_200.0
# Agents that a test needs beside the built-in ones.
AGENTS = """
import trio
from orchestrator import Context, agent

@agent
async def catches_everything(ctx: Context) -> str:
    for _ in range(5):
        try:
            await ctx.sleep(60)
        except BaseException:
            continue
    return "went on"
"""


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and where its files are."""

    url: str
    folder: Path


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real server."""
    folder = tmp_path_factory.mktemp("dialects")
    (folder / "mine.py").write_text(AGENTS)
    options = ["--port", "0", "--agents", "mine.py", "--dialect", "beacon,gofannon,ignition"]
    with quiesce("serve", *options, cwd=folder, lifetime_s=LIFETIME_S) as process:
        yield Server(process.until("listening").split()[-1], folder)


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    """A client of it."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def site() -> Iterator[Site]:
    """A site that counts, and answers when it is told to."""
    opened = Site()
    try:
        yield opened
    finally:
        opened.close()

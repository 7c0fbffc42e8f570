"""A server process with every dialect, which these tests share, and the other end of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.api.processes import Site, quiesce
from tests.dialects import written_for_gofannon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.processes import Process

# It serves all tests of this folder.
LIFETIME_S = 1_200.0
# Agents that a test needs beside the built-in ones.
AGENTS = """
from orchestrator import Context, agent

@agent
async def visit(ctx: Context, url: str) -> dict[str, str]:
    return {"text": (await ctx.get(url)).text}

@agent
async def fails_twice(ctx: Context, key: str) -> int:
    times = await ctx.data.get(key, 0) + 1
    await ctx.data.set(key, times)
    if times < 3:
        raise ValueError(f"{times} is too few")
    return times

@agent
async def catches_everything(ctx: Context) -> str:
    for _ in range(5):
        try:
            await ctx.sleep(60)
        except BaseException:
            continue
    return "went on"
"""
COMPLETION = b"""{"id": "1", "object": "chat.completion", "created": 0, "model": "small",
 "choices": [{"index": 0, "finish_reason": "stop",
              "message": {"role": "assistant", "content": "fine"}}],
 "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}"""


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and what it says."""

    url: str
    process: Process


@pytest.fixture(scope="session")
def models() -> Iterator[Site]:
    """The language model of the server."""
    kind = b"Content-Type: application/json\r\n"
    opened = Site(kind + b"Content-Length: %d\r\n\r\n" % len(COMPLETION) + COMPLETION)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, models: Site) -> Iterator[Server]:
    """A real server."""
    folder = tmp_path_factory.mktemp("dialects")
    (folder / "mine.py").write_text(AGENTS)
    written_for_gofannon.write(folder)
    options = ["--port", "0", "--dialect", "archon,beacon,gofannon,ignition"]
    options += ["--agents", "mine.py", "--agents", "from_gofannon.py"]
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("QUIESCE_LLM_BASE_URL", models.url)
        environment.setenv("QUIESCE_LLM_MODEL", "small")
        with quiesce("serve", *options, cwd=folder, lifetime_s=LIFETIME_S) as process:
            yield Server(process.until("listening").split()[-1], process)


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

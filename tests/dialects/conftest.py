"""A server process with every dialect, which these tests share, and the other end of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.api.processes import Site, quiesce

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.api.processes import Process

# It serves all tests of this folder.
LIFETIME_S = 1_200.0
# Agents that a test needs beside the built-in ones.
AGENTS = """
from orchestrator import Context, agent
from orchestrator.agents.gofannon import as_agent
from written_for_gofannon import chain, summarise

chain, summarise = as_agent(chain), as_agent(summarise)

@agent
async def catches_everything(ctx: Context) -> str:
    for _ in range(5):
        try:
            await ctx.sleep(60)
        except BaseException:
            continue
    return "went on"
"""
# As they would be there, but for the import.
WRITTEN_FOR_GOFANNON = '''
from orchestrator.agents.gofannon import (
    AgentStopped, call_llm, data_store, gofannon_client, http_client, should_stop,
)


async def ask(question):
    text, _ = await call_llm(
        provider="openai", model="small", messages=[{"role": "user", "content": question}]
    )
    return text


async def summarise(input_dict, tools):
    """Ask a model twice, and note what comes between."""
    notes = []
    try:
        for number in range(2):
            notes.append(await ask(f"{input_dict['text']} {number}"))
            notes.append(should_stop())
        return {"outputText": notes}
    except AgentStopped:
        for _ in range(3):
            try:
                await data_store.set("after", "the stop")
            except AgentStopped:
                notes.append("refused again")
        raise
    finally:
        await http_client.aclose()
        print(f"notes of {input_dict['text']}:", notes, flush=True)


async def chain(input_dict, tools):
    await data_store.set("before", "the stop")
    return await gofannon_client.call(agent_name="summarise", input_dict=input_dict)
'''
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
    (folder / "written_for_gofannon.py").write_text(WRITTEN_FOR_GOFANNON)
    options = ["--port", "0", "--agents", "mine.py", "--dialect", "archon,beacon,gofannon,ignition"]
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

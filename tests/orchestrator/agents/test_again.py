"""What agents that find something to read have kept when they start again after a crash."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import File, RunStatus
from orchestrator.agents.crawl import crawl
from orchestrator.agents.ingest import ingest
from orchestrator.testing import Reply
from tests.orchestrator.admission.lives import Machine

if TYPE_CHECKING:
    from orchestrator import Orchestrator, RunId
    from orchestrator.testing import ScriptedHTTP

SITE = "http://site.test"
CHUNKS = 2_000
BOUND_S = 60


async def kept(orchestrator: Orchestrator, run_id: RunId, name: str) -> list[dict[str, Any]]:
    data = await orchestrator.artifact(run_id, name)
    return [json.loads(line) for line in (data or b"").splitlines()]


async def has_kept(orchestrator: Orchestrator, run_id: RunId, name: str) -> None:
    """Wait until a run has kept something."""
    async for event in await orchestrator.events(run_id):
        if event.type == "run.artifact" and event.data["name"] == name:
            return
    raise AssertionError(f"it has ended: {await orchestrator.get(run_id)}")


async def test_a_crawl_has_each_page_once(scripted_http: ScriptedHTTP) -> None:
    html = {"content-type": "text/html"}
    scripted_http.on("GET", f"{SITE}/", text="<a href=/b>b</a>first", headers=html)
    # It comes only when it is asked for again.
    never = Reply(text="", headers=html, delay_s=1_000)
    scripted_http.on("GET", f"{SITE}/b", never, Reply(text="second", headers=html))
    for absent in ("robots.txt", "sitemap.xml"):
        scripted_http.on("GET", f"{SITE}/{absent}", status=404)
    machine = Machine()
    options: dict[str, Any] = {"agents": [crawl], "transport": scripted_http}
    with trio.fail_after(BOUND_S):
        async with machine.life(crash=True, **options) as orchestrator:
            run = await orchestrator.start(
                crawl, {"url": f"{SITE}/"}, on_crash="restart", grace_s=0
            )
            await has_kept(orchestrator, run.id, "pages.jsonl")
        async with machine.life(**options) as orchestrator:
            again = orchestrator.live(run.id)
            assert again is not None
            assert (await again.wait()).status is RunStatus.SUCCEEDED
            pages = await kept(orchestrator, run.id, "pages.jsonl")
    assert [page["url"] for page in pages] == [f"{SITE}/", f"{SITE}/b"]


@pytest.mark.slow
async def test_an_ingest_has_each_chunk_once() -> None:
    text = "\n\n".join(f"{number} {'x' * 1_100}" for number in range(CHUNKS))
    machine = Machine()
    with trio.fail_after(BOUND_S):
        async with machine.life(crash=True, agents=[ingest]) as orchestrator:
            files = [File("a.txt", "text/plain", text.encode())]
            begun = await orchestrator.begin(ingest, files=files, options={"on_crash": "restart"})
            run = await orchestrator.stored(begun)
            await has_kept(orchestrator, run.id, "chunks.jsonl")
        async with machine.life(agents=[ingest]) as orchestrator:
            again = orchestrator.live(run.id)
            assert again is not None
            record = await again.wait()
            chunks = await kept(orchestrator, run.id, "chunks.jsonl")
    assert record.result["chunks"] == CHUNKS
    assert [int(chunk["text"].split()[0]) for chunk in chunks] == list(range(CHUNKS))

"""Crawls for tests: run to their end, in bounded time, and read back from the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import trio

from orchestrator import RunStatus
from orchestrator.agents.crawl import crawl

if TYPE_CHECKING:
    from orchestrator import Orchestrator, RunRecord


async def finished(orchestrator: Orchestrator, url: str, **input: Any) -> RunRecord:
    """Crawl to the end, in bounded time."""
    with trio.fail_after(20):
        run = await orchestrator.start(crawl, {"url": url, **input})
        return await run.wait()


async def crawled(orchestrator: Orchestrator, url: str, **input: Any) -> list[dict[str, Any]]:
    """Crawl with success and return the lines of the artifact."""
    record = await finished(orchestrator, url, **input)
    assert record.status is RunStatus.SUCCEEDED, record.error
    stored = await orchestrator.artifact(record.id, "pages.jsonl")
    assert stored is not None
    pages = [json.loads(line) for line in stored.splitlines()]
    listed = ("url", "title", "status", "depth", "error")
    assert record.result["pages"] == [{k: p[k] for k in listed if k in p} for p in pages]
    assert record.result["done"] == len(pages)
    assert await orchestrator.partial(record.id) == record.result
    return pages


async def failure(orchestrator: Orchestrator, url: str, **input: Any) -> str:
    """Crawl in vain and return the message."""
    record = await finished(orchestrator, url, **input)
    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert record.error.type == "CrawlFailed"
    return record.error.message

"""Asking a model in a run of its own."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import trio

from orchestrator import (
    Context,
    Orchestrator,
    RunRecord,
    RunStatus,
    agent,
)

if TYPE_CHECKING:
    from orchestrator.llm import Reply

_numbers = itertools.count()


async def ask(orchestrator: Orchestrator, *messages: Any, **options: Any) -> Reply:
    """Ask in a run of its own; what the agent gets, or gets thrown at it, reaches the caller."""
    replies: list[Reply] = []
    errors: list[Exception] = []

    @agent(name=f"asker-{next(_numbers)}")
    async def asker(ctx: Context) -> str:
        try:
            replies.append(await ctx.llm(*messages, **options))
        except Exception as error:
            errors.append(error)
            raise
        return replies[0]

    with trio.fail_after(20):
        run = await orchestrator.start(asker)
        record = await run.wait()
    if errors:
        raise errors[0]
    assert record.status is RunStatus.SUCCEEDED, record.error
    assert record.result == replies[0]
    assert record.usage == replies[0].usage
    return replies[0]


async def deltas_of(orchestrator: Orchestrator, record: RunRecord) -> list[str]:
    events = [event async for event in await orchestrator.events(record.root_id)]
    assert all(e.data["operation"] == 1 for e in events if e.type == "llm.delta")
    return [event.data["text"] for event in events if event.type == "llm.delta"]


def completion(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}

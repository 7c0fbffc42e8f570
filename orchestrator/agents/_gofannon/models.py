"""Gofannon's calls of language models."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from orchestrator.agents._gofannon.stopping import passing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What Gofannon takes where it knows nothing of a model.
CONTEXT_WINDOW = 128_000
CHARACTERS_PER_TOKEN = 2.5


async def call_llm(
    provider: str = "",
    model: str | None = None,
    messages: str | Sequence[Mapping[str, Any]] = "",
    parameters: Mapping[str, Any] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **more: Any,
) -> tuple[str, None]:
    """Ask a model; see ``Context.llm``.

    Args:
        provider: who has the model is said by ``QUIESCE_LLM_BASE_URL``, so this is not used.
        parameters: what else the endpoint takes; what is None is left out.
        more: a ``timeout`` in seconds. What else Gofannon passes on, such as who the user is, is
            not used.

    Returns:
        what it answered, and None where Gofannon has the model's thoughts.

    Raises:
        AgentStopped: the run is to stop.
        TimeoutError: the model took longer than the timeout.
    """
    asked = {key: value for key, value in (parameters or {}).items() if value is not None}
    if asked.get("reasoning_effort") == "disable":
        del asked["reasoning_effort"]
    async with asyncio.timeout(more.get("timeout")):
        with passing() as context:
            return str(await context.llm(messages, model=model, tools=tools or (), **asked)), None


def get_context_window(provider: str, model: str) -> int:
    """Return how many tokens a model takes; as for one that Gofannon does not know."""
    return CONTEXT_WINDOW


def count_tokens(text: str, provider: str = "", model: str = "") -> int:
    """Return about how many tokens a text has; rather too many."""
    return int(len(text) / CHARACTERS_PER_TOKEN)


def count_message_tokens(
    messages: Sequence[Mapping[str, Any]], provider: str = "", model: str = ""
) -> int:
    """Return about how many tokens the messages of a chat have; rather too many."""
    return count_tokens("".join(str(each.get("content", "")) for each in messages))

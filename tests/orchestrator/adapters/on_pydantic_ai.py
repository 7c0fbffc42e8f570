"""An agent of Pydantic AI, wrapped."""

from __future__ import annotations

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from orchestrator import AsyncioContext, agent
from orchestrator.adapters.pydantic_ai import run_agent
from tests.orchestrator.adapters.tools import look_up, within


@agent(runtime="asyncio")
async def ask(ctx: AsyncioContext, url: str, limits_s: list[float | None] = [None]) -> str:  # noqa: B006  # never changed
    """Ask once for each limit, and return the last answer."""
    provider = OpenAIProvider(base_url=url, api_key="none")
    assistant = Agent(OpenAIChatModel("small", provider=provider), tools=[look_up])
    return await within(
        ctx, limits_s, lambda: run_agent(ctx, assistant, "Where is it?"), lambda r: r.output
    )

"""An agent of Pydantic AI, wrapped."""

from __future__ import annotations

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from orchestrator import AsyncioContext, agent
from orchestrator.adapters.pydantic_ai import run_agent
from tests.orchestrator.adapters.tools import attempts, look_up


@agent(runtime="asyncio")
async def ask(ctx: AsyncioContext, url: str, give_up: list[str] = []) -> str:  # noqa: B006  # never changed
    """Ask, after giving up as often as there are files to wait for; return the answer."""
    provider = OpenAIProvider(base_url=url, api_key="none")
    assistant = Agent(OpenAIChatModel("small", provider=provider), tools=[look_up])
    return await attempts(
        ctx, give_up, lambda: run_agent(ctx, assistant, "Where is it?"), lambda r: r.output
    )

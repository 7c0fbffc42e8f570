"""An agent of Pydantic AI, wrapped."""

from __future__ import annotations

import asyncio

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


@agent(runtime="asyncio")
async def ask_in_a_tool(ctx: AsyncioContext, url: str) -> None:
    """Have a tool called that runs an agent itself, but not before a stop."""
    model = OpenAIChatModel("small", provider=OpenAIProvider(base_url=url, api_key="none"))
    asker: Agent[None, str] = Agent(model)

    @asker.tool_plain
    async def look_up(title: str) -> str:
        await ctx.log(f"looks for {title}")
        while not ctx.should_stop:
            await asyncio.sleep(0.01)
        return str((await run_agent(ctx, Agent(model), title)).output)

    await run_agent(ctx, asker, "Where is it?")

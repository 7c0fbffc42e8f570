"""An agent of the OpenAI Agents SDK, wrapped."""

from __future__ import annotations

import agents
from openai import AsyncOpenAI

from orchestrator import AsyncioContext, agent
from orchestrator.adapters.openai_agents import run_agent
from tests.orchestrator.adapters.tools import look_up, within

agents.set_tracing_disabled(True)


@agent(runtime="asyncio")
async def ask(ctx: AsyncioContext, url: str, limits_s: list[float | None] = [None]) -> str:  # noqa: B006  # never changed
    """Ask once for each limit, and return the last answer."""
    client = AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    assistant = agents.Agent(
        name="assistant",
        model=agents.OpenAIChatCompletionsModel("small", client),
        model_settings=agents.ModelSettings(include_usage=True),
        tools=[agents.function_tool(look_up, failure_error_function=None)],
    )
    return await within(
        ctx, limits_s, lambda: run_agent(ctx, assistant, "Where is it?"), lambda r: r.final_output
    )

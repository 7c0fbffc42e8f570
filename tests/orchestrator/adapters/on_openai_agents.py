"""An agent of the OpenAI Agents SDK, wrapped."""

from __future__ import annotations

import agents
from openai import AsyncOpenAI

from orchestrator import AsyncioContext, agent
from orchestrator.adapters.openai_agents import run_agent
from tests.orchestrator.adapters.tools import attempts, look_up

agents.set_tracing_disabled(True)


@agent(runtime="asyncio")
async def ask(ctx: AsyncioContext, url: str, give_up: list[str] = []) -> str:  # noqa: B006  # never changed
    """Ask, after giving up as often as there are files to wait for; return the answer."""
    client = AsyncOpenAI(base_url=url, api_key="none")
    assistant = agents.Agent(
        name="assistant",
        model=agents.OpenAIChatCompletionsModel("small", client),
        model_settings=agents.ModelSettings(include_usage=True),
        tools=[agents.function_tool(look_up, failure_error_function=None)],
    )
    return await attempts(
        ctx, give_up, lambda: run_agent(ctx, assistant, "Where is it?"), lambda r: r.final_output
    )

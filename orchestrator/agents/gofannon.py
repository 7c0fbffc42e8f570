"""For agents that were written for Gofannon: its names, over the run's own context.

Such an agent changes one import: in the place of Gofannon's own comes ::

    from orchestrator.agents.gofannon import *

which brings all that Gofannon gives its agents. It goes on to be asyncio's, with any library for
that, and runs in a process of its own.

Each call looks first whether the run is to stop. One that is in flight then finishes, up to the
grace, and its result is returned; the next one raises ``AgentStopped``, and so does the one after
it, in whatever function it stands. Everything else that waits is cancelled, as in any agent.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import httpx

from orchestrator.agent import Agent
from orchestrator.agents._gofannon.clients import GofannonClient, HttpClient, RemoteMCPClient
from orchestrator.agents._gofannon.data import DataStore
from orchestrator.agents._gofannon.models import (
    call_llm,
    count_message_tokens,
    count_tokens,
    get_context_window,
)
from orchestrator.agents._gofannon.stopping import (
    AgentStopped,
    count_refusals,
    should_stop,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from orchestrator.model import Json
    from orchestrator.worker.face import AsyncioContext

    Run = Callable[..., Awaitable[Any]]

__all__ = [
    "AgentStopped",
    "RemoteMCPClient",
    "as_agent",
    "asyncio",
    "call_llm",
    "count_message_tokens",
    "count_tokens",
    "data_store",
    "get_context_window",
    "gofannon_client",
    "http_client",
    "httpx",
    "json",
    "re",
    "should_stop",
]

data_store = DataStore()
gofannon_client = GofannonClient()
http_client = HttpClient()


def as_agent(
    run: Run, *, name: str | None = None, tools: Mapping[str, Json] | None = None, **options: Any
) -> Agent:
    """Make an agent of Gofannon's ``async def run(input_dict, tools)``.

    Args:
        run: a function at the top level of a module.
        name: what ``gofannon_client`` calls it; the function's name if left out.
        tools: what it is given as that, such as the URLs of MCP servers.
        options: defaults for its runs, and limits of its process, as for ``@agent``.

    Raises:
        TypeError: it is no such function.
    """
    if not inspect.iscoroutinefunction(run):
        raise TypeError(f"{run!r} is not `async def run(input_dict, tools)`")
    with_tools = len(inspect.signature(run).parameters) > 1

    # The context is at hand by itself, and must not have a name that the input has.
    async def play(_: AsyncioContext, **input_dict: Any) -> Any:
        refused = count_refusals()
        result = None
        try:
            result = await (run(input_dict, tools or {}) if with_tools else run(input_dict))
        except* AgentStopped:
            if not refused:
                raise
        if refused:
            # Whatever the code has made of it, that was its end.
            raise asyncio.CancelledError
        return result

    # Where another process finds it, which makes the agent of it once more.
    play.__doc__, play.__module__, play.__qualname__ = run.__doc__, run.__module__, run.__qualname__
    made = {"tools": dict(tools or {})}
    return Agent(
        play,
        name=name or run.__name__,
        runtime="asyncio",
        options=options,
        maker=(as_agent, made),
    )

"""Agents of Pydantic AI. Needs ``quiesce[pydantic-ai]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.adapters.calls import Calls, End
from orchestrator.errors import ExtraMissing

try:
    from pydantic_ai.capabilities import AbstractCapability
    from pydantic_ai.messages import PartDeltaEvent, PartStartEvent, TextPart, TextPartDelta
except ModuleNotFoundError as error:
    raise ExtraMissing("pydantic-ai-slim", "pydantic-ai") from error

if TYPE_CHECKING:
    from pydantic_ai import Agent, AgentRunResult, RunContext

    from orchestrator.worker.face import AsyncioContext

# A run asks one model at a time.
_MODEL = "model"


async def run_agent(
    ctx: AsyncioContext, agent: Agent[Any, Any], input: Any = None, **options: Any
) -> AgentRunResult[Any]:
    """Run an agent of Pydantic AI to its end.

    Each call of a model is an operation ``llm``, each call of a tool an operation ``tool``; what
    a tool calls itself, such as another agent, belongs to the tool. Text is told as it comes, as
    events ``llm.delta``. What models have said so far is the partial result, and what they cost
    is counted in the run's ``usage``.

    Args:
        options: as for ``Agent.run``, such as ``deps`` or ``message_history``.

    Returns:
        the framework's result, such as its ``output``.

    Raises:
        pydantic_ai.AgentRunError: as ``Agent.run`` does.
    """
    async with Calls(ctx) as calls:
        own = options.pop("capabilities", None) or ()
        return await agent.run(input, capabilities=[*own, _Held(calls)], **options)


class _Held(AbstractCapability[Any]):
    """Holds the calls that a run makes."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def wrap_model_request(
        self, ctx: RunContext[Any], *, request_context: Any, handler: Any
    ) -> Any:
        async with self._calls.held(_MODEL, "llm", request_context.model.model_name) as ends:
            response = await handler(request_context)
            usage = response.usage
            tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
            ends.append(End(text=response.text or "", usage=tokens))
        return response

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: Any, tool_def: Any, args: Any, handler: Any
    ) -> Any:
        async with self._calls.held(call.tool_call_id, "tool", call.tool_name, call.args) as ends:
            result = await handler(args)
            ends.append(End(result=result))
        return result

    async def on_event(self, ctx: RunContext[Any], *, event: Any) -> None:
        match event:
            case PartStartEvent(part=TextPart(content=text)):
                self._calls.say(_MODEL, text)
            case PartDeltaEvent(delta=TextPartDelta(content_delta=text)):
                self._calls.say(_MODEL, text)

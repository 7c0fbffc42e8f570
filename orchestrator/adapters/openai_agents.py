"""Agents of the OpenAI Agents SDK. Needs ``quiesce[openai-agents]``."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.calls import Calls, End
from orchestrator.errors import ExtraMissing, InvalidInput

try:
    import agents
except ModuleNotFoundError as error:
    raise ExtraMissing("openai-agents", "openai-agents") from error

if TYPE_CHECKING:
    from orchestrator.worker.face import AsyncioContext

# One agent at a time is at work in a run, and asks one model at a time.
_MODEL = "model"


async def run_agent(
    ctx: AsyncioContext, agent: agents.Agent[Any], input: Any, **options: Any
) -> agents.RunResultStreaming:
    """Run an agent of the SDK to its end.

    Each call of a model is an operation ``llm``, each call of a tool an operation ``tool``; what
    a tool calls itself, such as another agent, belongs to the tool. Text is told as it comes, as
    events ``llm.delta``; a handoff as ``agent.changed``. What models have said so far is the
    partial result, and what they cost is counted in the run's ``usage``.

    Args:
        options: as for ``Runner.run_streamed``, without ``hooks``: put yours on the agents.

    Returns:
        the SDK's result, such as its ``final_output``.

    Raises:
        InvalidInput: ``hooks`` were given.
        agents.AgentsException: as ``Runner.run`` does.
    """
    if "hooks" in options:
        raise InvalidInput([("hooks", "is taken already: put yours on the agents, as `hooks`")])
    async with Calls(ctx) as calls:
        result = agents.Runner.run_streamed(agent, input, hooks=_Hooks(calls), **options)
        stream: Any = result.stream_events()  # a generator
        async with aclosing(stream) as events:
            try:
                async for event in events:
                    await _tell(calls, event)
            finally:
                # Else the end of the stream waits for that of the run, whatever comes here.
                result.cancel()
    return result


class _Hooks(agents.RunHooks[Any]):
    """Tells of the calls that a run makes."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def on_llm_start(self, context: Any, agent: Any, *asked: Any) -> None:
        await self._calls.begin(_MODEL, "llm", _name_of_model(agent.model))

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        usage = response.usage
        tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        await self._calls.end(_MODEL, End(text=_text_of(response), usage=tokens))

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        given = getattr(context, "tool_arguments", None)
        await self._calls.begin(_key_of_tool(context, tool), "tool", tool.name, given)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        await self._calls.end(_key_of_tool(context, tool), End(result=result))


async def _tell(calls: Calls, event: agents.StreamEvent) -> None:
    if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
        calls.say(_MODEL, event.data.delta)
    elif event.type == "agent_updated_stream_event":
        await calls.ctx.emit("agent.changed", {"agent": event.new_agent.name})


def _name_of_model(model: Any) -> str:
    if model is None:
        return agents.models.get_default_model()
    return model if isinstance(model, str) else getattr(model, "model", type(model).__name__)


def _text_of(response: agents.ModelResponse) -> str:
    said = [item for item in response.output if item.type == "message"]
    return "".join(
        part.text for item in said for part in item.content if part.type == "output_text"
    )


def _key_of_tool(context: Any, tool: Any) -> Any:
    return getattr(context, "tool_call_id", id(tool))

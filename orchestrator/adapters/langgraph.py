"""Graphs of LangGraph, with the models and tools of LangChain. Needs ``quiesce[langgraph]``."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from orchestrator.adapters.calls import Calls, End, told
from orchestrator.errors import ExtraMissing, InvalidInput

try:
    from langchain_core.callbacks import AsyncCallbackHandler
    from langchain_core.runnables.config import merge_configs
except ModuleNotFoundError as error:
    raise ExtraMissing("langgraph", "langgraph") from error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from langgraph.pregel import Pregel

    from orchestrator.worker.face import AsyncioContext


async def run_graph(
    ctx: AsyncioContext,
    graph: Pregel[Any, Any, Any, Any],
    input: Any,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Run a compiled graph to its end.

    Each call of a model of LangChain's is an operation ``llm``, each call of a tool an operation
    ``tool``. Text is told as it comes, as events ``llm.delta``; nodes that are done as
    ``graph.updated``, and what they write to the stream themselves as ``graph.custom``. What
    models have said so far is the partial result, and what they cost is counted in the run's
    ``usage``.

    Args:
        config: as for ``astream``, such as the thread of a checkpointer.
        options: as for ``astream``, without ``stream_mode``.

    Returns:
        the state in the end, as ``ainvoke`` does.

    Raises:
        InvalidInput: a ``stream_mode`` was given.
    """
    if "stream_mode" in options:
        raise InvalidInput([("stream_mode", "is taken already: leave it out")])
    state: Any = None
    async with Calls(ctx) as calls:
        told = merge_configs(config, {"callbacks": [_Handler(calls)]})  # type: ignore[arg-type]  # a mapping will do
        # The mode "messages" is what makes models stream.
        modes: Any = ["values", "updates", "custom", "messages"]
        stream: Any = graph.astream(input, told, stream_mode=modes, **options)  # a generator
        async with aclosing(stream) as parts:
            async for mode, part in parts:
                if mode == "values":
                    state = part
                else:
                    await _tell(ctx, mode, part)
    return state


async def _tell(ctx: AsyncioContext, mode: str, part: Any) -> None:
    if mode == "updates":
        await ctx.emit("graph.updated", {"nodes": list(part)})
    elif mode == "custom":
        try:
            await ctx.emit("graph.custom", {"value": part})
        except InvalidInput:  # it is no JSON, which is fine with LangGraph
            await ctx.emit("graph.custom", {"value": told(part)})


class _Handler(AsyncCallbackHandler):
    """Tells of the calls that models and tools make, wherever in a graph."""

    # In the task that makes the call, which goes on only then; and a refusal is not ignored.
    run_inline = True
    raise_error = True

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def on_chat_model_start(
        self, serialized: Any, messages: Any, *, run_id: UUID, **about: Any
    ) -> None:
        await self._calls.begin(run_id, "llm", _name_of_model(about))

    async def on_llm_start(
        self, serialized: Any, prompts: Any, *, run_id: UUID, **about: Any
    ) -> None:
        await self._calls.begin(run_id, "llm", _name_of_model(about))

    async def on_llm_new_token(self, token: Any, *, run_id: UUID, **about: Any) -> None:
        if isinstance(token, str):
            self._calls.say(run_id, token)

    async def on_llm_end(self, response: Any, *, run_id: UUID, **about: Any) -> None:
        [generation, *_] = response.generations[0]
        usage = getattr(getattr(generation, "message", None), "usage_metadata", None) or {}
        tokens = {name: usage.get(name, 0) for name in ("input_tokens", "output_tokens")}
        await self._calls.end(run_id, End(text=generation.text, usage=tokens))

    async def on_llm_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:
        await self._calls.fail(run_id, error)

    async def on_tool_start(
        self, serialized: Any, input_str: str, *, run_id: UUID, **about: Any
    ) -> None:
        await self._calls.begin(run_id, "tool", (serialized or {}).get("name", "tool"), input_str)

    async def on_tool_end(self, output: Any, *, run_id: UUID, **about: Any) -> None:
        await self._calls.end(run_id, End(result=getattr(output, "content", output)))

    async def on_tool_error(self, error: BaseException, *, run_id: UUID, **about: Any) -> None:
        await self._calls.fail(run_id, error)


def _name_of_model(about: Mapping[str, Any]) -> str:
    asked = about.get("invocation_params") or {}
    named = (about.get("metadata") or {}).get("ls_model_name")
    return str(named or asked.get("model") or asked.get("_type") or "model")

"""One call of a language model, as one operation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.errors import OperationRefused
from orchestrator.llm.client import load, send
from orchestrator.llm.request import body_of, endpoint_of
from orchestrator.llm.spending import Meter, price_of
from orchestrator.llm.stream import read
from orchestrator.shapes import Shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.agent import Agent
    from orchestrator.llm.answer import Answer, Reply
    from orchestrator.ports import RunPort


async def call_model(
    run: RunPort,
    messages: object,
    *,
    model: str | None,
    tools: Sequence[Agent | str | Mapping[str, Any]] | None,
    schema: Any,
    stream: bool,
    base_url: str | None,
    api_key: str | None,
    parameters: Mapping[str, Any],
) -> Reply:
    """Ask a model; see ``Context.llm``. A checkpoint.

    Raises:
        InvalidInput, UnknownAgent: an argument or a variable does not fit; nothing was asked.
        ExtraMissing: the client is not installed.
        UnfitAnswer: the answer does not fit the schema, or is none.
        OperationRefused: a stop came, where ``Cancelled`` cannot arrive.
        openai.OpenAIError: the endpoint failed.
    """
    endpoint = endpoint_of(base_url, api_key, model)
    shape = None if schema is None else Shape(schema)
    asked = body_of(run, messages, tools, shape, stream, parameters)
    meter = Meter(run, price_of(endpoint.model))
    await load("openai", "llm")
    answer: Answer | None = None
    async with run.gate.operation("llm", endpoint.model, "connection closed"):
        response = await send(run, endpoint, asked, meter)
        if not isinstance(response, Exception):
            answer = await read(run, response, meter, streamed=stream)
    if answer is None:
        assert isinstance(response, Exception)
        raise OperationRefused("llm", endpoint.model) from response
    return answer.reply(meter.total, shape)

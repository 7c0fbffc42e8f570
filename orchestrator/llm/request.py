"""What is asked of a model: checked, and in the form that the endpoint takes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from orchestrator.agent import Agent, as_json
from orchestrator.errors import InvalidInput, check_text

if TYPE_CHECKING:
    from orchestrator.ports import RunPort
    from orchestrator.shapes import Shape

BASE_URL = "QUIESCE_LLM_BASE_URL"
API_KEY = "QUIESCE_LLM_API_KEY"
MODEL = "QUIESCE_LLM_MODEL"

# What a local endpoint gets, which asks for no key; the client insists on one.
NO_KEY = "none"
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# Parameters of the client itself; all others go into the body.
_OF_THE_CLIENT = ("extra_headers", "extra_query", "extra_body")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to ask, and whom. The key is not shown."""

    base_url: str
    model: str
    api_key: str = field(repr=False)


def endpoint_of(base_url: str | None, api_key: str | None, model: str | None) -> Endpoint:
    """Return the endpoint; what is None comes from the environment.

    Raises:
        InvalidInput: the URL or the model is missing, or something is not usable.
    """
    url, url_from = _setting("base_url", base_url, BASE_URL)
    name, _ = _setting("model", model, MODEL)
    key = (api_key if api_key is not None else os.environ.get(API_KEY, "")).strip()
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise InvalidInput([(url_from, f"{url!r} is no URL: {error}")]) from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise InvalidInput([(url_from, f"{url!r} is not like `https://host/v1`")])
    if not key.isascii() or not key.isprintable():
        where = "api_key" if api_key is not None else API_KEY
        raise InvalidInput([(where, "has characters that no HTTP header can hold")])
    return Endpoint(url, name, key or NO_KEY)


def _setting(name: str, given: str | None, variable: str) -> tuple[str, str]:
    source = name if given is not None else variable
    value = check_text(source, given if given is not None else os.environ.get(variable, "")).strip()
    if not value:
        raise InvalidInput([(name, f"is missing: give it, or set {variable}")])
    return value, source


def body_of(
    run: RunPort,
    messages: object,
    tools: Sequence[Agent | str | Mapping[str, Any]] | None,
    shape: Shape | None,
    stream: bool,
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the keyword arguments of the client's ``create``, without the model.

    Raises:
        InvalidInput, UnknownAgent: something does not fit.
    """
    if "timeout" in parameters:
        advice = "is not taken: put the call into `with trio.move_on_after(seconds):`"
        raise InvalidInput([("timeout", advice)])
    body: dict[str, Any] = {}
    if tools:
        body["tools"] = [_tool(run, each, f"tools.{n}") for n, each in enumerate(tools)]
    if shape is not None:
        format_ = {"name": "answer", "schema": shape.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": format_}
    if stream:
        body["stream_options"] = {"include_usage": True}
    own = {name: parameters[name] for name in _OF_THE_CLIENT if name in parameters}
    body |= {name: value for name, value in parameters.items() if name not in own}
    body |= own.pop("extra_body", None) or {}
    return {
        "messages": _messages(messages),
        "stream": stream,
        "extra_body": {
            name: sendable(value, name) for name, value in body.items() if value is not None
        },
        **own,
    }


def _messages(given: object) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [{"role": "user", "content": check_text("messages", given)}]
    if not isinstance(given, Sequence) or not given:
        raise InvalidInput([("messages", "must be a text, or a list of at least one message")])
    for number, message in enumerate(given):
        _check_message(message, f"messages.{number}")
    sent: list[dict[str, Any]] = sendable([dict(each) for each in given], "messages")
    return sent


def _check_message(message: object, where: str) -> None:
    if not isinstance(message, Mapping):
        wanted = "must be an object with `role` and `content` (of a reply, its `message`)"
        raise InvalidInput([(where, wanted)])
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise InvalidInput([(f"{where}.role", f"{role!r} is not one of {', '.join(ROLES)}")])
    if content is None:
        if role != "assistant":
            raise InvalidInput([(f"{where}.content", "is missing")])
    elif not isinstance(content, str | list | tuple):
        raise InvalidInput([(f"{where}.content", "must be a text or a list of parts")])
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        wanted = "must be the `id` of the tool call that this answers"
        raise InvalidInput([(f"{where}.tool_call_id", wanted)])


def _tool(run: RunPort, given: Agent | str | Mapping[str, Any], where: str) -> dict[str, Any]:
    if isinstance(given, Mapping):
        function = given.get("function")
        named = isinstance(function, Mapping) and isinstance(function.get("name"), str)
        if given.get("type") == "function" and not named:
            raise InvalidInput([(f"{where}.function.name", "is missing")])
        if not isinstance(given.get("type"), str):
            raise InvalidInput([(f"{where}.type", "is missing; it is mostly `function`")])
        return dict(given)
    if not isinstance(given, Agent | str):
        raise InvalidInput([(where, "must be an agent, an agent's name, or an OpenAI tool object")])
    agent = run.find_agent(given)
    function = {
        "name": agent.name,
        "description": agent.description,
        "parameters": agent.input_schema,
    }
    return {"type": "function", "function": function}


def sendable(value: object, where: str) -> Any:
    """Return a value as JSON that can be sent.

    Raises:
        InvalidInput: it has no such form.
    """
    plain = as_json(value, where)
    try:
        json.dumps(plain, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InvalidInput([(where, "has characters that are no text")]) from None
    return plain

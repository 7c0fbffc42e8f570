"""Agents in the manner of Gofannon's, for its names."""

from __future__ import annotations

from typing import Any

from orchestrator.agents.gofannon import (
    RemoteMCPClient,
    as_agent,
    call_llm,
    count_message_tokens,
    count_tokens,
    data_store,
    get_context_window,
    gofannon_client,
    http_client,
)


async def _keep(input_dict: dict[str, Any]) -> list[Any]:
    """All that a data store does."""
    one, two = data_store.use_namespace("files:a/b@1"), data_store.use_namespace("files:a/b@1 2")
    said: list[Any] = [one.set_many({"b/1": 1, "b/2": None, "c": {"x": 2}}), one.get("c")]
    two.set("b/3", 3, metadata={"kind": "file"})
    data_store.set("k", "v")
    said += [one.list_keys(), one.list_keys(prefix="b/"), two.list_keys(), one.get_all()]
    said += [one.get("b/3"), one.get("b/3", default=[]), one.get_many(["b/2", "none"])]
    said += [data_store.list_namespaces(), one.delete("c"), one.delete("c"), one.clear()]
    return [*said, one.list_keys(), data_store.list_namespaces()]


async def _echo(input_dict: dict[str, Any]) -> dict[str, Any]:
    return input_dict


async def _hand_on(input_dict: dict[str, Any]) -> Any:
    return await gofannon_client.call(agent_name="echo", input_dict=input_dict)


async def _use_tools(input_dict: dict[str, Any], tools: dict[str, Any]) -> list[Any]:
    [client] = [RemoteMCPClient(remote_url=url) for url in tools]
    names = [tool["function"]["name"] for tool in await client.list_tools()]
    return ["add" in names, await client.call("add", a=1, b=2)]


@as_agent
async def measure(input_dict: dict[str, Any]) -> list[Any]:
    said: list[Any] = [get_context_window("openai", "any"), count_tokens("0123456789")]
    said.append(count_message_tokens([{"content": "01234"}, {"role": "user"}]))
    for method in ("get", "post", "put", "patch", "delete"):
        response = await getattr(http_client, method)(input_dict["url"])
        said.append(response.request.method)
    await http_client.aclose()
    try:
        await call_llm("openai", "small", "?", {}, timeout=0.1)
    except TimeoutError:
        said.append("too late")
    return said


echo, hand_on = as_agent(_echo, name="echo"), as_agent(_hand_on, name="hand_on")
keep = as_agent(_keep, name="keep")


def with_tools(url: str) -> Any:
    """Return an agent that is given a server of tools."""
    return as_agent(_use_tools, tools={url: ["add"]})

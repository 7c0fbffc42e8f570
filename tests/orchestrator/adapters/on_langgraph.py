"""A graph of LangGraph, wrapped."""

from __future__ import annotations

import asyncio

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import SecretStr

from orchestrator import AsyncioContext, agent
from orchestrator.adapters.langgraph import run_graph
from tests.orchestrator.adapters.tools import attempts, look_up


@agent(runtime="asyncio")
async def ask(ctx: AsyncioContext, url: str, give_up: list[str] = []) -> str:  # noqa: B006  # never changed
    """Ask, after giving up as often as there are files to wait for; return the answer."""
    found = tool(look_up)
    model = ChatOpenAI(
        model="small", base_url=url, api_key=SecretStr("none"), stream_usage=True
    ).bind_tools([found])

    async def think(state: MessagesState) -> dict[str, object]:
        message = await model.ainvoke(state["messages"])
        if "look" in message.text:
            print("thought on", flush=True)
        return {"messages": [message]}

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("tools", ToolNode([found]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", tools_condition)
    graph.add_edge("tools", "think")
    compiled = graph.compile()
    asked = {"messages": [("user", "Where is it?")]}
    return await attempts(
        ctx, give_up, lambda: run_graph(ctx, compiled, asked), lambda r: r["messages"][-1].content
    )


@agent(runtime="asyncio")
async def ask_in_a_tool(ctx: AsyncioContext, url: str) -> None:
    """Have a tool called that asks a model itself, but not before a stop."""
    model = ChatOpenAI(model="small", base_url=url, api_key=SecretStr("none"))

    async def look_up(title: str) -> str:
        """Return where a book stands."""
        await ctx.log(f"looks for {title}")
        while not ctx.should_stop:
            await asyncio.sleep(0.01)
        return (await model.ainvoke(title)).text

    found = tool(look_up)
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([found]))
    graph.add_edge(START, "tools")
    call = {"name": "look_up", "args": {"title": "Solaris"}, "id": "1", "type": "tool_call"}
    await run_graph(ctx, graph.compile(), {"messages": [AIMessage("", tool_calls=[call])]})


@agent(runtime="asyncio")
async def write_to_the_stream(ctx: AsyncioContext) -> None:
    """Write what is JSON, and what is not."""

    async def write(state: MessagesState) -> dict[str, object]:
        get_stream_writer()({"shelf": 7})
        get_stream_writer()(float("nan"))
        return {}

    graph = StateGraph(MessagesState)
    graph.add_node("write", write)
    graph.add_edge(START, "write")
    await run_graph(ctx, graph.compile(), {"messages": []})


@agent(runtime="asyncio")
async def ask_in_a_thread(ctx: AsyncioContext, url: str) -> str:
    """Ask twice, in nodes that are plain functions."""
    model = ChatOpenAI(model="small", base_url=url, api_key=SecretStr("none"))

    def think(state: MessagesState) -> dict[str, object]:
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("first", think)
    graph.add_node("second", think)
    graph.add_edge(START, "first")
    graph.add_edge("first", "second")
    state = await run_graph(ctx, graph.compile(), {"messages": [("user", "Where is it?")]})
    return str(state["messages"][-1].content)

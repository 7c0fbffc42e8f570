"""The scripted network and the scripted language model, seen from the clients that use them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
import trio

from orchestrator import Context, agent
from orchestrator.testing import Reply, ScriptedHTTP, ScriptedLLM, until, virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable

URL = "https://service.test/x"
ASKED: list[Any] = [{"role": "user", "content": "Name three colours"}]

# The client of openai leaves its generators to the collector when a stream is over.
unfinished = pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")


def client_of(http: ScriptedHTTP) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=http)


def openai_of(llm: ScriptedLLM, http: ScriptedHTTP) -> openai.AsyncOpenAI:
    client = client_of(http)
    return openai.AsyncOpenAI(
        base_url=llm.base_url,
        api_key="none",
        max_retries=0,
        http_client=client,  # type: ignore[arg-type]  # takes httpx too
    )


@virtual_time
async def test_answers_come_in_turn_and_in_virtual_time(scripted_http: ScriptedHTTP) -> None:
    scripted_http.on("GET", URL, Reply(text="one", delay_s=3), Reply(status=201, json={"n": 2}))
    async with client_of(scripted_http) as client:
        one = await client.get(URL)
        assert (one.status_code, one.text, trio.current_time()) == (200, "one", 3)
        for _ in range(2):
            assert (await client.get(URL)).json() == {"n": 2}
    assert [seen.at for seen in scripted_http.requests] == [0, 3, 3]
    assert scripted_http.open == []


@virtual_time
async def test_a_body_comes_in_pieces(scripted_http: ScriptedHTTP) -> None:
    scripted_http.on("GET", URL, chunks=[(1, b"a"), (2, b"b")])
    async with client_of(scripted_http) as client, client.stream("GET", URL) as response:
        assert [seen.closed for seen in scripted_http.requests] == [False]
        came = [(trio.current_time(), piece) async for piece in response.aiter_raw()]
    assert came == [(1, b"a"), (3, b"b")]
    assert [(seen.done, seen.closed) for seen in scripted_http.requests] == [(True, True)]


@virtual_time
async def test_errors_functions_and_what_is_not_scripted(scripted_http: ScriptedHTTP) -> None:
    scripted_http.on("GET", URL, error=httpx.ConnectError("no route"), delay_s=1)
    scripted_http.on("POST", URL, lambda request: Reply(text=request.content.decode()[::-1]))
    async with client_of(scripted_http) as client:
        with pytest.raises(httpx.ConnectError, match="no route"):
            await client.get(URL)
        assert (await client.post(URL, content=b"abc")).text == "cba"
        assert (await client.get(URL + "/other")).status_code == 404
    assert [seen.content for seen in scripted_http.requests] == [b"", b"abc", b""]


@virtual_time
async def test_a_restart_begins_the_script_anew(
    scripted_http: ScriptedHTTP, scripted_llm: ScriptedLLM
) -> None:
    scripted_http.on("GET", URL, Reply(text="one"), Reply(text="two"))
    scripted_llm.say("hello")
    for _ in range(2):
        scripted_http.restart()
        assert scripted_llm.requests == []
        async with client_of(scripted_http) as client:
            assert [(await client.get(URL)).text for _ in range(2)] == ["one", "two"]
            url = f"{scripted_llm.base_url}/chat/completions"
            reply = await client.post(url, json={"model": "m", "messages": ASKED})
            assert reply.json()["choices"][0]["message"]["content"] == "hello"


@virtual_time
async def test_the_model_speaks_to_the_client_of_openai(
    scripted_http: ScriptedHTTP, scripted_llm: ScriptedLLM
) -> None:
    scripted_llm.say("Red, ", "green, ", "blue", delay_s=2)
    async with openai_of(scripted_llm, scripted_http) as client:
        reply = await client.chat.completions.create(model="m", messages=ASKED)
    assert reply.choices[0].message.content == "Red, green, blue"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens > 0
    assert trio.current_time() == 2
    assert scripted_llm.requests == [{"model": "m", "messages": ASKED}]


@unfinished
@virtual_time
async def test_the_model_streams(scripted_http: ScriptedHTTP, scripted_llm: ScriptedLLM) -> None:
    scripted_llm.say("Red, ", "green", delay_s=1, piece_s=2)
    said: list[tuple[float, str]] = []
    usage: Any = None
    async with openai_of(scripted_llm, scripted_http) as client:
        stream = await client.chat.completions.create(
            model="m", messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        async for chunk in stream:
            usage = chunk.usage or usage
            texts = [choice.delta.content for choice in chunk.choices]
            said += [(trio.current_time(), text) for text in texts if text]
    assert said == [(1, "Red, "), (3, "green")]
    assert usage is not None
    assert scripted_http.open == []


@unfinished
@pytest.mark.parametrize("stream", [False, True])
def test_the_model_calls_tools(stream: bool) -> None:
    http = ScriptedHTTP()
    llm = ScriptedLLM(http)
    llm.call_tools(("search", {"q": "colours"}), ("now", {}), text="Let me see")

    @virtual_time
    async def ask() -> list[tuple[str, Any]]:
        async with openai_of(llm, http) as client:
            if not stream:
                reply = await client.chat.completions.create(model="m", messages=ASKED)
                calls: list[Any] = list(reply.choices[0].message.tool_calls or [])
                assert reply.choices[0].finish_reason == "tool_calls"
            else:
                chunks = await client.chat.completions.create(
                    model="m", messages=ASKED, stream=True
                )
                deltas = [chunk.choices[0].delta async for chunk in chunks]
                calls = [call for delta in deltas for call in delta.tool_calls or []]
            return [(c.function.name, json.loads(c.function.arguments)) for c in calls]

    assert ask() == [("search", {"q": "colours"}), ("now", {})]


@virtual_time
async def test_the_model_fails(scripted_http: ScriptedHTTP, scripted_llm: ScriptedLLM) -> None:
    scripted_llm.fail(429, "slow down", headers={"retry-after": "7"})
    async with openai_of(scripted_llm, scripted_http) as client:
        with pytest.raises(openai.RateLimitError, match="slow down") as limited:
            await client.chat.completions.create(model="m", messages=ASKED)
        assert limited.value.response.headers["retry-after"] == "7"
        with pytest.raises(openai.InternalServerError, match="only 1 answers are scripted"):
            await client.chat.completions.create(model="m", messages=ASKED)


@virtual_time
async def test_an_agent_is_cut_while_it_waits_for_an_answer(
    scripted_http: ScriptedHTTP, memory_orchestrator: Callable[..., Any]
) -> None:
    @agent
    async def asks(ctx: Context) -> None:
        await ctx.get(URL)

    scripted_http.on("GET", URL, delay_s=1000)
    async with memory_orchestrator() as orchestrator:
        run = await orchestrator.start(asks)
        await until(run, "running")
        await trio.sleep(1)
        receipt = await run.stop(mode="now")
    assert (receipt.operations.cut, trio.current_time()) == (1, 1)
    assert [seen.closed for seen in scripted_http.requests] == [True]

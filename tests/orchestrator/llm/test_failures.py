"""Endpoints that fail, and what is tried again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import openai
import pytest
import trio

from orchestrator import (
    Context,
    Orchestrator,
    Usage,
    agent,
    open_orchestrator,
)
from orchestrator.errors import UnfitAnswer
from tests.orchestrator.llm.asking import ask, completion
from tests.orchestrator.llm_server import (
    EVENT_STREAM,
    ModelServer,
    fail,
    say,
    send,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, openai.BadRequestError), (401, openai.AuthenticationError), (404, openai.NotFoundError)],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_of_the_endpoint_reach_the_agent_at_once(
    status: int, error: type, stream: bool, orchestrator: Orchestrator, server: ModelServer
) -> None:
    server.will(fail(status, message="that will not do"))
    with pytest.raises(error, match="that will not do"):
        await ask(orchestrator, "hi", stream=stream)
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_what_may_pass_is_tried_again(
    status: int, orchestrator: Orchestrator, server: ModelServer
) -> None:
    server.will(fail(status, retry_after_s=0), fail(status, retry_after_s=0.05), say("at last"))
    reply = await ask(orchestrator, "hi", stream=True)
    assert reply == "at last"
    first, second, third = (asked.begun for asked in server.asked)
    assert second - first < 0.5
    assert 0.05 <= third - second < 1
    assert reply.usage.requests == 1


async def test_the_third_failure_is_raised(orchestrator: Orchestrator, server: ModelServer) -> None:
    server.will(*3 * [fail(429, retry_after_s=0)])
    with pytest.raises(openai.RateLimitError):
        await ask(orchestrator, "hi")
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    "part",
    [b"data: {not json\n\n", b"data: [1]\n\n", b'data: {"choices": 7}\n\n', b"data: [DONE]\n\n"],
)
async def test_a_stream_that_is_broken_is_an_error_with_what_came(
    part: bytes, orchestrator: Orchestrator, server: ModelServer
) -> None:
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": "so far"}}]}).encode()
    before = b"" if b"DONE" in part else b"data: " + chunk + b"\n\n"
    server.will(send(before or b": ping\n\n", part, b"data: [DONE]\n\n"))
    with pytest.raises(UnfitAnswer) as caught:
        await ask(orchestrator, "hi", stream=True)
    assert caught.value.text == ("so far" if before else "")
    assert len(server.asked) == 1


async def test_a_stream_that_ends_without_its_end_is_no_whole_answer(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    """The end of the connection looks the same, whether or not the server died there."""
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": "half"}}]}).encode()
    server.will(send(b"data: " + chunk + b"\n\n"))
    with pytest.raises(UnfitAnswer, match="broke off") as caught:
        await ask(orchestrator, "hi", stream=True)
    assert caught.value.text == "half"


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("odd", [b"1" + 5_000 * b"0", 100_000 * b"[" + 100_000 * b"]"])
async def test_an_answer_that_python_cannot_read_is_none(
    odd: bytes, framed: bool, orchestrator: Orchestrator, server: ModelServer
) -> None:
    if framed:
        server.will(send(b"data: " + odd + b"\n\n"))
    else:
        server.will(send(odd, content_type="application/json"))
    with pytest.raises(UnfitAnswer, match="is no JSON"):
        await ask(orchestrator, "hi", stream=framed)


async def test_an_answer_that_is_no_json_is_an_error_with_it(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    server.will(send(b"<html>hello</html>", content_type="text/html"))
    with pytest.raises(UnfitAnswer, match="<html>hello</html>"):
        await ask(orchestrator, "hi")


@pytest.mark.parametrize("content_type", [EVENT_STREAM, "application/json"])
async def test_an_error_in_the_midst_is_an_error_of_the_client(
    content_type: str, orchestrator: Orchestrator, server: ModelServer
) -> None:
    body = b'{"error": {"message": "overloaded"}}'
    framed = b"data: " + body + b"\n\n" if content_type == EVENT_STREAM else body
    server.will(send(framed, content_type=content_type))
    with pytest.raises(openai.APIError, match="overloaded"):
        await ask(orchestrator, "hi", stream=content_type == EVENT_STREAM)


async def test_a_stream_that_is_cut_is_a_connection_error_and_not_tried_again(
    orchestrator: Orchestrator, server: ModelServer
) -> None:
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": "half"}}]}).encode()
    server.will(send(b"data: " + chunk + b"\n\n", end=False))
    with pytest.raises(openai.APIConnectionError):
        await ask(orchestrator, "hi", stream=True)
    assert len(server.asked) == 1


def scripted(answer: Callable[[httpx.Request], httpx.Response]) -> httpx.MockTransport:
    return httpx.MockTransport(answer)


async def test_a_transport_of_a_test_answers_in_virtual_time(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIESCE_LLM_BASE_URL", "http://model.test/v1")
    answers = iter(
        [
            httpx.Response(429, headers={"retry-after": "7"}),
            httpx.Response(503, headers={"retry-after": "7000"}),
            httpx.Response(200, json=completion("hello")),
        ]
    )
    async with open_orchestrator(transport=scripted(lambda _: next(answers))) as orchestrator:
        began = trio.current_time()
        assert await ask_virtually(orchestrator) == "hello"
        assert trio.current_time() - began == pytest.approx(7 + 60, abs=0.1)


async def test_back_off_grows_and_is_never_the_same(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUIESCE_LLM_BASE_URL", "http://model.test/v1")
    times: list[float] = []

    def refuse(_: httpx.Request) -> httpx.Response:
        times.append(trio.current_time())
        raise httpx.ConnectError("nobody there")

    async with open_orchestrator(transport=scripted(refuse)) as orchestrator:
        with pytest.raises(openai.APIConnectionError):
            await ask_virtually(orchestrator)
    first, second = times[1] - times[0], times[2] - times[1]
    assert 0.25 <= first <= 0.51
    assert 0.5 <= second <= 1.01


async def ask_virtually(orchestrator: Orchestrator) -> str:
    failures: list[Exception] = []

    @agent
    async def asker(ctx: Context) -> str:
        try:
            return await ctx.llm("hi")
        except Exception as error:
            failures.append(error)
            raise

    record = await (await orchestrator.start(asker)).wait()
    if failures:
        assert record.usage == Usage()
        raise failures[0]
    return str(record.result)

"""What steps do that do something: wait, ask over HTTP, ask a model, call an agent."""

from __future__ import annotations

import json
from math import inf
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import trio

from orchestrator.agent import as_json
from orchestrator.agents._crawl.fetch import in_words, read_body
from orchestrator.agents._playbook.parameters import AGENTS, CallAgent, Http, Llm, Wait, read
from orchestrator.errors import InvalidInput

if TYPE_CHECKING:
    from orchestrator.context import Context
    from orchestrator.model import Json

LABEL = 200


class Unexpected(RuntimeError):
    """An answer over HTTP is not what the step expects, or there is none."""


async def work(ctx: Context, kind: str, given: dict[str, Any]) -> Json:
    """Do what a step of that type is there for, and return its output.

    Args:
        given: the parameters, with no template left in them.

    Raises:
        InvalidInput: they do not fit.
        Exception: what comes between, whatever it is.
    """
    match kind:
        case "wait":
            return await _wait(ctx, read(Wait, given))
        case "http":
            return await _http(ctx, read(Http, given))
        case "llm":
            return await _llm(ctx, read(Llm, given))
        case "agent":
            asked = read(CallAgent, given)
            return await ctx.call(asked.agent, **asked.input)
        case _:
            return await ctx.call(AGENTS[kind], **given)


async def _wait(ctx: Context, asked: Wait) -> Json:
    await ctx.sleep(asked.seconds)
    return {"seconds": asked.seconds}


async def _http(ctx: Context, asked: Http) -> Json:
    label = f"{asked.method} {asked.url}"[:LABEL]
    async with ctx.operation("http", label):
        with trio.move_on_after(inf if asked.timeout_s is None else asked.timeout_s) as limit:
            try:
                answer = await _exchange(ctx.http, asked)
            except httpx.InvalidURL as error:
                raise Unexpected(f"{label}: {error}") from None
            except httpx.HTTPError as error:
                raise Unexpected(f"{label}: {in_words(error)}") from None
    if limit.cancelled_caught:
        raise Unexpected(f"{label}: there was no whole answer within {asked.timeout_s:g} s")
    status = answer["status"]
    if status not in asked.expect if asked.expect else status >= 400:
        raise Unexpected(f"{label}: it answered {status}: {answer['text'][:500]}")
    return answer


async def _exchange(http: httpx.AsyncClient, asked: Http) -> dict[str, Json]:
    request = http.build_request(
        asked.method,
        asked.url,
        headers={"Accept-Encoding": "gzip", **asked.headers},
        params=asked.query or None,
        content=asked.body if "json_" not in asked.model_fields_set else json.dumps(asked.json_),
        data=asked.form,
    )
    if "json_" in asked.model_fields_set:
        request.headers.setdefault("Content-Type", "application/json")
    response = await http.send(request, stream=True, follow_redirects=asked.follow_redirects)
    try:
        body, truncated = await read_body(response, asked.max_bytes)
    finally:
        await response.aclose()
    text = _text(body, response.encoding)
    return {
        "status": response.status_code,
        "url": str(response.url),
        "headers": dict(response.headers),
        "text": text,
        "json": _json(text) if "json" in response.headers.get("content-type", "") else None,
        "truncated": truncated,
    }


def _text(body: bytes, encoding: str | None) -> str:
    try:
        return body.decode(encoding or "utf-8", errors="replace")
    except LookupError:
        return body.decode(errors="replace")


def _json(text: str) -> Json:
    """Return the JSON that a text is; None if it is none, or none that can be kept."""
    try:
        return as_json(json.loads(text, parse_constant=_refuse), "json")
    except (InvalidInput, ValueError, RecursionError):
        return None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


async def _llm(ctx: Context, asked: Llm) -> Json:
    prompt = asked.prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    if asked.system is not None:
        messages = [{"role": "system", "content": asked.system}, *messages]
    reply = await ctx.llm(
        messages,
        model=asked.model,
        schema=asked.schema_,
        stream=asked.stream,
        temperature=asked.temperature,
        max_tokens=asked.max_tokens,
    )
    return {"text": str(reply), "value": reply.value}

"""The official client, on the run's own HTTP client, and the tries that one call may take."""

from __future__ import annotations

import importlib
import random
import sys
from typing import TYPE_CHECKING, Any, cast

import httpx
import trio

from orchestrator.errors import ExtraMissing, OperationRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    import openai

    from orchestrator.llm.request import Endpoint
    from orchestrator.llm.spending import Meter
    from orchestrator.ports import RunPort

TRIES = 3
# The wait after the first failure, which doubles with each, and the most that it may become.
BACKOFF_S = 0.5
MAX_BACKOFF_S = 8.0
MAX_RETRY_AFTER_S = 60.0
_WORTH_A_RETRY = (408, 409, 429)


async def load(package: str, extra: str) -> None:
    """Import a package, which takes a while, without holding up other runs or a stop.

    A checkpoint if it is not there yet.

    Raises:
        ExtraMissing: it is not installed.
    """
    loaded = sys.modules.get(package)
    if loaded is not None and not getattr(loaded.__spec__, "_initializing", False):
        return
    try:
        await trio.to_thread.run_sync(importlib.import_module, package, abandon_on_cancel=True)
    except ModuleNotFoundError as error:
        raise ExtraMissing(error.name or package, extra) from error


async def send(
    run: RunPort, endpoint: Endpoint, asked: Mapping[str, Any], meter: Meter
) -> httpx.Response | Exception:
    """Ask, and ask again where that may help, until an answer begins.

    Returns:
        the response, its body still to be read if it was asked to stream; or the last failure
        if a stop ended the retries.

    Raises:
        openai.APIError: the endpoint failed for good, or for the last time.
    """
    import openai

    create = _client(run, endpoint).chat.completions.with_raw_response.create
    for tried in range(1, TRIES + 1):
        try:
            raw: Any = await create(model=endpoint.model, **asked)
        except BaseException as error:
            if _may_have_arrived(error):
                meter.count_request()
            if not isinstance(error, openai.APIError) or not _worth_a_retry(error):
                raise
            if tried == TRIES and not run.gate.closed:
                raise
            failure = error
        else:
            meter.count_request()
            return cast("httpx.Response", raw.http_response)
        with trio.move_on_after(delay_s(tried, failure)):
            await run.gate.closing.wait()
        if run.gate.closed:
            break
    return failure


def _client(run: RunPort, endpoint: Endpoint) -> openai.AsyncOpenAI:
    import openai

    client = openai.AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=endpoint.api_key,
        http_client=cast("Any", run.client.http),  # the client takes httpx as well as httpx2
        max_retries=0,
    )
    # It would start a thread for each client only to tell the endpoint our operating system.
    client._platform = "Unknown"
    return client


def delay_s(tried: int, failure: Exception) -> float:
    """Return how long to wait after so many tries."""
    response = getattr(failure, "response", None)
    try:
        asked_for = float(response.headers["retry-after"]) if response is not None else -1.0
    except (KeyError, ValueError):
        asked_for = -1.0
    if asked_for >= 0:
        return min(asked_for, MAX_RETRY_AFTER_S)
    return min(BACKOFF_S * 2.0 ** (tried - 1), MAX_BACKOFF_S) * random.uniform(0.5, 1.0)


def _worth_a_retry(error: openai.APIError) -> bool:
    import openai

    if isinstance(error, openai.APIStatusError):
        return error.status_code in _WORTH_A_RETRY or error.status_code >= 500
    return isinstance(error, openai.APIConnectionError)


def _may_have_arrived(error: BaseException) -> bool:
    import openai

    not_sent = (httpx.ConnectError, httpx.ConnectTimeout)
    if isinstance(error, openai.APIConnectionError):
        return not isinstance(error.__cause__, not_sent)
    return not isinstance(error, openai.APIError | OperationRefused)

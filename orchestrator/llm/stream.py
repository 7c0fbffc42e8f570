"""Reading what a model answers, at once or piece by piece."""

from __future__ import annotations

import codecs
import json
from contextlib import aclosing, suppress
from io import IncrementalNewlineDecoder
from typing import TYPE_CHECKING, Any, cast

import httpx
import trio

from orchestrator.errors import UnfitAnswer
from orchestrator.events import LlmDelta
from orchestrator.llm.answer import Answer
from orchestrator.sections import current_section

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from orchestrator.llm.spending import Meter
    from orchestrator.model import Json
    from orchestrator.ports import RunPort
    from orchestrator.timers import Timer

# Pieces of text that arrive within so many seconds are told as one, so many at most.
GATHER_S = 0.05
GATHER_PIECES = 16
# How long to wait for the end of a body whose last word has come; then its connection is closed,
# before it can be used again.
DRAIN_S = 0.1


class Deltas:
    """Tells the pieces of an answer, a few at a time; every piece once, and in order."""

    def __init__(self, run: RunPort) -> None:
        self._operation = _operation_at_hand()
        self._run = run
        # Rings while pieces wait; one that is not set is not kept, since it holds this.
        self._timer: Timer | None = None
        self._pieces: list[str] = []

    def is_here(self) -> bool:
        """Return whether they are those of the operation at hand."""
        return self._operation == _operation_at_hand()

    def add(self, piece: str) -> None:
        """Take a piece, to be told soon. Not a checkpoint."""
        self._pieces.append(piece)
        if len(self._pieces) >= GATHER_PIECES:
            self.tell()
        elif len(self._pieces) == 1:
            self._timer = self._run.timer(self.tell)
            self._timer.set(trio.current_time() + GATHER_S)

    def tell(self) -> None:
        """Tell what was not told yet. May be called at any time; not a checkpoint."""
        if self._timer is not None:
            self._timer.unset()
            self._timer = None
        if self._pieces:
            text, self._pieces = "".join(self._pieces), []
            self._run.tell(LlmDelta(self._operation, text))


def _operation_at_hand() -> int:
    section = current_section()
    return 0 if section is None else section.number


async def read(run: RunPort, response: httpx.Response, meter: Meter, *, streamed: bool) -> Answer:
    """Read an answer to its end, and close the response.

    Raises:
        openai.APIError: the connection broke, or the endpoint said that it failed.
        UnfitAnswer: it is no answer of the API.
    """
    import openai

    request: Any = response.request  # the client's errors are typed for httpx2
    answer = Answer()
    deltas = Deltas(run) if streamed else None
    try:
        async with aclosing(response), aclosing(_parts(response, answer)) as parts:
            async for part in parts:
                piece = answer.take(part)
                meter.see(answer.usage)
                if piece and deltas is not None:
                    deltas.add(piece)
                    await run.journal.room()
    except httpx.TimeoutException as error:
        raise openai.APITimeoutError(request=request) from error
    except httpx.RequestError as error:
        raise openai.APIConnectionError(request=request) from error
    except (ValueError, RecursionError) as error:
        # That of a number with thousands of digits, or of a thousand brackets, has no document.
        why = "the endpoint sent something that is no JSON"
        raise UnfitAnswer(why, answer.text or getattr(error, "doc", "")) from error
    finally:
        if deltas is not None:
            deltas.tell()
    return answer


async def _parts(response: httpx.Response, answer: Answer) -> AsyncGenerator[Json, None]:
    """Yield what an answer consists of: one completion, or the chunks of a stream.

    Raises:
        UnfitAnswer: the stream has ended, but neither it nor the answer says that it has.
    """
    if not response.headers.get("content-type", "").lower().startswith("text/event-stream"):
        await response.aread()
        yield _checked(json.loads(response.text), response)
        return
    lines = _lines(response)
    data: list[str] = []
    done = False
    try:
        async for line in lines:
            if line.startswith("data:"):
                data.append(line.removeprefix("data:").strip())
            elif not line and data:
                text, data = "\n".join(data), []
                done = text == "[DONE]"
                if done:
                    break
                yield _checked(json.loads(text), response)
    finally:
        # The generators that httpx nests end only by running to their end, or into an error.
        with suppress(httpx.HTTPError), trio.move_on_after(DRAIN_S if done else 0):
            async for _ in lines:
                pass
    if not done and not answer.finished:
        # Where nothing but the end of the connection ends a body, no other error tells.
        raise UnfitAnswer("the endpoint broke off its answer", answer.text)


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """Yield the lines of a stream of events, each without its end.

    Those of httpx end also at what a model may write as a character of its answer, such as U+2028.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
    decode = IncrementalNewlineDecoder(decoder, translate=True).decode
    line: list[str] = []
    async for piece in response.aiter_bytes():
        end, *others = decode(piece).split("\n")
        line.append(end)
        for other in others:
            yield "".join(line)
            line = [other]


def _checked(part: Json, response: httpx.Response) -> Json:
    import openai

    error = part.get("error") if isinstance(part, dict) else None
    if error:
        said = error.get("message") if isinstance(error, dict) else error
        raise openai.APIError(str(said), cast("Any", response.request), body=error)
    return part

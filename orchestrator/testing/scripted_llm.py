"""A language model that says what it is told to: chat completions over a scripted transport."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from orchestrator.testing.scripted_http import Reply, ScriptedHTTP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

BASE_URL = "http://llm.test/v1"
MODEL = "scripted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer of the model.

    Attributes:
        pieces: the text, as a stream brings it.
        tool_calls: name and arguments of each.
        delay_s: seconds before the answer, or its first piece.
        piece_s: seconds before each further piece.
        error: status and message, instead of an answer.
    """

    pieces: Sequence[str] = ()
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    delay_s: float = 0.0
    piece_s: float = 0.0
    error: tuple[int, str] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(self.pieces)


class ScriptedLLM:
    """An endpoint that speaks OpenAI's chat completions, as JSON or as a stream.

    Its answers are given in the order in which they were scripted; after the last one it answers
    with an error of status 500 that says so.

    Attributes:
        base_url: what to give to a client.
        requests: the decoded bodies of the requests, in order.
    """

    def __init__(self, http: ScriptedHTTP, base_url: str = BASE_URL) -> None:
        """Put the endpoint onto a transport."""
        self.base_url = base_url
        self.requests: list[dict[str, Any]] = []
        self._script: list[Turn] = []
        http.on("POST", f"{base_url.rstrip('/')}/chat/completions", self._answer)
        http.on_restart(self.requests.clear)

    def say(self, *pieces: str, delay_s: float = 0.0, piece_s: float = 0.0) -> None:
        """Script a text; a stream brings it in these pieces."""
        self._script.append(Turn(pieces=pieces, delay_s=delay_s, piece_s=piece_s))

    def call_tools(
        self, *calls: tuple[str, Mapping[str, Any]], text: str = "", delay_s: float = 0.0
    ) -> None:
        """Script calls of tools, each a name and its arguments, with some text if need be."""
        pieces = [text] if text else []
        self._script.append(Turn(tool_calls=calls, pieces=pieces, delay_s=delay_s))

    def fail(
        self,
        status: int,
        message: str = "",
        *,
        delay_s: float = 0.0,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Script an error; ``headers`` may have a ``retry-after``."""
        turn = Turn(error=(status, message or "scripted"), delay_s=delay_s)
        self._script.append(replace(turn, headers=headers or {}))

    def _answer(self, request: httpx.Request) -> Reply:
        asked = json.loads(request.content)
        self.requests.append(asked)
        number = len(self.requests)
        if number > len(self._script):
            turn = Turn(error=(500, f"only {len(self._script)} answers are scripted"))
        else:
            turn = self._script[number - 1]
        if turn.error is not None:
            return _error(turn, *turn.error)
        answer = _Answer(turn, number, asked)
        return answer.stream() if asked.get("stream") else answer.whole()


@dataclass(frozen=True, slots=True)
class _Answer:
    turn: Turn
    number: int
    asked: dict[str, Any]

    def whole(self) -> Reply:
        """The answer as one JSON object."""
        message: dict[str, Any] = {"role": "assistant", "content": self.turn.text or None}
        if self.turn.tool_calls:
            message["tool_calls"] = self._tool_calls()
        choice = {"index": 0, "message": message, "finish_reason": self._reason}
        return Reply(
            json=self._envelope("chat.completion", [choice]) | {"usage": self._usage},
            delay_s=self.turn.delay_s,
        )

    def stream(self) -> Reply:
        """The answer as server-sent events, one piece in each."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        deltas += [{"content": piece} for piece in self.turn.pieces]
        if self.turn.tool_calls:
            calls = [{"index": n, **call} for n, call in enumerate(self._tool_calls())]
            deltas.append({"tool_calls": calls})
        choices: list[list[dict[str, Any]]]
        choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
        choices.append([{"index": 0, "delta": {}, "finish_reason": self._reason}])
        events = [self._envelope("chat.completion.chunk", each) for each in choices]
        if (self.asked.get("stream_options") or {}).get("include_usage"):
            events = [event | {"usage": None} for event in events]
            last = self._envelope("chat.completion.chunk", [])
            events.append(last | {"usage": self._usage})
        return Reply(
            headers={"content-type": "text/event-stream"},
            delay_s=self.turn.delay_s,
            chunks=[
                (self.turn.piece_s if 1 < n <= len(self.turn.pieces) else 0.0, _event(event))
                for n, event in enumerate(events)
            ]
            + [(0.0, b"data: [DONE]\n\n")],
        )

    @property
    def _reason(self) -> str:
        return "tool_calls" if self.turn.tool_calls else "stop"

    @property
    def _usage(self) -> dict[str, int]:
        """Counted in words, for want of a tokenizer."""
        given = len(json.dumps(self.asked.get("messages", [])).split())
        said = len(self.turn.text.split()) + len(self.turn.tool_calls)
        return {
            "prompt_tokens": given,
            "completion_tokens": said,
            "total_tokens": given + said,
        }

    def _envelope(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.number}",
            "object": kind,
            "created": 0,
            "model": self.asked.get("model", MODEL),
            "choices": choices,
        }

    def _tool_calls(self) -> list[dict[str, Any]]:
        return [
            {
                "id": f"call_{self.number}_{n}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(dict(arguments))},
            }
            for n, (name, arguments) in enumerate(self.turn.tool_calls)
        ]


def _error(turn: Turn, status: int, message: str) -> Reply:
    problem = {"message": message, "type": "scripted_error", "param": None, "code": None}
    return Reply(status=status, json={"error": problem}, headers=turn.headers, delay_s=turn.delay_s)


def _event(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"

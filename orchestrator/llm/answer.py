"""What a model answers: the reply that an agent gets, and its assembly from what arrives."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.errors import InvalidInput, UnfitAnswer
from orchestrator.model import Usage

if TYPE_CHECKING:
    from orchestrator.model import Json
    from orchestrator.shapes import Shape


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model asks for a tool.

    Attributes:
        id: what the message with the tool's result has to name as ``tool_call_id``.
        arguments: empty if the model wrote something that is no JSON object.
        raw: what it wrote in that case, None otherwise.
    """

    id: str
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    raw: str | None = None


class Reply(str):
    """What a model answered: its text, as a string, with the rest as attributes.

    Attributes:
        tool_calls: the tools that it asks for; nothing has called them.
        message: the assistant's message, to be appended to the messages of the next call.
        model: the model that answered, as the endpoint named it.
        finish_reason: such as ``stop``, ``length`` or ``tool_calls``; None if none was given.
        usage: what the call cost, tries that failed included.
        value: the parsed JSON if a ``schema`` was given and no tool was asked for.
    """

    tool_calls: tuple[ToolCall, ...] = ()
    message: dict[str, Any]
    model: str = ""
    finish_reason: str | None = None
    usage: Usage = Usage()
    value: Any = None

    def __new__(cls, text: str = "") -> Reply:
        """Make a reply of a text alone, as a test may need it."""
        reply = super().__new__(cls, text)
        reply.message = {"role": "assistant", "content": text}
        return reply


@dataclass(slots=True)
class _Call:
    index: object
    id: str = ""
    name: str = ""
    arguments: str = ""

    def add(self, part: dict[str, Any]) -> None:
        function = part.get("function") or {}
        self.id = self.id or _id_of(part)
        self.name = self.name or str(function.get("name") or "")
        arguments = function.get("arguments") or ""
        # Some endpoints send an object where OpenAI sends the text of one.
        self.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def finished(self) -> ToolCall:
        try:
            arguments = _json(self.arguments or "{}")
        except (ValueError, RecursionError):
            arguments = None
        if isinstance(arguments, dict):
            return ToolCall(self.id, self.name, arguments)
        return ToolCall(self.id, self.name, raw=self.arguments)

    def as_json(self) -> dict[str, Any]:
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.id, "type": "function", "function": function}


class Answer:
    """An answer that is being put together.

    Attributes:
        usage: the last that the endpoint reported, as it reported it.
    """

    def __init__(self) -> None:
        self._text: list[str] = []
        self._half = ""  # of a character, whose other half is still to come
        self._refusal = ""
        self._calls: list[_Call] = []
        self._model = ""
        self._finish_reason: str | None = None
        self._begun = False
        self.usage: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._text) + _whole(self._half)

    @property
    def finished(self) -> bool:
        """Whether the endpoint has said why the answer ended."""
        return self._finish_reason is not None

    def take(self, data: Json) -> str:
        """Add what arrived: a whole completion, or a chunk of a stream.

        Returns:
            the text that it added.

        Raises:
            UnfitAnswer: it has not the form of either.
        """
        try:
            return self._take(data)
        except (AttributeError, TypeError, LookupError):
            said = self.text or json.dumps(data)
            raise UnfitAnswer("the endpoint did not answer as its API says", said) from None

    def _take(self, data: Json) -> str:
        self._model = self._model or str(data.get("model") or "")
        self.usage = data.get("usage") or self.usage
        text = ""
        for choice in data.get("choices") or ():
            if choice.get("index"):
                continue  # only the first of several answers that a parameter may ask for
            self._begun = True
            part = choice.get("delta") or choice.get("message") or {}
            text += part.get("content") or ""
            self._refusal += part.get("refusal") or ""
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            for position, call in enumerate(part.get("tool_calls") or ()):
                self._call(call.get("index", position), _id_of(call)).add(call)
        text = self._half + text
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        text = _whole(text.removesuffix(self._half))
        if text:
            self._text.append(text)
        return text

    def _call(self, index: object, call_id: str) -> _Call:
        # Some endpoints give every call of a stream the same index, and only the id tells.
        for call in reversed(self._calls):
            if call.index == index and (not call_id or not call.id or call.id == call_id):
                return call
        self._calls.append(_Call(index))
        return self._calls[-1]

    def reply(self, usage: Usage, shape: Shape | None) -> Reply:
        """Return the reply.

        Raises:
            UnfitAnswer: nothing was answered, or it does not have the shape.
        """
        if not self._begun:
            raise UnfitAnswer("the endpoint sent no answer", self.text)
        for number, call in enumerate(self._calls):
            call.id = call.id or f"call_{number}"
            call.arguments = _whole(call.arguments)
        reply = Reply(self.text)
        reply.tool_calls = tuple(call.finished() for call in self._calls)
        if self._calls:
            reply.message["tool_calls"] = [call.as_json() for call in self._calls]
        if self._refusal:
            reply.message["refusal"] = self._refusal
        reply.model = self._model
        reply.finish_reason = self._finish_reason
        reply.usage = usage
        if shape is not None and not self._calls:
            reply.value = self._value(shape)
        return reply

    def _value(self, shape: Shape) -> Any:
        if self._refusal:
            raise UnfitAnswer(f"the model refused: {self._refusal}", self.text)
        cut = " (it was cut off, perhaps by max_tokens)" if self._finish_reason == "length" else ""
        try:
            return shape.read(_json(self.text), "answer")
        except (ValueError, RecursionError) as error:
            raise UnfitAnswer(f"the answer is no JSON{cut}: {error}", self.text) from None
        except InvalidInput as error:
            raise UnfitAnswer(
                f"the answer does not fit the schema{cut}: {error}", self.text
            ) from None


def _id_of(call: dict[str, Any]) -> str:
    """Return a call's id, which some endpoints give as a number."""
    return str(call.get("id") or "")


def _whole(text: str) -> str:
    """Return a text that has a UTF-8 form, as every message must.

    Some endpoints cut in the middle of a character of UTF-16, which JSON can write as two escapes.
    """
    joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    return joined.encode(errors="replace").decode()


def _json(text: str) -> Any:
    """Return what a model wrote as JSON, which has neither NaN nor infinity.

    Raises:
        ValueError, RecursionError: it is no JSON, or deeper than Python can go.
    """
    return json.loads(text, parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")

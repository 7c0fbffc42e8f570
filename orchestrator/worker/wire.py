"""What the two sides of a worker's control pipe say to each other: one JSON object a line.

The worker asks (``Link.ask``, which waits for the reply) and tells; the orchestrator replies and
tells. Whatever is sent keeps its order, so a reply that follows a stop is read after it.
"""

from __future__ import annotations

import base64
import itertools
import json
from math import inf
from typing import TYPE_CHECKING, Any, TypeAlias

import trio
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from orchestrator import errors
from orchestrator.cleanup import bounded
from orchestrator.errors import OrchestratorError, in_words
from orchestrator.model import Receipt, RunError, RunStatus
from orchestrator.sections import current_section

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

Message: TypeAlias = dict[str, Any]

# Bytes that may wait to be sent; whoever tells more has to wait for the other side.
ROOM = 1 << 18
_CHUNK = 1 << 16
# Bytes of the longest message: an artifact is one, so there is room for a very large one.
LONGEST = 1 << 30

_FIELDS: dict[str, TypeAdapter[Any]] = {
    "receipt": TypeAdapter(Receipt),
    "error": TypeAdapter(RunError),
    "status": TypeAdapter(RunStatus),
}


class Channel:
    """Messages over a stream. ``send`` is synchronous; ``write`` is the task that sends."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._unsent = bytearray()
        self._some = trio.Event()
        self._sent = trio.Event()
        self.broken = False

    def send(self, message: Message) -> None:
        """Take a message. Not a checkpoint; silently dropped once the other side is gone."""
        if not self.broken:
            self._unsent += _pack(message) + b"\n"
            self._some.set()

    async def write(self) -> None:
        """Send what was taken, until cancelled or the other side is gone."""
        try:
            while True:
                await self._some.wait()
                self._some = trio.Event()
                unsent, self._unsent = self._unsent, bytearray()
                await self._stream.send_all(unsent)
                if not self._unsent:
                    self._sent.set()
                    self._sent = trio.Event()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.broken = True
            self._unsent.clear()
            self._sent.set()

    async def room(self) -> None:
        """Wait while too much is unsent. A checkpoint only then."""
        while len(self._unsent) > ROOM and not self.broken:
            await self._sent.wait()

    async def flushed(self) -> None:
        """Wait until all is sent, or the other side is gone."""
        while (self._unsent or self._some.is_set()) and not self.broken:
            await self._sent.wait()

    async def messages(self) -> AsyncGenerator[Message, None]:
        """Yield what the other side sends, until it is gone.

        Raises:
            ValueError: it sends what is no message, or does not come to an end with one.
        """
        buffer = bytearray()
        while True:
            try:
                chunk = await self._stream.receive_some(_CHUNK)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not chunk:
                return
            buffer += chunk
            if len(buffer) > LONGEST:
                raise ValueError(f"more than {LONGEST} bytes, and no end of the message")
            if b"\n" not in chunk:
                continue
            *lines, rest = buffer.split(b"\n")
            buffer = bytearray(rest)
            for line in lines:
                yield _unpack(bytes(line))


def _pack(message: Message) -> bytes:
    try:
        return to_json(message, inf_nan_mode="constants")
    except PydanticSerializationError:
        # A lone surrogate (in the name of a file that is not UTF-8, say) has no UTF-8 form, but
        # an escape.
        return json.dumps(message, default=to_jsonable_python).encode()


def _unpack(line: bytes) -> Message:
    try:
        message: Message = from_json(line)
    except ValueError:
        # Likewise; or what is no message.
        message = json.loads(line)
    return message


class _Call:
    __slots__ = ("done", "reply")

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply: Message = {}


class Link:
    """The worker's end: asks and tells."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self._ids = itertools.count(1)
        self._calls: dict[int, _Call] = {}

    def tell(self, do: str, **fields: Any) -> None:
        """Say something that needs no reply. Not a checkpoint."""
        self.channel.send({"do": do, **fields})

    async def ask(self, do: str, **fields: Any) -> Any:
        """Ask and return the reply. A checkpoint.

        A cancellation is passed on, and its outcome awaited: if the other side was faster, its
        reply is returned, and the cancellation is heard at the next checkpoint.

        Raises:
            OrchestratorError: what the other side raised.
            trio.Cancelled: it was cancelled, here or there.
            errors.OperationRefused: the same, where ``Cancelled`` cannot arrive.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        number, call = next(self._ids), _Call()
        self._calls[number] = call
        self.channel.send({"do": do, "id": number, "inside": inside(), **fields})
        try:
            await call.done.wait()
        except trio.Cancelled:
            self.tell("cancel", of=number)
            with bounded(inf):
                await call.done.wait()
            if call.reply.get("cancelled"):
                raise
        if call.reply.get("cancelled"):
            await trio.lowlevel.checkpoint_if_cancelled()
            raise errors.OperationRefused(do, str(fields.get("label", "")))
        if "error" in call.reply:
            raise unpack_error(call.reply["error"])
        return call.reply["value"]

    def take_reply(self, message: Message) -> None:
        """Give a reply to whoever waits for it."""
        call = self._calls.pop(message["reply"])
        call.reply = message
        call.done.set()

    def fail(self) -> None:
        """The other side is gone: nobody will be answered any more."""
        for call in self._calls.values():
            call.reply = {"cancelled": True}
            call.done.set()
        self._calls.clear()


def inside() -> int | None:
    """Return the number of the section at hand, if operations may start in it after a stop."""
    section = current_section()
    return section.number if section is not None and section.holds else None


def pack_bytes(data: bytes) -> str:
    """Return bytes as text."""
    return base64.b64encode(data).decode()


def unpack_bytes(text: str) -> bytes:
    """Return the bytes that ``pack_bytes`` made a text of."""
    return base64.b64decode(text)


def read_receipt(message: Message) -> Receipt:
    """Return a receipt that came as JSON."""
    receipt: Receipt = _FIELDS["receipt"].validate_python(message)
    return receipt


def pack_error(error: Exception) -> Message:
    """Return an error as a message; one that is not ours keeps its words only."""
    own = isinstance(error, OrchestratorError) and hasattr(errors, type(error).__name__)
    return {
        "type": type(error).__name__ if own else "OrchestratorError",
        "message": in_words(error) if own else f"{type(error).__name__}: {in_words(error)}",
        "fields": to_jsonable_python(vars(error)) if own else {},
    }


def unpack_error(packed: Message) -> OrchestratorError:
    """Return the error that ``pack_error`` made a message of."""
    kind: type[OrchestratorError] = getattr(errors, packed["type"])
    error = kind.__new__(kind)
    Exception.__init__(error, packed["message"])
    for name, value in packed["fields"].items():
        adapter = _FIELDS.get(name)
        setattr(error, name, value if adapter is None else adapter.validate_python(value))
    return error

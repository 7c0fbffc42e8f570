"""The packets of Engine.IO 4 and Socket.IO 5, as text.

They are read and written by the libraries of the reference implementation in Python. What is none,
or none that this server takes, is ``Malformed``, whatever the libraries make of it.
"""

from __future__ import annotations

import json
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import engineio.packet  # type: ignore[import-untyped]
import socketio.packet  # type: ignore[import-untyped]

from api.calls import decode_json

# Between the packets of one payload of a long poll.
SEPARATOR = "\x1e"
# As many packets as one payload may hold; more than that a client says in several.
MAX_PACKETS = 200
MAIN = "/"


class Malformed(Exception):
    """A client has said what it may not; the message is what was wrong with it."""


class FrameKind(IntEnum):
    """The packets of Engine.IO."""

    OPEN = engineio.packet.OPEN
    CLOSE = engineio.packet.CLOSE
    PING = engineio.packet.PING
    PONG = engineio.packet.PONG
    MESSAGE = engineio.packet.MESSAGE
    UPGRADE = engineio.packet.UPGRADE
    NOOP = engineio.packet.NOOP


class PacketKind(IntEnum):
    """The packets of Socket.IO."""

    CONNECT = socketio.packet.CONNECT
    DISCONNECT = socketio.packet.DISCONNECT
    EVENT = socketio.packet.EVENT
    ACK = socketio.packet.ACK
    CONNECT_ERROR = socketio.packet.CONNECT_ERROR
    BINARY_EVENT = socketio.packet.BINARY_EVENT
    BINARY_ACK = socketio.packet.BINARY_ACK


class Frame(NamedTuple):
    """A packet of Engine.IO; one of Socket.IO is the data of a ``MESSAGE``."""

    kind: FrameKind
    data: str


class Packet(NamedTuple):
    """A packet of Socket.IO.

    Attributes:
        number: what an answer must name; None if none is wanted.
    """

    kind: PacketKind
    namespace: str
    number: int | None
    data: Any


class _Verbatim:
    """What Engine.IO carries is left as it is."""

    dumps = staticmethod(json.dumps)

    @staticmethod
    def loads(text: str) -> Any:
        raise ValueError(text)


class _Careful:
    """JSON that comes from outside."""

    dumps = staticmethod(partial(json.dumps, allow_nan=False))

    @staticmethod
    def loads(text: str) -> Any:
        return decode_json(text.encode())


class _Frame(engineio.packet.Packet):  # type: ignore[misc]
    json = _Verbatim


class _Packet(socketio.packet.Packet):  # type: ignore[misc]
    json = _Careful


def split(payload: bytes) -> list[str]:
    """Return the frames of the body of a POST.

    Raises:
        Malformed: it is no text, or has too many.
    """
    try:
        texts = payload.decode().split(SEPARATOR)
    except UnicodeDecodeError as error:
        raise Malformed(f"a payload must be UTF-8: {error}") from None
    if len(texts) > MAX_PACKETS:
        raise Malformed(f"a payload may have {MAX_PACKETS} packets")
    return texts


def read_frame(text: str | bytes | None) -> Frame:
    """Return the frame that a client has sent.

    Raises:
        Malformed: it is none, or binary.
    """
    if not isinstance(text, str):
        raise Malformed("binary data is not taken")
    try:
        found = _Frame(encoded_packet=text)
        frame = Frame(FrameKind(found.packet_type), found.data)
    except (ValueError, LookupError) as error:
        raise Malformed(f"this is no packet of Engine.IO 4: {error}") from None
    if found.binary:
        raise Malformed("binary data is not taken")
    return frame


def read_packet(text: str) -> Packet:
    """Return the packet that a client has sent.

    Raises:
        Malformed: it is none, or binary.
    """
    try:
        # The library takes nothing at all for an event.
        found = _Packet(encoded_packet=text or "?")
        kind = PacketKind(found.packet_type)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise Malformed(f"this is no packet of Socket.IO 5: {error}") from None
    if kind in (PacketKind.BINARY_EVENT, PacketKind.BINARY_ACK):
        raise Malformed("binary data is not taken")
    return Packet(kind, found.namespace or MAIN, found.id, found.data)


def frame(kind: FrameKind, data: str = "") -> str:
    """Return a frame as text."""
    text: str = _Frame(kind.value, data).encode()
    return text


def message(
    kind: PacketKind, data: Any = None, *, namespace: str = MAIN, number: int | None = None
) -> str:
    """Return a packet of Socket.IO as text, in its frame."""
    packet = _Packet(kind.value, data=data, namespace=namespace, id=number, binary=False)
    return frame(FrameKind.MESSAGE, packet.encode())

"""The packets: whatever a client sends is one, or is malformed, and never anything else."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.socketio.packets import (
    MAX_PACKETS,
    FrameKind,
    Malformed,
    Packet,
    PacketKind,
    frame,
    message,
    read_frame,
    read_packet,
    split,
)

# Mostly what is nearly a packet: digits, and what JSON is made of.
NEARLY = st.text(st.sampled_from('0123456789-,/?[]{}":abct²٣\x1e ')) | st.text()


@given(NEARLY)
@example("")
@example("4²")
@example("b====")
@example("2" + "9" * 500 + "[]")
@example("21" * 5_000)
@example("2[" * 30_000)
@example("2" + "[" * 60_000)
@example('2["a",' + "9" * 5_000 + "]")
def test_nothing_but_malformed_is_raised(text: str) -> None:
    with suppress(Malformed):
        read_packet(text)
    with suppress(Malformed):
        read_packet(read_frame(text).data)


@given(st.binary())
def test_nor_for_a_payload(payload: bytes) -> None:
    with suppress(Malformed):
        assert len(split(payload)) <= MAX_PACKETS


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        ("0", Packet(PacketKind.CONNECT, "/", None, None)),
        ('0{"token":"a"}', Packet(PacketKind.CONNECT, "/", None, {"token": "a"})),
        ("0/other,", Packet(PacketKind.CONNECT, "/other", None, None)),
        ("1", Packet(PacketKind.DISCONNECT, "/", None, None)),
        ('2["a",{"b":1}]', Packet(PacketKind.EVENT, "/", None, ["a", {"b": 1}])),
        ('217["a"]', Packet(PacketKind.EVENT, "/", 17, ["a"])),
    ],
)
def test_a_packet_is_read_as_it_was_meant(text: str, packet: Packet) -> None:
    assert read_packet(text) == packet


def test_what_is_written_can_be_read() -> None:
    # The separator of payloads must not be in one of them.
    text = message(PacketKind.EVENT, ["a", {"log": "\x1e é 🙂"}], number=3)
    assert "\x1e" not in text
    said = read_frame(text)
    assert said.kind is FrameKind.MESSAGE
    assert read_packet(said.data) == Packet(PacketKind.EVENT, "/", 3, ["a", {"log": "\x1e é 🙂"}])
    assert read_frame(frame(FrameKind.PING, "probe")) == (FrameKind.PING, "probe")

"""Webhooks go to no address that they must not go to, however it is written."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest
import trio

from api.webhooks.addresses import AddressRefused, Networks
from api.webhooks.message import Delivery
from api.webhooks.sending import post
from tests.api.webhooks.receiver import receiving

LOOPBACK = Networks([ipaddress.ip_network("127.0.0.0/8")])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "::1",
        "0.0.0.0",
        "::",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "fe80::1",
        "fd00:ec2::254",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b:1::a00:1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "192.0.2.1",
        "fe80::1%lo",
    ],
)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused, match="--webhooks-allow"):
        Networks().choose("h", [address])


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_not(address: str) -> None:
    assert Networks().choose("h", [address]) == address


def test_what_is_allowed_is_allowed_and_no_more() -> None:
    networks = Networks([ipaddress.ip_network("10.1.0.0/16")])
    assert networks.choose("h", ["10.1.2.3"]) == "10.1.2.3"
    assert networks.choose("h", ["::ffff:10.1.2.3"]) == "::ffff:10.1.2.3"
    with pytest.raises(AddressRefused, match="which is private"):
        networks.choose("h", ["10.2.0.1"])


def test_of_several_addresses_one_that_is_allowed_is_taken() -> None:
    assert Networks().choose("h", ["127.0.0.1", "1.1.1.1"]) == "1.1.1.1"


def delivery(to: str) -> Delivery:
    at = "2026-01-01T00:00:00.000Z"
    return Delivery(id="msg_1", run_id="run_1", to=to, body="{}", created_at=at, next_at=at)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"]
)
async def test_loopback_is_refused_however_it_is_written(host: str) -> None:
    with trio.fail_after(20), receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
        outcome = await post(delivery(f"http://{host}:{port}/"), None, Networks(), 0)
        assert outcome.for_good
        assert "loopback" in outcome.error
        assert receiver.got == []


async def test_the_connection_goes_to_the_address_that_was_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interleaving: the name resolves to a public address first, to loopback from then on."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        address = "203.0.114.1" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    went: list[str] = []

    async def open_tcp_stream(host: str, port: int, **_: Any) -> trio.SocketStream:
        went.append(host)
        raise OSError("nobody there")

    monkeypatch.setattr("trio.socket.getaddrinfo", getaddrinfo)
    monkeypatch.setattr("trio.open_tcp_stream", open_tcp_stream)
    with trio.fail_after(20):
        outcome = await post(delivery("http://rebinding.example/"), None, Networks(), 0)
    assert (asked, went) == (["rebinding.example"], ["203.0.114.1"])
    assert not outcome.for_good
    assert "ConnectError" in outcome.error


async def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with trio.fail_after(20), receiving() as receiver, receiving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert (await post(delivery(receiver.url), None, LOOPBACK, 0)).error == ""
        assert (len(receiver.got), proxy.got) == (1, [])

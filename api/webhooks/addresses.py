"""Where webhooks may go. The address is checked that the connection goes to, after it is resolved.

Whoever may start a run may name a URL, and the server would call it from within: its own machine,
the network that it stands in, the metadata service of a cloud. A name may resolve to another
address each time, so it is resolved once, here, and connected to by the address that was checked.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, TypeAlias

import httpcore
import trio

from orchestrator import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Iterable

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# IPv6 addresses that stand for IPv4 ones behind a translator (RFC 6052, RFC 8215).
_TRANSLATED = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))


class AddressRefused(OrchestratorError):
    """Webhooks may not go to that address."""

    def __init__(self, host: str, address: str, why: str) -> None:
        self.address = address
        super().__init__(
            f"{host} is {address}, which is {why}; `quiesce serve --webhooks-allow` allows networks"
        )


class Networks:
    """Which addresses webhooks may go to: public ones, and the networks that are allowed."""

    def __init__(self, allowed: Iterable[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def why_not(self, address: Address) -> str:
        """Return what an address is that webhooks may not go to; empty if they may."""
        inner = _inner(address)
        for each in (address, inner):
            if any(each in network for network in self._allowed):
                return ""
        return _nature(inner)

    def choose(self, host: str, found: Iterable[str]) -> str:
        """Return the first of the addresses of a host that webhooks may go to.

        Raises:
            AddressRefused: they may go to none.
        """
        refused = None
        for text in found:
            why = self.why_not(ipaddress.ip_address(text))
            if not why:
                return text
            refused = refused or AddressRefused(host, text, why)
        raise refused or AddressRefused(host, "nowhere", "no address")


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if any(address in network for network in _TRANSLATED):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.teredo is not None:
        return address.teredo[1]
    return address.ipv4_mapped or address.sixtofour or address


def _nature(address: Address) -> str:
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local, where clouds keep their metadata"
    if address.is_multicast:
        return "multicast"
    if address.is_unspecified:
        return "unspecified"
    return "" if address.is_global else "private"


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to addresses that webhooks may go to, and to no others."""

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._trio = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check, and connect to the very address that was checked.

        Raises:
            AddressRefused: the host has none that webhooks may go to.
            httpcore.ConnectError: it has none at all, or nobody answers there.
        """
        try:
            found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        address = self._networks.choose(host, [str(each[4][0]) for each in found])
        return await self._trio.connect_tcp(address, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        """Sleep; ``httpcore`` calls this."""
        await trio.sleep(seconds)

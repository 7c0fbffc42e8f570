"""Reverse proxies that say who sends a request, or from where; only those listed are believed."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING

from api.auth.identity import BadCredentials, Identity, highest_role, is_principal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from werkzeug.datastructures import Headers

    from api.auth.identity import Credentials, Role

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies in front of a server, and what they may say.

    Attributes:
        networks: where they connect from.
    """

    networks: Sequence[Network] = ()

    def speak_from(self, address: str) -> bool:
        """Whether one of them connects from that address."""
        if not self.networks:
            return False
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self.networks)

    def origin_of(self, given: Credentials) -> str:
        """Return the address of whoever sent the request to the outermost of them."""
        address = given.peer
        if not self.networks:
            return address
        hops = ",".join(given.headers.getlist("X-Forwarded-For")).split(",")
        while hops and self.speak_from(address):
            try:
                address = str(ip_address(hops.pop().strip()))
            except ValueError:
                break
        return address

    def is_secure(self, given: Credentials) -> bool:
        """Whether a proxy says that it was asked over TLS."""
        said = given.headers.get("X-Forwarded-Proto", "")
        return self.speak_from(given.peer) and said.lower() == "https"


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The ``Authenticator`` of a proxy that has checked who sends a request.

    Attributes:
        user_header: the header that names the principal.
        role_header: the header with what gives a role, separated by commas; empty for none.
        roles: what each of its values means.
        default: the role of somebody for whom it has none of them; None to refuse them.
    """

    proxies: Proxies
    user_header: str
    role_header: str
    roles: Mapping[str, Role]
    default: Role | None

    async def identify(self, given: Credentials) -> Identity | None:
        """Return whom the proxy names; None if none is listed there, or it names nobody."""
        if not self.proxies.speak_from(given.peer):
            return None
        principal = _only(given.headers, self.user_header)
        if principal is None:
            return None
        if not is_principal(principal):
            raise BadCredentials(f"the header {self.user_header} names nobody")
        said = (_only(given.headers, self.role_header) or "") if self.role_header else ""
        values = [each.strip() for each in said.split(",")]
        role = highest_role(values, self.roles, self.default)
        if role is None:
            raise BadCredentials(f"the header {self.role_header} gives {principal} no role here")
        return Identity(principal, role)


def _only(headers: Headers, name: str) -> str | None:
    """Return a header that must not be there twice: one of the two may be a client's."""
    values = headers.getlist(name)
    if len(values) > 1:
        raise BadCredentials(f"the header {name} is there twice")
    return values[0] if values else None

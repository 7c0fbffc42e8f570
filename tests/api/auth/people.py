"""People with tokens, and requests that they send."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from api.app import create_app
from api.auth import Access, Identity, Role
from api.auth.sections import Limits, Rules
from api.auth.tokens import Tokens, hash_of

if TYPE_CHECKING:
    from quart import Response

    from orchestrator import Orchestrator

PEOPLE = {
    "viewer": Identity("vic", Role.VIEWER),
    "owner": Identity("olga", Role.OPERATOR),
    "demoted owner": Identity("olga", Role.VIEWER),  # who started runs as an operator
    "other": Identity("otto", Role.OPERATOR),
    "admin": Identity("ada", Role.ADMIN),
    "narrow owner": Identity("olga", Role.OPERATOR, sees="own"),
    "narrow other": Identity("nina", Role.OPERATOR, sees="own"),
    "narrow viewer": Identity("nick", Role.VIEWER, sees="own"),
}


def token_of(name: str) -> str:
    return f"token-of-{name.replace(' ', '-')}"


def access(admin_only: frozenset[str] = frozenset()) -> Access:
    listed = [(hash_of(token_of(name)), identity) for name, identity in PEOPLE.items()]
    often = Limits(bad_tokens_per_minute=1_000_000, starts_per_minute=1_000_000)
    return Access(Rules([Tokens(listed)], admin_only, limits=often))


class Asking:
    """The application of an orchestrator, without a socket."""

    def __init__(self, orchestrator: Orchestrator, allowed: Access) -> None:
        self.app = create_app(orchestrator, access=allowed)
        self._client = self.app.test_client(use_cookies=False)

    async def ask(self, call: str, name: str = "", *, body: Any = None, **more: Any) -> Response:
        """Send a request as somebody; ``name`` is empty for nobody."""
        method, path = call.split(" ")
        headers = {"Host": "localhost", "Accept": "application/json", **more.pop("headers", {})}
        if name:
            headers.setdefault("Authorization", f"Bearer {token_of(name)}")
        if body is not None:
            more["json"] = body
        response: Any = await self._client.open(path, method=method, headers=headers, **more)
        return response  # type: ignore[no-any-return]  # of the test client

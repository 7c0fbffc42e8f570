"""What the clients of model providers try again of themselves, within one call: not after a stop.

Nobody is asked before it: such a client counts as one call, with all its tries, for the framework
and so for us. But each request says which try it is, in a header.
"""

from __future__ import annotations

import functools
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.adapters.calls import Calls

# The calls that the code at hand makes its requests for.
calls_at_hand: ContextVar[Calls | None] = ContextVar("quiesce_calls", default=None)

# That of OpenAI's client, and of those of other providers that are made by the same generator.
_WHICH_TRY = "x-stainless-retry-count"


def watch_clients() -> None:
    """Have the HTTP clients of this process asked before a further try. May be called again."""
    for name in ("httpx", "httpx2"):
        if (library := sys.modules.get(name)) is not None:
            _watch(library.AsyncClient, _asking_async)
            _watch(library.Client, _asking)


def _watch(client: Any, asking: Any) -> None:
    if not hasattr(client.send, "is_watched"):
        client.send = asking(client.send)
        client.send.is_watched = True


def _asking_async(send: Any) -> Any:
    @functools.wraps(send)
    async def asked(client: Any, request: Any, **options: Any) -> Any:
        if (calls := _refusing(request)) is not None:
            await calls.try_no_more()
        return await send(client, request, **options)

    return asked


def _asking(send: Any) -> Any:
    @functools.wraps(send)
    def asked(client: Any, request: Any, **options: Any) -> Any:
        if (calls := _refusing(request)) is not None:
            calls.try_no_more_in_a_thread()
        return send(client, request, **options)

    return asked


def _refusing(request: Any) -> Calls | None:
    """Return the calls in whose name a request is refused, if it is."""
    calls = calls_at_hand.get()
    is_first = request.headers.get(_WHICH_TRY, "0") == "0"
    return None if calls is None or is_first or not calls.ctx.should_stop else calls

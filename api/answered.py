"""What was asked of the interface and how it was answered, for those who measure and log it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio
from quart import g, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from quart import Response
    from quart_trio import QuartTrio

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
# What has no route of ours; its path is whatever a client made up.
UNMATCHED = "unmatched"
OTHER_METHOD = "other"


@dataclass(frozen=True, slots=True)
class Answered:
    """One request and the beginning of its answer.

    Attributes:
        method: one that HTTP knows, or ``other``.
        route: the template, such as ``/runs/{run_id}``, or ``unmatched``.
        seconds: from the request until the answer began.
        run_id: of the run that it is about, as the client wrote it; empty if about none.
        principal: who sent it; empty if that is not known.
        client: the address that it came from.
    """

    method: str
    route: str
    status: int
    seconds: float
    run_id: str
    principal: str
    client: str


def install(app: QuartTrio, *tell: Callable[[Answered], None]) -> None:
    """Tell of every answer. To be called before anything else looks at requests.

    Args:
        tell: called in order, synchronously; must not raise.
    """

    async def begin() -> None:
        g.began = trio.current_time()

    async def end(response: Response) -> Response:
        answered = _answered(response.status_code)
        for each in tell:
            each(answered)
        return response

    app.before_request(begin)
    app.after_request(end)


def _answered(status: int) -> Answered:
    rule, now = request.url_rule, trio.current_time()
    caller = g.get("caller")
    client = request.scope.get("client") or ("", 0)
    return Answered(
        method=request.method if request.method in _METHODS else OTHER_METHOD,
        route=UNMATCHED if rule is None else rule.rule.replace("<", "{").replace(">", "}"),
        status=status,
        seconds=now - g.get("began", now),
        run_id=(request.view_args or {}).get("run_id", ""),
        principal="" if caller is None else caller.principal,
        client=client[0],
    )

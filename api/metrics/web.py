"""The calls of the interface as metrics, and the call that shows all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from prometheus_client.exposition import choose_encoder
from quart import Response, g, request

from api.metrics.labels import OTHER

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from api.metrics.counted import Metrics

_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
# What has no route of ours; its path is whatever a client made up.
UNMATCHED = "unmatched"


def install(app: QuartTrio, metrics: Metrics) -> None:
    """Measure every call from here on, and answer ``GET /metrics``."""

    async def begin() -> None:
        g.began = trio.current_time()

    async def measure(response: Response) -> Response:
        began = g.get("began")
        if began is not None:
            labels = (_method(), _route(), str(response.status_code))
            metrics.http_duration.labels(*labels).observe(trio.current_time() - began)
        return response

    turn = trio.CapacityLimiter(1)

    async def show() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # In a thread: a thousand series take milliseconds, for which no run should wait.
        text = await trio.to_thread.run_sync(encode, metrics.registry, limiter=turn)
        return Response(text, content_type=content_type)

    app.before_request(begin)
    app.after_request(measure)
    app.add_url_rule("/metrics", view_func=show)


def _method() -> str:
    return request.method if request.method in _METHODS else OTHER


def _route() -> str:
    """Return the template of the route, such as ``/runs/{run_id}``."""
    rule = request.url_rule
    return UNMATCHED if rule is None else rule.rule.replace("<", "{").replace(">", "}")

"""The call that shows all metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from prometheus_client.exposition import choose_encoder
from quart import Response, request

if TYPE_CHECKING:
    from quart_trio import QuartTrio

    from api.metrics.counted import Metrics


def install(app: QuartTrio, metrics: Metrics) -> None:
    """Answer ``GET /metrics``."""
    turn = trio.CapacityLimiter(1)

    async def show() -> Response:
        """Show all metrics, for Prometheus."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # In a thread: a thousand series take milliseconds, for which no run should wait.
        text = await trio.to_thread.run_sync(encode, metrics.registry, limiter=turn)
        return Response(text, content_type=content_type)

    app.add_url_rule("/metrics", view_func=show)

"""The calls about deliveries that have not arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pydantic
from quart import Blueprint, Response, current_app

from api.auth.noting import done_to_all, kept
from api.calls import query, the_orchestrator
from api.problems import problem
from api.schema import MAX_PAGE, Order, parse
from api.webhooks.message import COLLECTION, read_delivery

if TYPE_CHECKING:
    from api.webhooks.outbox import Outbox

blueprint = Blueprint("webhooks", __name__)

# Entries that one page looks through at most, so that a filter that fits nothing is cheap too.
MOST_LOOKED_AT = 5_000


class DeliveriesQuery(Order):
    """The query of the deliveries that have not arrived."""

    state: Literal["waiting", "dead"] | None = None
    after: str | None = None
    limit: int = pydantic.Field(50, ge=1, le=MAX_PAGE)


@blueprint.get("/webhooks/deliveries")
async def deliveries() -> dict[str, Any]:
    """List what has not arrived, newest first: what waits, and what is given up."""
    asked = parse(DeliveriesQuery, query())
    found: list[dict[str, Any]] = []
    last, looked_at = asked.after or "", 0
    while looked_at < MOST_LOOKED_AT:
        page = await the_orchestrator().kept(COLLECTION, after=last, limit=500, newest=True)
        for last, stored in page:
            if asked.state in (None, stored["state"]):
                found.append(read_delivery(stored).shown())
            if len(found) == asked.limit:
                return {"deliveries": found, "next": last}
        looked_at += len(page)
        if len(page) < 500:
            return {"deliveries": found, "next": None}
    return {"deliveries": found, "next": last}


@blueprint.post("/webhooks/deliveries/<delivery_id>/retry")
async def retry(delivery_id: str) -> tuple[dict[str, Any], int] | Response:
    """Try a delivery now, also one that was given up."""
    orchestrator = the_orchestrator()
    stored = await orchestrator.kept_one(COLLECTION, delivery_id)
    if stored is None:
        why = f"no delivery {delivery_id!r} waits or is dead; perhaps it has arrived"
        return problem(404, "unknown-delivery", why)
    outbox: Outbox | None = current_app.extensions["quiesce.outbox"]
    if outbox is None:
        return problem(409, "no-outbox", "nothing sends webhooks here")
    retried = await outbox.retry(read_delivery(stored))
    await kept(done_to_all("retry delivery", None, delivery_id))
    return retried.shown(), 202

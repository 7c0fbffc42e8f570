"""The calls that tell what happens: in one run, and in all of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from quart import Blueprint, Response, current_app, request

from api.auth.guard import caller
from api.calls import json_response, query, show, the_orchestrator
from api.schema import AllEventsQuery, EventsQuery, parse
from api.stream import AllRuns, OneRun
from orchestrator import InvalidInput

if TYPE_CHECKING:
    from api.stream import Streams

blueprint = Blueprint("feeds", __name__)


@blueprint.get("/runs/<run_id>/events")
async def events(run_id: str) -> Response:
    """Stream a run's feed from ``Last-Event-ID`` or ``after``, or show a page of it as JSON."""
    asked = parse(EventsQuery, _from_the_last_event())
    orchestrator = the_orchestrator()
    best = request.accept_mimetypes.best_match(["text/event-stream", "application/json"])
    if best != "application/json":
        if "limit" in asked.model_fields_set:
            why = "is of a page, which comes with `Accept: application/json`; a stream has all"
            raise InvalidInput([("limit", why)])
        live = orchestrator.live(run_id)
        if request.method != "HEAD":
            _streams().audience.expect(live)
        subscription = await orchestrator.events(run_id, after=asked.after)
        snapshot = partial(show, orchestrator, run_id)
        return _streams().respond(OneRun(subscription, live, snapshot))
    subscription = await orchestrator.events(run_id, after=asked.after, follow=False)
    page = await subscription.at_most(asked.limit)
    following = page[-1].seq if len(page) == asked.limit else None
    return await json_response({"events": iter(page), "next": following})


@blueprint.get("/events")
async def all_events() -> Response:
    """Stream the events of every run that the caller may see."""
    asked = parse(AllEventsQuery, _from_the_last_event())
    where = asked.where(caller().may_see)
    listener = the_orchestrator().listen(after=asked.after, where=where)
    return _streams().respond(AllRuns(listener))


def _from_the_last_event() -> dict[str, str]:
    """Return the query, beginning after what a reader that comes back has seen."""
    # Who has seen none says so with an empty one, or with none.
    last = request.headers.get("Last-Event-ID")
    return query() | ({"after": last} if last else {})


def _streams() -> Streams:
    streams: Streams = current_app.extensions["quiesce.streams"]
    return streams

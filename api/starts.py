"""The calls that start runs."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from quart import Blueprint, current_app, g, request

from api import acts
from api.answers import run_json
from api.auth.guard import caller, check_start
from api.auth.noting import started
from api.calls import query, show, the_orchestrator, wait_for_end
from api.holding import hold
from api.once import HEADER, Key, KeySpent, Starts, read_key
from api.schema import RerunOrder, StartOrder, WaitQuery, parse
from orchestrator import UnknownRun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from api.calls import Answer
    from api.stream import Streams
    from orchestrator import Orchestrator, Run, RunId

blueprint = Blueprint("starts", __name__)

# The endpoint that takes files.
WITH_FILES = "starts.start"


@blueprint.post("/runs")
async def start() -> Answer:
    """Start a run; the answer comes once that is durable."""
    order = parse(StartOrder, g.body)
    return await _started(partial(acts.begin, order, g.files))


@blueprint.post("/runs/<run_id>/rerun")
async def rerun(run_id: str) -> Answer:
    """Start a new run with the input of one that has ended."""
    order = parse(RerunOrder, g.body if g.body is not None else {})
    old = await the_orchestrator().get(run_id)
    check_start(old.agent, old.input)

    async def begin() -> Run:
        run = await the_orchestrator().readmit(run_id, from_step=order.from_step)
        started("rerun", run)
        return run

    return await _started(begin)


async def _started(begin: Callable[[], Awaitable[Run]]) -> Answer:
    wait_s = parse(WaitQuery, query()).wait_s
    key = _key()
    if key is None and wait_s == 0:
        return await _told(await begin())
    extensions = current_app.extensions
    orchestrator: Orchestrator = extensions["quiesce"]
    starts: Starts = extensions["quiesce.starts"]
    if wait_s > 0:
        run_id, replayed = await _watched(starts, key, begin, wait_s)
    else:
        run_id, replayed = await starts.once(key, begin)
    headers = {"Location": f"/runs/{run_id}"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    try:
        return await show(orchestrator, run_id), 201, headers
    except UnknownRun:
        if replayed:
            raise KeySpent() from None
        raise


async def _told(run: Run) -> Answer:
    started = run_json(await hold(run)) | {"partial": None}
    return started, 201, {"Location": f"/runs/{run.id}"}


async def _watched(
    starts: Starts, key: Key | None, begin: Callable[[], Awaitable[Run]], wait_s: float
) -> tuple[RunId, bool]:
    """Start a run and wait for its end; while it does, the caller is one who watches it."""
    streams: Streams = current_app.extensions["quiesce.streams"]
    with ExitStack() as watched:

        def watch(run: Run | None) -> None:
            watched.enter_context(streams.audience.watching(run))

        async def begin_watched() -> Run:
            run = await begin()
            # In this very step: a caller may leave while the start becomes durable.
            watch(run)
            return run

        run_id, replayed = await starts.once(key, begin_watched)
        run = the_orchestrator().live(run_id)
        if replayed:
            watch(run)
        await wait_for_end(run, wait_s)
    return run_id, replayed


def _key() -> Key | None:
    """Return the key of the request, which stands for all that it asks for."""
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    files = [[each.name, each.media_type, sha256(each.data).hexdigest()] for each in g.files]
    asked: Any = [request.path, g.body, files]
    return read_key(given, caller().principal, asked)

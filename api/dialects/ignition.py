"""Ignition's calls: executions are runs of the agent ``playbook``."""

from __future__ import annotations

from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from pydantic import Field
from quart import Blueprint, Response, current_app, g, json, websocket

from api import acts
from api.acts import Stop
from api.calls import show, the_orchestrator, whole_run
from api.dialects.words import SETTLE_S, STATUSES, about_the_body, record_of
from api.schema import ControlOrder, Order, StartOrder, StopOrder, parse
from api.stream import OneRun
from orchestrator import InvalidInput, RunStatus

if TYPE_CHECKING:
    from api.calls import Answer
    from api.stream import Streams

blueprint = Blueprint("ignition", __name__)

AGENT = "playbook"
# The sub-agent that shows pictures.
BROWSER = "browser"
NORMAL_CLOSURE = 1000
# An execution is kept for half an hour after its end, as there.
KEPT_S = 1_800.0


class ExecutionOrder(Order):
    """The body of ``POST /api/executions``."""

    playbook: str
    inputs: dict[str, Any] | None = None
    debug: bool = Field(False, strict=True)


@blueprint.post("/api/executions")
async def start() -> Answer:
    """Start an execution."""
    order = parse(ExecutionOrder, g.body)
    given = order.model_dump(include={"playbook", "inputs"}, exclude_none=True)
    options = {"debug": order.debug, "retention_s": KEPT_S}
    try:
        run = await acts.start(StartOrder(agent=AGENT, input=given, options=options))
    except InvalidInput as error:
        raise about_the_body(error) from None
    return _shown(await whole_run(run.id)), 202


@blueprint.get("/api/executions/<run_id>")
async def execution(run_id: str) -> dict[str, Any]:
    """Show an execution."""
    await record_of(run_id, AGENT)
    return _shown(await whole_run(run_id))


@blueprint.get("/api/executions/<run_id>/view")
async def view(run_id: str) -> Response:
    """Lead to the latest picture of the latest browser of an execution."""
    await record_of(run_id, AGENT)
    tree = await the_orchestrator().tree(run_id)
    showing = next((run for run in reversed(tree) if run.agent == BROWSER), tree[0])
    return Response("", 302, {"Location": f"/runs/{showing.id}/view", "Cache-Control": "no-store"})


@blueprint.post("/api/executions/<run_id>/cancel")
async def cancel(run_id: str) -> dict[str, Any]:
    """End an execution in the middle of its step, and say what became of it."""
    await record_of(run_id, AGENT)
    order = parse(StopOrder, {"mode": "now", "reason": "cancelled", "wait_s": SETTLE_S})
    answer, _ = await Stop(run_id, order).answer()
    return _shown(answer["run"])


@blueprint.post("/api/executions/<run_id>/pause")
async def pause(run_id: str) -> Answer:
    """Let no new step begin."""
    await record_of(run_id, AGENT)
    return await _answer(acts.pause(run_id, parse(ControlOrder, {})))


@blueprint.post("/api/executions/<run_id>/resume")
async def resume(run_id: str) -> Answer:
    """Let a paused execution go on. What was cancelled never does."""
    await record_of(run_id, AGENT)
    return await _answer(acts.resume(run_id, parse(ControlOrder, {})))


@blueprint.post("/api/executions/<run_id>/step")
async def step(run_id: str) -> Answer:
    """Let a paused execution do one step."""
    await record_of(run_id, AGENT)
    return await _answer(acts.step(run_id, parse(ControlOrder, {})))


@blueprint.websocket("/api/ws/executions/<run_id>")
async def follow(run_id: str) -> None:
    """Tell of an execution whenever something happens in it, up to its end."""
    await record_of(run_id, AGENT)
    await websocket.accept()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hear)
        await _tell(run_id)
        nursery.cancel_scope.cancel(reason="all is told")
    await websocket.close(NORMAL_CLOSURE, "the execution is over, or the server closes")


async def _tell(run_id: str) -> None:
    """Say how the execution stands, now and whenever that is another; in silence say that."""
    orchestrator = the_orchestrator()
    streams: Streams = current_app.extensions["quiesce.streams"]
    subscription = await orchestrator.events(run_id)
    source = OneRun(subscription, orchestrator.live(run_id), partial(show, orchestrator, run_id))
    said: dict[str, Any] = {}
    async with aclosing(streams.follow(source)) as following:
        async for parts in following:
            now = _shown(await show(orchestrator, run_id))
            if now != said:
                await _say("execution", **now)
            elif not any(part.name for part in parts):
                await _say("keepalive")
            said = now


async def _hear() -> None:
    """Answer the pings of the page; whatever else it says changes nothing."""
    while True:
        if _kind_of(await websocket.receive()) == "ping":
            await _say("pong")


def _kind_of(message: str | bytes | None) -> object:
    try:
        said = json.loads(message or b"")
    except (ValueError, RecursionError):
        return None
    return said.get("type") if isinstance(said, dict) else None


async def _say(kind: str, **words: Any) -> None:
    await websocket.send(json.dumps({"type": kind, **words}))


async def _answer(act: acts.Act) -> Answer:
    run, status = await act.answer()
    return _shown(run), status


def _shown(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run in Ignition's words."""
    same = ("progress", "result", "partial", "error", "created_at", "started_at", "ended_at")
    return {
        "execution_id": run["id"],
        "status": STATUSES[RunStatus(run["status"])],
        **{name: run[name] for name in same},
    }

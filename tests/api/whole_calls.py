"""Whole calls of every kind, each about something of its own, and what they leave behind."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import trio

from api.auth.audit import COLLECTION
from api.dashboard.assets import VERSION
from api.dialects.beacon import EXECUTION
from orchestrator import Context, RunFilter, agent
from orchestrator.testing import until
from tests.api.agents import PNG
from tests.api.hanging_up import quick, request_of, slow

if TYPE_CHECKING:
    from orchestrator import Orchestrator, Run, RunRecord

# What a call is about has a name, and no other call has anything to do with that.
NAME = re.compile(r"n\d{5}")


class Whole(NamedTuple):
    """A whole call, and how it is answered.

    Attributes:
        body: JSON, or bytes of whatever the headers say; None for none. In it and in the headers
            ``<name>``, ``<run_id>`` and ``<question_id>`` stand for those of what it is about.
        about: what that is: a run of an agent, or a schedule; nothing if empty.
        alone: it is about all that there is, so that two at the same time would be about the same.
        again: it is made for the second time.
    """

    body: Any = None
    status: int = 200
    about: str = ""
    headers: tuple[str, ...] = ()
    alone: bool = False
    again: bool = False


def form(**parts: bytes) -> bytes:
    """Return a form of those parts; ``file`` is a file."""
    named = {name: f'name="{name}"' for name in parts}
    named["file"] = 'name="file"; filename="a.txt"\r\nContent-Type: text/plain'
    head = b"--x\r\nContent-Disposition: form-data; "
    each = [head + named[name].encode() + b"\r\n\r\n" + part for name, part in parts.items()]
    return b"\r\n".join([*each, b"--x--\r\n"])


START = {"agent": "quick", "input": {"name": "<name>"}}
JOB = {"name": "<name>", "questions": [], "models": [], "regions": [], "endpoint": "x"}
KEY = ("Idempotency-Key: <name>",)
FORM = ("Content-Type: multipart/form-data; boundary=x",)
JSON = ("Accept: application/json",)

# Calls that change something, by their names in the table of rights, and what sets them apart.
OWN: dict[str, Whole] = {
    "POST /runs": Whole(START, 201),
    "POST /runs?wait_s=9 with a key": Whole(START, 201, headers=KEY),
    "POST /runs again with a key": Whole(START, 201, headers=KEY, again=True),
    "POST /runs with a file": Whole(
        form(order=json.dumps(START).encode(), file=b"hello"), 201, headers=FORM
    ),
    "POST /runs/stop": Whole({"filter": {"tag": "<name>"}}, 202, "slow"),
    "POST /runs/stop by ids": Whole({"ids": ["<run_id>"], "mode": "now", "wait_s": 9}, 202, "slow"),
    "PATCH /runs/<run_id>": Whole({"tags": ["<name>", "new"]}, 200, "slow"),
    "DELETE /runs/<run_id>": Whole(None, 204, "quick"),
    "POST /runs/<run_id>/stop": Whole({"mode": "now", "reason": "x", "wait_s": 9}, 200, "slow"),
    "POST /runs/<run_id>/pause": Whole({"reason": "x"}, 202, "slow"),
    "POST /runs/<run_id>/resume": Whole({}, 202, "held slow"),
    "POST /runs/<run_id>/resume of one that runs": Whole({}, 409, "slow"),
    "POST /runs/<run_id>/step": Whole({}, 202, "held slow"),
    "POST /runs/<run_id>/answer": Whole(
        {"question_id": "<question_id>", "answer": "yes"}, 202, "asking"
    ),
    "POST /runs/<run_id>/rerun": Whole({}, 201, "quick"),
    "POST /halt": Whole({"mode": "now", "wait_s": 9}, 200, "slow", alone=True),
    "DELETE /halt": Whole(None, 204, "halt", alone=True),
    "POST /schedules": Whole({**START, "cron": "0 0 1 1 *", "id": "<name>"}, 201),
    "DELETE /schedules/<schedule_id>": Whole(None, 204, "schedule"),
    "POST /schedules/<schedule_id>/pause": Whole(None, 200, "schedule"),
    "POST /schedules/<schedule_id>/resume": Whole(None, 200, "held schedule"),
    "POST /webhooks/deliveries/<delivery_id>/retry": Whole(None, 404),
}
OF_DIALECTS: dict[str, Whole] = {
    "POST /api/knowledge-items/crawl": Whole({"url": "http://x/<name>"}),
    "POST /api/documents/upload": Whole(form(tags=b"<name>", file=b"hello"), headers=FORM),
    "POST /api/knowledge-items/stop/<run_id>": Whole(None, 200, "crawl"),
    "POST /api/executions": Whole({"playbook": "<name>"}, 202),
    "POST /api/executions/<run_id>/cancel": Whole(None, 200, "playbook"),
    "POST /api/executions/<run_id>/pause": Whole(None, 202, "playbook"),
    "POST /api/executions/<run_id>/resume": Whole(None, 202, "held playbook"),
    "POST /api/executions/<run_id>/step": Whole(None, 202, "held playbook"),
    "POST /api/v1/jobs": Whole(JOB, 202),
    "POST /api/v1/jobs/<run_id>/cancel": Whole({"reason": "x"}, 200, "job"),
    "POST /api/v1/jobs/<run_id>/executions/<execution_id>/cancel": Whole(None, 200, "job"),
}
CHANGING = OWN | OF_DIALECTS
# Calls that change nothing.
READING: dict[str, Whole] = {
    "GET /healthz": Whole(),
    "GET /readyz": Whole(),
    "GET /session": Whole(),
    "DELETE /session": Whole(None, 204),
    "POST /session": Whole({}, 422),
    "POST /session/challenge": Whole({"address": f"0x{0:040}"}, 404),
    "GET /agents": Whole(),
    "GET /audit?limit=2": Whole(),
    "GET /metrics": Whole(),
    "GET /halt": Whole(),
    "GET /webhooks/deliveries": Whole(),
    "GET /schedules": Whole(),
    "GET /schedules/<schedule_id>": Whole(None, 200, "schedule"),
    "GET /runs?limit=2": Whole(None, 200, "quick"),
    "GET /runs/<run_id>": Whole(None, 200, "rich"),
    "GET /runs/<run_id> unchanged": Whole(None, 304, "rich", headers=("If-None-Match: *",)),
    "GET /runs/<run_id>/tree": Whole(None, 200, "job"),
    "GET /runs/<run_id>/events": Whole(None, 200, "quick"),
    "GET /runs/<run_id>/events as JSON": Whole(None, 200, "quick", headers=JSON),
    "GET /events": Whole(),
    "GET /runs/<run_id>/stop": Whole(None, 404, "quick"),
    "GET /runs/<run_id>/stack": Whole(None, 200, "slow"),
    "GET /runs/<run_id>/partial": Whole(None, 200, "rich"),
    "GET /runs/<run_id>/artifacts": Whole(None, 200, "rich"),
    "GET /runs/<run_id>/artifacts/<name>": Whole(None, 200, "rich"),
    "GET /runs/<run_id>/view": Whole(None, 200, "rich"),
    "GET /openapi.json": Whole(),
    "GET /docs": Whole(),
    "GET /": Whole(),
    "GET /dashboard/runs/<run_id>": Whole(None, 200, "quick"),
    "GET /dashboard/schedules": Whole(),
    "GET /dashboard/login": Whole(),
    "GET /dashboard/assets/<version>/<name>": Whole(),
    "GET /api/crawl-progress/<run_id>": Whole(None, 200, "crawl"),
    "GET /api/progress/<run_id>": Whole(None, 200, "crawl"),
    "GET /api/knowledge-items": Whole(),
    "GET /api/executions/<run_id>": Whole(None, 200, "playbook"),
    "GET /api/executions/<run_id>/view": Whole(None, 302, "playbook"),
    "GET /api/v1/jobs/<run_id>": Whole(None, 200, "job"),
    "GET /socket.io/?EIO=4&transport=polling": Whole(),
    "POST /socket.io/?EIO=4&transport=polling&sid=none": Whole(None, 400),
}


@agent
async def asking(ctx: Context, name: str) -> str:
    """Ask a person."""
    return str(await ctx.ask(name, str))


@agent
async def rich(ctx: Context, name: str) -> None:
    """Leave everything that can be read."""
    await ctx.artifact("a.txt", b"hello", media_type="text/plain")
    await ctx.partial({"half": name})
    await ctx.view(PNG)


@agent
async def crawl(ctx: Context, url: str) -> None:
    """Stand in for the agent of that name."""
    await trio.sleep_forever()


@agent
async def ingest(ctx: Context, titles: dict[str, str]) -> None:
    """Stand in for the agent of that name."""


@agent
async def playbook(ctx: Context, playbook: str) -> None:
    """Stand in for the agent of that name."""
    await ctx.checkpoint()
    await trio.sleep_forever()


@agent(name=EXECUTION)
async def execution(ctx: Context, model: str, region: str) -> None:
    """Stand in for the agent of that name."""
    await trio.sleep_forever()


@agent
async def job(
    ctx: Context, name: str, questions: Any, models: Any, regions: Any, endpoint: str
) -> None:
    """Stand in for the agent of that name."""
    await ctx.call(execution, model="m", region=name)


AGENTS = [quick, slow, asking, rich, crawl, ingest, playbook, execution, job]
# More than there are of anything.
MANY = 100_000
ENDING = (quick.name, rich.name)
# What those are given of which a call is about a run, unless it is a name.
INPUTS: dict[str, Any] = {
    "crawl": {"url": "<name>"},
    "playbook": {"playbook": "<name>"},
    "job": JOB,
}


def name_of(call: str) -> str:
    """Return the name of a call in the table of rights."""
    method, path, *_ = call.split(" ")
    return f"{method} {path.partition('?')[0]}"


async def prepared(orchestrator: Orchestrator, call: str, name: str) -> bytes:
    """Make what a call is about, and return its request."""
    whole = (CHANGING | READING)[call]
    method, path, *_ = call.split(" ")
    known = {"name": name, "schedule_id": name, "delivery_id": name, "version": VERSION}
    known |= await _made(orchestrator, whole.about, name)
    headers = [_filled(each, known) for each in whole.headers]
    path = _filled(path, known | {"name": "dom.js" if "/assets/" in path else "a.txt"})
    body = whole.body if isinstance(whole.body, bytes) else _json(whole.body)
    return request_of(method, path, _filled(body.decode(), known).encode(), *headers)


def _json(body: Any) -> bytes:
    return b"" if body is None else json.dumps(body).encode()


def _filled(text: str, known: dict[str, str]) -> str:
    return re.sub(r"<(\w+)>", lambda found: known[found[1]], text)


async def _made(orchestrator: Orchestrator, about: str, name: str) -> dict[str, str]:
    """Make what a call is about, and return its ids."""
    held, _, kind = about.rpartition(" ")
    if kind == "schedule":
        orchestrator.schedules.create("quick", {"name": name}, cron="0 0 1 1 *", schedule_id=name)
        if held:
            orchestrator.schedules.pause(name)
    elif kind == "halt":
        await orchestrator.durable(orchestrator.request_halt())
    elif kind:
        given = json.loads(
            _filled(json.dumps(INPUTS.get(kind, {"name": "<name>"})), {"name": name})
        )
        options = {"tags": [name], "debug": bool(held)}
        run = await orchestrator.start(kind, given, options=options, owner="anonymous")
        return await _ids_of(orchestrator, run)
    return {}


async def _ids_of(orchestrator: Orchestrator, run: Run) -> dict[str, str]:
    """Wait until a run is as it stays, and return its ids."""
    if run.agent.name in ENDING:
        await run.wait()
    if run.record.options.debug:
        await until(run, "paused")
    known: dict[str, str] = {"run_id": run.id}
    if run.agent is asking:
        while run.record.waiting_for is None:
            await trio.lowlevel.checkpoint()
        known["question_id"] = run.record.waiting_for.id
    if run.agent is job:
        while len(below := await orchestrator.tree(run.id)) < 2:
            await trio.lowlevel.checkpoint()
        known["execution_id"] = below[1].id
    return known


Left = dict[str, list[Any]]


async def left_behind(orchestrator: Orchestrator) -> Left:
    """Return what there is of each name: runs, with their states and events, and schedules."""
    found: Left = {}
    for record in (await orchestrator.runs(RunFilter(), limit=MANY)).runs:
        found.setdefault(_name_in(record), []).append(await _account_of(orchestrator, record))
    for schedule in orchestrator.schedules.shown():
        found.setdefault(schedule.id, []).append(("schedule", schedule.paused, schedule.owner))
    return {name: sorted(each, key=repr) for name, each in found.items()}


def _name_in(record: RunRecord) -> str:
    said = NAME.search(json.dumps([record.input, record.tags]))
    assert said is not None
    return said[0]


async def _account_of(orchestrator: Orchestrator, record: RunRecord) -> Any:
    assert record.owner
    told = await orchestrator.events(record.id, follow=False)
    stop = record.stop and (record.stop.outcome, record.stop.reason, len(record.stop.also))
    return (
        *(record.agent, record.status, record.owner, len(record.tags), record.rerun_of is None),
        stop,
        [event.type async for event in told if event.run_id == record.id],
        [each.name for each in await orchestrator.artifacts(record.id)],
    )


async def deeds(orchestrator: Orchestrator) -> Counter[tuple[str, str]]:
    """Return how often what was done, and with which result, as the audit says."""
    kept = await orchestrator.kept(COLLECTION, limit=MANY)
    return Counter((entry["action"], entry["result"]) for _, entry in kept)

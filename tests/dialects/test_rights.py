"""Each call of a dialect needs the right that its counterpart among our own calls needs."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from quart.datastructures import FileStorage

from api.app import create_app
from api.auth.rights import CALLS, CALLS_OF_DIALECTS, Right
from api.dialects import DIALECTS
from orchestrator import (
    Context,
    InvalidInput,
    StopMode,
    StopSource,
    agent,
    open_orchestrator,
)
from orchestrator.agents.crawl import crawl
from orchestrator.agents.ingest import ingest
from orchestrator.agents.job import job
from orchestrator.agents.playbook import playbook
from tests.api.auth.people import access, token_of

if TYPE_CHECKING:
    import trio.testing

    from orchestrator import Orchestrator

BOOK = "name: a\nsteps: [{id: a, type: wait, parameters: {seconds: 600}}]"
GIVEN: dict[str, dict[str, Any]] = {
    "crawl": {"url": "http://127.0.0.1:1/"},
    "playbook": {"playbook": BOOK},
    "job": {
        "name": "a",
        "questions": [1],
        "models": ["m"],
        "regions": ["r"],
        "endpoint": "http://127.0.0.1:1/",
    },
}


async def test_every_call_of_a_dialect_has_its_right(orchestrator: Orchestrator) -> None:
    rules = create_app(orchestrator, dialects=DIALECTS).url_map.iter_rules()
    served = {
        f"{'WS' if rule.websocket else method} {rule.rule}"
        for rule in rules
        for method in set(rule.methods or ()) - {"HEAD", "OPTIONS"}
    }
    assert served == {*CALLS, *CALLS_OF_DIALECTS}


async def test_without_a_dialect_there_are_none_of_its_calls(orchestrator: Orchestrator) -> None:
    client = create_app(orchestrator).test_client()
    answer = await client.get("/api/executions/run_1", headers={"Host": "localhost"})
    assert answer.status_code == 404


async def test_a_dialect_that_is_none_is_refused(orchestrator: Orchestrator) -> None:
    with pytest.raises(
        InvalidInput, match="'esperanto' is none of: archon, beacon, gofannon, ignition"
    ):
        create_app(orchestrator, dialects=["beacon", "esperanto"])


@pytest.mark.parametrize(
    "call", [c for c in CALLS_OF_DIALECTS if "<run_id>" in c and "WS" not in c]
)
async def test_J3_who_may_do_what_to_a_job_or_an_execution(
    call: str, autojump_clock: trio.testing.MockClock
) -> None:
    """401 without identity, 403 for what is another's, 404 for what one may not see."""
    method, path = call.split()
    agent = {"executions": "playbook", "v1": "job"}.get(path.split("/")[2], "crawl")
    granted = 302 if path.endswith("/view") else 200
    reads = CALLS_OF_DIALECTS[call].right is Right.READ
    expected = {
        "": 401,
        "nobody": 401,
        "viewer": granted if reads else 403,
        "other": granted if reads else 403,
        "narrow other": 404,
    }
    async with open_orchestrator(agents=[playbook, job, crawl]) as orchestrator:
        app = create_app(orchestrator, access=access(), dialects=DIALECTS)
        client: Any = app.test_client()
        run = await orchestrator.start(agent, GIVEN[agent], owner="olga")
        path = path.replace("<run_id>", run.id).replace("<execution_id>", "run_none")
        found = {}
        for name in expected:
            headers = {"Host": "localhost"}
            if name:
                headers["Authorization"] = f"Bearer {token_of(name)}"
            answer = await client.open(path, method=method, headers=headers)
            found[name] = answer.status_code
        assert found == expected
        assert run.record.stop is None


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("POST /api/knowledge-items/crawl", {"json": {"url": "http://127.0.0.1:1/"}}),
        ("POST /api/documents/upload", {"files": {"file": FileStorage(BytesIO(b"a"), "a.txt")}}),
        ("POST /api/v1/jobs", {"json": GIVEN["job"]}),
        ("POST /api/executions", {"json": GIVEN["playbook"]}),
    ],
)
async def test_A2_who_may_start_what(call: str, body: dict[str, Any]) -> None:
    """The run is the caller's own."""
    method, path = call.split()
    agents = [playbook, job, crawl, ingest]
    async with open_orchestrator(agents=agents) as orchestrator:
        client: Any = create_app(orchestrator, access=access(), dialects=DIALECTS).test_client()
        found = {}
        for name in ("", "nobody", "viewer", "other"):
            headers = {"Host": "localhost"}
            if name:
                headers["Authorization"] = f"Bearer {token_of(name)}"
            answer = await client.open(path, method=method, headers=headers, **body)
            found[name] = answer.status_code // 100 if name == "other" else answer.status_code
        assert found == {"": 401, "nobody": 401, "viewer": 403, "other": 2}
        assert {run.owner for run in (await orchestrator.runs()).runs} == {"otto"}
        orchestrator.stop_all(mode=StopMode.KILL, grace_s=0, source=StopSource.SHUTDOWN)


async def test_A2_a_search_finds_what_one_may_see() -> None:
    async with open_orchestrator(agents=[found_by]) as orchestrator:
        client: Any = create_app(orchestrator, access=access(), dialects=["archon"]).test_client()
        for owner in ("olga", "otto"):
            await (await orchestrator.start(found_by, {"owner": owner}, owner=owner)).wait()
        found = {}
        for name in ("", "viewer", "admin", "narrow owner", "narrow other"):
            headers = {"Host": "localhost"}
            if name:
                headers["Authorization"] = f"Bearer {token_of(name)}"
            answer = await client.get("/api/knowledge-items?search=word", headers=headers)
            items = (await answer.get_json()).get("items", [])
            found[name] = answer.status_code, sorted(each["source"] for each in items)
    assert found == {
        "": (401, []),
        "viewer": (200, ["olga", "otto"]),
        "admin": (200, ["olga", "otto"]),
        "narrow owner": (200, ["olga"]),
        "narrow other": (200, []),
    }


@agent(name="ingest")
async def found_by(ctx: Context, owner: str) -> None:
    """Keep what the built-in agent would."""
    line = {"source": owner, "title": "t", "text": f"word of {owner}"}
    await ctx.artifact("chunks.jsonl", json.dumps(line).encode() + b"\n")

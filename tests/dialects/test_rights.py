"""Each call of a dialect needs the right that its counterpart among our own calls needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from api.app import create_app
from api.auth.rights import CALLS, CALLS_OF_DIALECTS, Right
from api.dialects import DIALECTS
from orchestrator import InvalidInput, open_orchestrator
from orchestrator.agents.job import job
from orchestrator.agents.playbook import playbook
from tests.api.auth.people import access, token_of

if TYPE_CHECKING:
    import trio.testing

    from orchestrator import Orchestrator

BOOK = "name: a\nsteps: [{id: a, type: wait, parameters: {seconds: 600}}]"
GIVEN: dict[str, dict[str, Any]] = {
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
    agent = "playbook" if "executions" in path.split("/")[2] else "job"
    granted = 302 if path.endswith("/view") else 200
    reads = CALLS_OF_DIALECTS[call].right is Right.READ
    expected = {
        "": 401,
        "nobody": 401,
        "viewer": granted if reads else 403,
        "other": granted if reads else 403,
        "narrow other": 404,
    }
    async with open_orchestrator(agents=[playbook, job]) as orchestrator:
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

"""Who may do what: every call, everybody, every state of a run, and its answer."""

from __future__ import annotations

import secrets
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from api.app import create_app
from api.auth.rights import CALLS, Right
from api.auth.sections import RUN_PROGRAMS
from api.service import open_server
from orchestrator import RunId, RunStatus, open_orchestrator
from orchestrator.agents.chat import chat
from orchestrator.agents.command import command
from orchestrator.store.writes import SaveRun
from tests.api.agents import ALL
from tests.api.auth.people import PEOPLE, Asking, access, token_of
from tests.api.peer import Peer, talking
from tests.api.reading import reading

if TYPE_CHECKING:
    from orchestrator import Orchestrator

# Who may do it to a run of olga's that they may see. A wrong entry here is a hole.
MAY = {
    Right.READ: {"viewer", "owner", "demoted owner", "other", "admin", "narrow owner"},
    Right.START: {"owner", "other", "admin", "narrow owner", "narrow other"},
    Right.ACT: {"owner", "admin", "narrow owner"},
    Right.RULE: {"admin"},
}
SEE = {"viewer", "owner", "demoted owner", "other", "admin", "narrow owner"}

STATES = (
    *("running", "paused", "asking", "stopping", "succeeded", "stopped"),
    *("queued", "pausing", "failed", "timed_out", "abandoned", "lost"),
)
# What those are answered who may, with a run in each of these states.
RUN_CALLS: dict[str, tuple[int, ...]] = {
    "GET /runs/<run_id>": (
        *(200, 200, 200, 200, 200, 200),
        *(200, 200, 200, 200, 200, 200),
    ),
    "PATCH /runs/<run_id>": (
        *(200, 200, 200, 409, 409, 409),
        *(200, 200, 409, 409, 409, 409),
    ),
    "DELETE /runs/<run_id>": (
        *(409, 409, 409, 409, 204, 204),
        *(409, 409, 204, 204, 204, 204),
    ),
    "GET /runs/<run_id>/tree": (
        *(200, 200, 200, 200, 200, 200),
        *(200, 200, 200, 200, 200, 200),
    ),
    "GET /runs/<run_id>/events": (
        *(200, 200, 200, 200, 200, 200),
        *(200, 200, 200, 200, 200, 200),
    ),
    "POST /runs/<run_id>/stop": (
        *(200, 200, 200, 202, 409, 200),
        *(200, 202, 409, 200, 200, 409),
    ),
    "GET /runs/<run_id>/stop": (
        *(404, 404, 404, 200, 404, 200),
        *(404, 404, 404, 200, 200, 404),
    ),
    "GET /runs/<run_id>/stack": (
        *(200, 200, 200, 200, 200, 200),
        *(200, 200, 200, 200, 200, 200),
    ),
    "POST /runs/<run_id>/pause": (
        *(202, 409, 202, 409, 409, 409),
        *(409, 409, 409, 409, 409, 409),
    ),
    "POST /runs/<run_id>/resume": (
        *(409, 202, 409, 409, 409, 409),
        *(409, 202, 409, 409, 409, 409),
    ),
    "POST /runs/<run_id>/step": (
        *(409, 202, 409, 409, 409, 409),
        *(409, 409, 409, 409, 409, 409),
    ),
    "POST /runs/<run_id>/answer": (
        *(409, 409, 202, 409, 409, 409),
        *(409, 409, 409, 409, 409, 409),
    ),
    "POST /runs/<run_id>/rerun": (
        *(409, 409, 409, 409, 201, 201),
        *(409, 409, 201, 201, 201, 201),
    ),
    "GET /runs/<run_id>/partial": (
        *(200, 200, 200, 200, 200, 200),
        *(200, 200, 200, 200, 200, 200),
    ),
    "GET /runs/<run_id>/artifacts": (
        *(200, 200, 200, 200, 200, 200),
        *(200, 200, 200, 200, 200, 200),
    ),
    "GET /runs/<run_id>/artifacts/<name>": (
        *(404, 404, 404, 404, 200, 404),
        *(404, 404, 404, 404, 404, 404),
    ),
    "GET /runs/<run_id>/view": (
        *(404, 404, 404, 404, 404, 404),
        *(404, 404, 404, 404, 404, 404),
    ),
}
OTHER_CALLS = {
    "GET /": 200,
    "GET /dashboard/runs/<run_id>": 200,
    "GET /dashboard/schedules": 200,
    "GET /dashboard/login": 200,
    "GET /dashboard/assets/<version>/<name>": 404,
    "GET /openapi.json": 200,
    "GET /docs": 200,
    "GET /healthz": 200,
    "GET /readyz": 200,
    "GET /session": 200,
    "POST /session": 422,
    "POST /session/challenge": 422,
    "DELETE /session": 204,
    "GET /audit": 200,
    "GET /metrics": 200,
    "POST /schedules": 201,
    "GET /schedules": 200,
    "GET /schedules/<schedule_id>": 404,
    "DELETE /schedules/<schedule_id>": 404,
    "POST /schedules/<schedule_id>/pause": 404,
    "POST /schedules/<schedule_id>/resume": 404,
    "POST /halt": 200,
    "GET /halt": 200,
    "DELETE /halt": 204,
    "GET /webhooks/deliveries": 200,
    "POST /webhooks/deliveries/<delivery_id>/retry": 404,
    "GET /agents": 200,
    "GET /events": 422,
    "POST /runs": 201,
    "POST /runs/stop": 202,
    "GET /runs": 200,
}
# Answered for ever, so these are asked on a socket.
ENDLESS = {"GET /events", "WS /ws"}


def routes_of(orchestrator: Orchestrator) -> set[str]:
    """Return every call that the application answers."""
    rules = create_app(orchestrator).url_map.iter_rules()
    return {
        f"{'WS' if rule.websocket else method} {rule.rule}"
        for rule in rules
        for method in set(rule.methods or ()) - {"HEAD", "OPTIONS"}
    }


async def test_every_call_has_its_right_and_every_right_its_call(
    orchestrator: Orchestrator,
) -> None:
    assert routes_of(orchestrator) == set(CALLS)


def test_the_table_below_asks_every_call() -> None:
    assert {*RUN_CALLS, *OTHER_CALLS} | ENDLESS == set(CALLS)


AGENTS = {
    "asking": "asker",
    "succeeded": "echo",
    "failed": "failing",
    "stopping": "busy",
    "pausing": "busy",
}
OPTIONS = {"queued": {"start_after_s": 10_000}, "timed_out": {"deadline_s": 1}}


async def in_state(orchestrator: Orchestrator, state: str) -> tuple[str, dict[str, Any]]:
    """Return the id of a run of olga's in that state, and a body that fits any call about it."""
    if state in ("abandoned", "lost"):
        return await left_over(orchestrator, RunStatus(state)), {"question_id": "q", "answer": 1}
    given = {"succeeded": {"text": "x"}}.get(state, {})
    agent, options = AGENTS.get(state, "sleeper"), OPTIONS.get(state)
    run = await orchestrator.start(agent, given, owner="olga", options=options)
    await trio.testing.wait_all_tasks_blocked()
    match state:
        case "paused" | "pausing":
            run.request_pause()
        case "stopping":
            run.request_stop(grace_s=60)
        case "stopped":
            await run.stop()
        case "succeeded" | "failed" | "timed_out":
            await run.wait()
    await trio.testing.wait_all_tasks_blocked()
    assert (await orchestrator.get(run.id)).status == {"asking": "running"}.get(state, state)
    asked = run.record.waiting_for
    return run.id, {"question_id": asked.id if asked else "q", "answer": "yes"}


async def left_over(orchestrator: Orchestrator, status: RunStatus) -> str:
    """Store a run of which nothing is left, as if another process had done so."""
    ended = await orchestrator.start("sleeper", owner="olga")
    await ended.stop()
    record = await orchestrator.get(ended.id)
    run_id = RunId(ended.id[:-4] + secrets.token_hex(2))
    stop = record.stop if status is RunStatus.ABANDONED else None
    await orchestrator.store.write(
        [SaveRun(replace(record, id=run_id, root_id=run_id, status=status, stop=stop))]
    )
    return run_id


BODIES: dict[str, Any] = {
    "PATCH /runs/<run_id>": {"deadline_s": 100},
    "POST /runs": {"agent": "sleeper"},
    "POST /schedules": {"agent": "sleeper", "cron": "0 0 1 1 *"},
    "POST /session": {},
    "POST /session/challenge": {},
    "POST /runs/stop": {"ids": ["nobody"]},
    "POST /runs/<run_id>/stop": {"wait_s": 5},
}


# A stream that never ends is not begun.
PATHS = {"GET /events": "GET /events?after=nowhere"}


def expected(call: str, name: str, run: str, granted: int) -> int:
    """Return the status that somebody is answered.

    Args:
        run: ``none`` for a call that is about no run, ``unknown`` for one that does not exist.
        granted: what those are answered who may.
    """
    right = CALLS[call].right
    if right is Right.ACT and "<schedule_id>" in call:
        # Whose schedule it is, the call itself looks at, and there is none.
        right = Right.START
    if right is Right.OPEN:
        return granted
    if name not in PEOPLE:
        return 401
    if run == "none":
        return granted if right is Right.READ or name in MAY[right] else 403
    if run == "unknown" or name not in SEE:
        return 404
    return granted if name in MAY[right] else 403


def test_the_table_has_every_status() -> None:
    assert set(STATES) == {*RunStatus, "asking"}


@pytest.mark.parametrize("state", STATES)
async def test_every_call_answers_everybody_as_the_table_says(
    state: str, autojump_clock: trio.testing.MockClock
) -> None:
    found, table = {}, {}
    async with open_orchestrator(agents=ALL) as orchestrator:
        asking = Asking(orchestrator, access())
        for name, call in product(("", "nobody", *PEOPLE), RUN_CALLS):
            run_id, fitting = await in_state(orchestrator, state)
            body = None if call.startswith("GET") else BODIES.get(call)
            if call.endswith("answer"):
                body = fitting
            path = call.replace("<run_id>", run_id).replace("<name>", "text.txt")
            found[name, call] = (await asking.ask(path, name, body=body)).status_code
            granted = RUN_CALLS[call][STATES.index(state)]
            table[name, call] = expected(call, name, state, granted)
    assert found == table


@pytest.mark.parametrize("state", STATES)
async def test_what_a_run_says_is_available_is_what_the_table_grants(
    state: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_orchestrator(agents=ALL) as orchestrator:
        run_id, _ = await in_state(orchestrator, state)
        asking = Asking(orchestrator, access())
        shown = await (await asking.ask(f"GET /runs/{run_id}", "owner")).get_json()
    granted = {
        action
        for action in ("stop", "pause", "resume", "step", "answer", "rerun")
        if RUN_CALLS[f"POST /runs/<run_id>/{action}"][STATES.index(state)] < 400
    }
    if RunStatus(shown["status"]).is_terminal:
        granted.discard("stop")  # it only tells of the earlier one again
    assert set(shown["available_actions"]) == granted


@pytest.mark.parametrize("name", ["", "nobody", *PEOPLE])
async def test_calls_about_no_run_and_about_an_unknown_one(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    found, table = {}, {}
    async with open_orchestrator(agents=ALL) as orchestrator:
        asking = Asking(orchestrator, access())
        for call, granted in OTHER_CALLS.items():
            path = PATHS.get(call, call)
            found[call] = (await asking.ask(path, name, body=BODIES.get(call))).status_code
            table[call] = expected(call, name, "none", granted)
        for call in RUN_CALLS:
            path = call.replace("<run_id>", "run_no").replace("<name>", "text.txt")
            body = {"question_id": "q", "answer": 1} if call.endswith("answer") else None
            body = BODIES.get(call, body)
            found[call] = (await asking.ask(path, name, body=body)).status_code
            table[call] = expected(call, name, "unknown", 404)
    assert found == table


@pytest.mark.parametrize("call", [call for call in RUN_CALLS if not call.startswith("GET")])
async def test_what_is_refused_changes_nothing(
    call: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_orchestrator(agents=ALL) as orchestrator:
        asking = Asking(orchestrator, access())
        run_id, body = await in_state(orchestrator, "running")
        before = await orchestrator.get(run_id)
        for name in ("", "nobody", *(set(PEOPLE) - MAY[Right.ACT])):
            path = call.replace("<run_id>", run_id)
            refused = await asking.ask(path, name, body=BODIES.get(call, body))
            assert refused.status_code in (401, 403, 404)
        assert await orchestrator.get(run_id) == before
        assert [each.id for each in orchestrator.registry] == [run_id]


async def test_an_invisible_run_is_answered_like_one_that_does_not_exist(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.agents.get(ALL[0])
    asking = Asking(orchestrator, access())
    run = await orchestrator.start("sleeper", owner="olga")
    hidden = await asking.ask(f"POST /runs/{run.id}/stop", "narrow other")
    unknown = await asking.ask("POST /runs/run_no/stop", "narrow other")
    assert (await hidden.get_data(as_text=True)).replace(run.id, "run_no") == (
        await unknown.get_data(as_text=True)
    )
    assert hidden.status_code == unknown.status_code == 404
    assert dict(hidden.headers).keys() == dict(unknown.headers).keys()


async def test_lists_show_what_one_may_see(orchestrator: Orchestrator) -> None:
    orchestrator.agents.get(ALL[0])
    asking = Asking(orchestrator, access())
    hers = await orchestrator.start("sleeper", owner="olga")
    his = await orchestrator.start("sleeper", owner="otto")

    async def listed(name: str, query: str = "") -> list[str]:
        answer = await asking.ask(f"GET /runs{query}", name)
        return [run["id"] for run in (await answer.get_json())["runs"]]

    assert await listed("other") == [his.id, hers.id]
    assert await listed("narrow owner") == [hers.id]
    assert await listed("narrow owner", "?owner=olga") == [hers.id]
    assert await listed("narrow owner", "?owner=otto") == []
    assert await listed("narrow viewer") == []


async def test_the_stream_of_all_runs_tells_of_those_that_one_may_see(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.agents.get(ALL[1])

    async def heard_by(name: str, url: str, told: int) -> set[str]:
        token = {"Authorization": f"Bearer {token_of(name)}"}
        async with reading(url, "/events", **token) as reader:
            await reader.reset()
            for owner in ("olga", "otto"):
                run = await orchestrator.start("echo", {"text": "x"}, owner=owner)
                await run.wait()
            heard = [(await reader.notice())[1] for _ in range(told)]
        return {(await orchestrator.get(event["run_id"])).owner for event in heard}

    with trio.fail_after(60):
        server = open_server(orchestrator, host="127.0.0.1", port=0, access=access())
        async with server as url, httpx.AsyncClient(base_url=url) as nobody:
            assert (await nobody.get("/events")).status_code == 401
            assert await heard_by("narrow owner", url, 6) == {"olga"}
            assert await heard_by("viewer", url, 12) == {"olga", "otto"}


@pytest.mark.parametrize("name", PEOPLE)
async def test_over_a_websocket_one_may_do_what_one_may_over_http(name: str) -> None:
    may_act, may_see = name in MAY[Right.ACT], name in SEE
    sees_all = not name.startswith("narrow")
    acted = 202 if may_act else 403 if may_see else 404
    over = 409 if may_act else 403 if may_see else 404
    with trio.fail_after(30):
        async with (
            open_orchestrator(agents=ALL) as orchestrator,
            open_server(orchestrator, host="127.0.0.1", port=0, access=access()) as url,
            talking(url, Authorization=f"Bearer {token_of(name)}") as peer,
        ):
            ended = await orchestrator.start("echo", {"text": "x"}, owner="olga")
            await ended.wait()
            run_id, _ = await in_state(orchestrator, "asking")
            run = orchestrator.live(run_id)
            assert run is not None

            for command in ("pause", "resume", "step", "stop"):
                reply = await peer.ask(**{command: run.id})
                # It is not paused when it is to step, and may be over when a stop is answered.
                allowed = {"step": {409}, "stop": {200, 202}} if may_act else {}
                assert reply["status"] in allowed.get(command, {acted}), command
                assert (await peer.ask(**{command: ended.id}))["status"] == over, command
            assert (run.ladder.stop is not None) == may_act
            if run.ladder.stop is not None:
                assert run.ladder.stop.request.requested_by == PEOPLE[name].principal

            reply = await peer.ask(subscribe=ended.id, after=6)
            assert reply["status"] == (200 if may_see else 404)
            if may_see:
                assert "snapshot" in await peer.receive()
            await peer.ask(subscribe="*", types="run.queued")
            assert "reset" in await peer.receive()
            for owner in ("otto", PEOPLE[name].principal):
                await orchestrator.start("echo", {"text": "x"}, owner=owner)
            heard = [(await peer.receive())["event"]["run_id"] for _ in range(1 + sees_all)]
            owners = [(await orchestrator.get(run_id)).owner for run_id in heard]
            assert owners == ["otto"] * sees_all + [PEOPLE[name].principal]


async def test_nobody_gets_a_websocket_without_a_token(orchestrator: Orchestrator) -> None:
    with trio.fail_after(10):
        async with open_server(orchestrator, host="127.0.0.1", port=0, access=access()) as url:
            for token, status in (("", 401), (token_of("viewer"), 101)):
                headers = [(b"Authorization", f"Bearer {token}".encode())] if token else []
                port = int(url.rpartition(":")[2])
                async with await trio.open_tcp_stream("127.0.0.1", port) as tcp:
                    assert await Peer(tcp).open(headers) == status


async def test_a_run_belongs_to_whoever_started_it_and_a_stop_says_who_asked(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.agents.get(ALL[0])
    asking = Asking(orchestrator, access())

    async def stopped_by(name: str) -> tuple[str, str, str]:
        started = await asking.ask("POST /runs", "owner", body={"agent": "sleeper"})
        run = await started.get_json()
        answer = await asking.ask(f"POST /runs/{run['id']}/stop", name, body={"wait_s": 5})
        receipt = (await answer.get_json())["receipt"]
        return run["owner"], receipt["requested_by"], receipt["source"]

    assert await stopped_by("owner") == ("olga", "olga", "user")
    assert await stopped_by("admin") == ("olga", "ada", "admin")


async def test_an_agent_for_admins_is_started_by_admins_only(orchestrator: Orchestrator) -> None:
    for each in ALL:
        orchestrator.agents.get(each)
    asking = Asking(orchestrator, access(frozenset({"echo"})))
    body = {"agent": "echo", "input": {"text": "x"}}

    refused = await asking.ask("POST /runs", "owner", body=body)
    started = await asking.ask("POST /runs", "admin", body=body)
    assert (refused.status_code, started.status_code) == (403, 201)
    assert "'echo'" in (await refused.get_json())["detail"]

    hers = await orchestrator.start("echo", {"text": "x"}, owner="olga")
    await hers.wait()
    again = await asking.ask(f"POST /runs/{hers.id}/rerun", "owner")
    assert again.status_code == 403


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        (["command"], "may not start 'command'"),
        (["echo", "playbook"], "may not start 'playbook'"),
        (["echo", "chat"], "may not let 'chat' call 'chat', which calls others"),
    ],
)
async def test_nobody_lets_an_agent_call_what_they_may_not_start(
    orchestrator: Orchestrator, tools: list[str], why: str
) -> None:
    for each in (*ALL, chat, command):
        orchestrator.agents.add(each)
    asking = Asking(orchestrator, access(frozenset(RUN_PROGRAMS)))
    order: dict[str, Any] = {"agent": "chat", "input": {"message": "hello", "tools": tools}}
    refused = await asking.ask("POST /runs", "owner", body=order)
    assert refused.status_code == 403
    assert why in (await refused.get_json())["detail"]
    scheduled = await asking.ask("POST /schedules", "owner", body=order | {"cron": "0 0 1 1 *"})
    assert (scheduled.status_code, orchestrator.schedules.shown()) == (403, [])
    assert not orchestrator.registry

    hers = await orchestrator.start("chat", order["input"], owner="olga")
    await hers.wait()
    assert (await asking.ask(f"POST /runs/{hers.id}/rerun", "owner")).status_code == 403
    order["input"] = {"message": "hello", "tools": ["echo", "no such agent"]}
    assert (await asking.ask("POST /runs", "owner", body=order)).status_code == 201
    order["input"] = {"message": "hello", "tools": "command"}
    assert (await asking.ask("POST /runs", "owner", body=order)).status_code == 422
    order["input"] = {"message": "hello", "tools": tools}
    assert (await asking.ask("POST /runs", "admin", body=order)).status_code == 201


async def test_a_rerun_belongs_to_the_owner_of_the_run_that_it_repeats(
    orchestrator: Orchestrator,
) -> None:
    orchestrator.agents.get(ALL[1])
    asking = Asking(orchestrator, access())
    hers = await orchestrator.start("echo", {"text": "x"}, owner="olga")
    await hers.wait()
    again = await asking.ask(f"POST /runs/{hers.id}/rerun", "admin")
    assert (await again.get_json())["owner"] == "olga"

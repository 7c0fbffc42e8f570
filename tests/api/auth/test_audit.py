"""The audit: every deed has its entry, durable with it, and a deluge of failures is counted."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest
import trio

from api.auth.audit import COLLECTION, MOST_COUNTED, WINDOW_S, Deed, Trail
from api.service import open_server
from orchestrator import Orchestrator, open_orchestrator
from orchestrator.journal import BATCH
from orchestrator.store.writes import Forget, SaveDocument, SaveRun
from tests.api.agents import ALL
from tests.api.auth.people import Asking, access, token_of
from tests.api.peer import talking
from tests.api.test_service import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from orchestrator.store.writes import Write


@pytest.fixture
async def served() -> AsyncIterator[Orchestrator]:
    """An orchestrator with agents."""
    async with open_orchestrator(agents=ALL) as opened:
        yield opened


def batches_of(served: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> list[Sequence[Write]]:
    """Return where every batch is noted that is written from now on."""
    batches: list[Sequence[Write]] = []
    write = served.store.write

    async def spy(batch: Sequence[Write], *told: Any) -> None:
        batches.append(batch)
        await write(batch, *told)

    monkeypatch.setattr(served.store, "write", spy)
    return batches


async def entries(asking: Asking, query: str = "") -> list[dict[str, Any]]:
    orchestrator: Orchestrator = asking.app.extensions["quiesce"]
    await orchestrator.durable(orchestrator.keep("another", "key", None))
    answer = await asking.ask(f"GET /audit{query}", "admin")
    assert answer.status_code == 200
    found: list[dict[str, Any]] = (await answer.get_json())["audit"]
    return found


async def test_every_deed_says_who_when_from_where_why_and_what_came_of_it(
    served: Orchestrator,
) -> None:
    asking = Asking(served, access())
    started = await asking.ask("POST /runs", "owner", body={"agent": "sleeper"})
    run = (await started.get_json())["id"]
    await trio.testing.wait_all_tasks_blocked()
    for call, body in {
        "PATCH": {"deadline_s": 900},
        "pause": {"reason": "lunch"},
        "step": {},
        "resume": {},
        "stop": {"reason": "enough", "wait_s": 5},
        "rerun": {},
    }.items():
        path = f"POST /runs/{run}/{call}" if call != "PATCH" else f"PATCH /runs/{run}"
        assert (await asking.ask(path, "owner", body=body)).status_code < 300

    found = await entries(asking)
    assert [each["action"] for each in reversed(found)] == [
        *("start", "change", "pause", "step", "resume", "stop", "rerun")
    ]
    stop = found[1]
    assert stop.pop("id") > found[2]["id"]
    assert stop.pop("at").endswith("Z")
    assert stop == {
        "action": "stop",
        "principal": "olga",
        "from": "",  # the test client has no address
        "run_id": run,
        "reason": "enough",
        "result": "ok",
        "count": 1,
    }
    assert found[0]["run_id"] != run
    assert found[4]["reason"] == "lunch"


async def test_an_answer_is_a_deed(served: Orchestrator) -> None:
    asking = Asking(served, access())
    run = await served.start("asker", owner="olga")
    await trio.testing.wait_all_tasks_blocked()
    question = run.record.waiting_for
    assert question is not None
    body = {"question_id": question.id, "answer": "yes"}
    await asking.ask(f"POST /runs/{run.id}/answer", "owner", body=body)
    assert [each["action"] for each in await entries(asking)] == ["answer"]


async def test_deletions_halts_and_schedules_are_deeds(served: Orchestrator) -> None:
    asking = Asking(served, access())
    ended = await served.start("echo", {"text": "x"}, owner="olga")
    await ended.wait()
    order = {"id": "yearly", "agent": "echo", "cron": "0 0 1 1 *", "input": {"text": "x"}}
    for call, name, body in [
        (f"DELETE /runs/{ended.id}", "owner", None),
        ("POST /halt", "admin", {"reason": "a bill that grows"}),
        ("DELETE /halt", "admin", None),
        ("POST /schedules", "owner", order),
        ("POST /schedules/yearly/pause", "owner", None),
        ("POST /schedules/yearly/resume", "owner", None),
        ("DELETE /schedules/yearly", "owner", None),
        ("POST /webhooks/deliveries/none/retry", "admin", None),
    ]:
        await asking.ask(call, name, body=body)
    found = [
        (each["action"], each["principal"], each["run_id"], each["reason"], each["result"])
        for each in reversed(await entries(asking))
    ]
    assert found == [
        ("delete", "olga", ended.id, "", "ok"),
        ("halt", "ada", None, "a bill that grows", "ok"),
        ("lift", "ada", None, "", "ok"),
        ("schedule", "olga", None, "yearly", "ok"),
        ("pause-schedule", "olga", None, "yearly", "ok"),
        ("resume-schedule", "olga", None, "yearly", "ok"),
        ("unschedule", "olga", None, "yearly", "ok"),
        ("retry delivery", "ada", None, "", "unknown-delivery"),
    ]


async def test_a_removal_and_its_entry_are_stored_together(
    served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two would leave nobody who has done it."""
    asking = Asking(served, access())
    run = await served.start("echo", {"text": "x"}, owner="olga")
    await run.wait()
    batches = batches_of(served, monkeypatch)
    assert (await asking.ask(f"DELETE /runs/{run.id}", "owner")).status_code == 204
    (batch,) = (each for each in batches if any(isinstance(one, Forget) for one in each))
    assert [one.collection for one in batch if isinstance(one, SaveDocument)] == [COLLECTION]


async def test_what_is_refused_is_noted_with_the_reason_why(served: Orchestrator) -> None:
    asking = Asking(served, access(frozenset({"sleeper"})))
    ended = await served.start("echo", {"text": "x"}, owner="olga")
    await ended.wait()
    for call, name, body, result in [
        (f"POST /runs/{ended.id}/stop", "other", {"reason": "mine"}, "forbidden"),
        (f"POST /runs/{ended.id}/stop", "narrow other", {}, "unknown-run"),
        (f"POST /runs/{ended.id}/stop", "owner", {"reason": "late"}, "run-ended"),
        (f"POST /runs/{ended.id}/pause", "owner", {}, "run-ended"),
        ("POST /runs", "viewer", {"agent": "echo"}, "forbidden"),
        ("POST /runs", "owner", {"agent": "sleeper"}, "forbidden"),
        ("POST /runs", "owner", {"agent": "nobody"}, "invalid-input"),
        ("POST /runs/run_no/rerun", "admin", {}, "unknown-run"),
    ]:
        assert (await asking.ask(call, name, body=body)).status_code >= 400
        assert (await entries(asking))[0]["result"] == result


async def test_a_stop_of_what_has_stopped_is_noted_too(served: Orchestrator) -> None:
    asking = Asking(served, access())
    run = await served.start("sleeper", owner="olga")
    await run.stop()
    assert (await asking.ask(f"POST /runs/{run.id}/stop", "admin")).status_code == 200
    (entry,) = await entries(asking)
    assert (entry["principal"], entry["result"]) == ("ada", "ok")


async def test_looking_is_no_deed(served: Orchestrator) -> None:
    asking = Asking(served, access())
    for name in ("", "viewer"):
        await asking.ask("GET /runs", name)
        await asking.ask("POST /runs/x/stop", "")
    assert await entries(asking) == []


async def test_entries_are_chosen_and_paged(served: Orchestrator) -> None:
    asking = Asking(served, access())
    runs = [await served.start("sleeper", owner="olga") for _ in range(3)]
    for run in runs:
        await asking.ask(f"POST /runs/{run.id}/pause", "owner")
        await asking.ask(f"POST /runs/{run.id}/stop", "admin")

    assert len(await entries(asking, "?principal=ada")) == 3
    assert len(await entries(asking, "?action=pause")) == 3
    assert len(await entries(asking, f"?run={runs[0].id}")) == 2
    assert len(await entries(asking, f"?run={runs[0].id}&principal=ada&action=stop")) == 1
    assert await entries(asking, "?principal=nobody") == []

    paged, query = [], ""
    for _ in range(4):
        answer = await (await asking.ask(f"GET /audit?limit=2{query}", "admin")).get_json()
        paged += answer["audit"]
        if answer["next"] is None:
            break
        query = f"&after={answer['next']}"
    assert paged == await entries(asking)
    assert [each["id"] for each in paged] == sorted((e["id"] for e in paged), reverse=True)


async def test_a_filter_that_fits_nothing_looks_at_so_many_entries_only(
    served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.auth.audit.LOOK", 5)
    monkeypatch.setattr("api.auth.audit.MOST_LOOKED_AT", 10)
    trail = Trail(served)
    for n in range(25):
        ticket = trail.note(Deed("stop", f"p{n}", ""))
    await served.durable(ticket)
    pages, after = [], None
    for _ in range(3):
        page, after = await trail.page({"principal": "p0"}, after=after, limit=50)
        pages.append(len(page))
    assert (pages, after) == ([0, 0, 1], None)


async def test_an_action_that_is_none_is_told_which_there_are(served: Orchestrator) -> None:
    answer = await Asking(served, access()).ask("GET /audit?action=stpo", "admin")
    assert answer.status_code == 422
    (error,) = (await answer.get_json())["errors"]
    assert error["field"] == "action"
    assert error["message"].startswith(
        "'stpo' is not known (is 'stop' meant?); known are: answer, "
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *(("after=x", "after"), ("limit=0", "limit"), ("limit=501", "limit"), ("owner=x", "owner")),
        *(("action=", "action"), ("action=stop,start", "action")),
    ],
)
async def test_a_bad_query_is_named(served: Orchestrator, query: str, field: str) -> None:
    answer = await Asking(served, access()).ask(f"GET /audit?{query}", "admin")
    assert answer.status_code == 422
    assert [each["field"] for each in (await answer.get_json())["errors"]] == [field]


async def test_a_deed_and_its_entry_are_one_transaction(
    served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a batch would end right between them."""
    batches = batches_of(served, monkeypatch)
    asking = Asking(served, access())
    for filler in range(BATCH - 3, BATCH + 3):
        started = await asking.ask("POST /runs", "owner", body={"agent": "sleeper"})
        run = served.live((await started.get_json())["id"])
        assert run is not None
        await trio.testing.wait_all_tasks_blocked()
        stop = run.request_stop

        def stop_after_many(*, n: int = filler, stop: Any = stop, **asked: Any) -> int:
            for key in range(n):
                served.keep("filler", str(key), None)
            ticket: int = stop(**asked)
            return ticket

        run.request_stop = stop_after_many  # type: ignore[method-assign]
        batches.clear()
        await asking.ask(f"POST /runs/{run.id}/stop", "owner")
        stopping, noted = (
            next(n for n, batch in enumerate(batches) if any(map(kind, batch)))
            for kind in (
                lambda each: isinstance(each, SaveRun) and each.record.status == "stopping",
                lambda each: isinstance(each, SaveDocument) and each.collection == "audit",
            )
        )
        assert stopping == noted
        await run.wait()


@pytest.mark.slow
def test_what_was_acknowledged_is_in_the_audit_after_a_kill(tmp_path: Path) -> None:
    with running(tmp_path / "runs.db") as server:
        run_id = server.start("busy")
        answer = server.client.post(f"/runs/{run_id}/stop", json={"grace_s": 600, "reason": "why"})
        assert answer.status_code == 202
        server.process.kill()
        server.wait()
    with running(tmp_path / "runs.db") as server:
        found = server.client.get("/audit").json()["audit"]
        server.signal(signal.SIGTERM)
        server.wait()
    told = [(each["action"], each["run_id"], each["reason"], each["from"]) for each in found]
    assert told == [("stop", run_id, "why", "127.0.0.1"), ("start", run_id, "", "127.0.0.1")]


async def test_failures_to_be_known_are_counted(
    served: Orchestrator, autojump_clock: trio.testing.MockClock
) -> None:
    asking = Asking(served, access())
    for _ in range(5):
        await asking.ask("GET /runs", "nobody")
    await asking.ask("POST /session", body={"token": "wrong"})
    (entry,) = await entries(asking)
    assert {**entry, "id": "", "at": ""} == {
        "id": "",
        "at": "",
        "action": "token",
        "principal": "",
        "from": "",
        "run_id": None,
        "reason": "",
        "result": "bad-token",
        "count": 4,
    }
    await trio.sleep(WINDOW_S + 1)
    await asking.ask("GET /runs", "nobody")
    assert [each["count"] for each in await entries(asking)] == [1, 4]


@pytest.mark.slow
async def test_a_deluge_of_failures_does_not_fill_the_store(
    served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    monkeypatch.setattr(served, "keep", lambda *entry, along: written.append(entry))
    trail = Trail(served)
    for n in range(100_000):
        trail.count(Deed("token", "", f"192.0.2.{n % 1000}", result="bad-token"))
    keys = {key for _, key, _ in written}
    assert len(keys) == MOST_COUNTED + 1
    assert len(written) < 1_000
    assert max(entry["count"] for _, _, entry in written if entry["from"] == "others") == 65_536


async def test_each_run_of_a_bulk_stop_has_its_entry(served: Orchestrator) -> None:
    asking = Asking(served, access())
    hers = await served.start("sleeper", owner="olga")
    his = await served.start("sleeper", owner="otto")
    order = {"ids": [hers.id, his.id, "run_no"], "reason": "enough", "wait_s": 5}
    assert (await asking.ask("POST /runs/stop", "owner", body=order)).status_code == 202

    found = {each["run_id"]: each for each in await entries(asking)}

    assert {run_id: each["result"] for run_id, each in found.items()} == {
        hers.id: "ok",
        his.id: "forbidden",
        "run_no": "unknown-run",
    }
    assert {(each["action"], each["principal"], each["reason"]) for each in found.values()} == {
        ("stop", "olga", "enough")
    }


async def test_what_is_asked_over_a_websocket_has_its_entry(served: Orchestrator) -> None:
    with trio.fail_after(20):
        async with (
            open_server(served, host="127.0.0.1", port=0, access=access()) as url,
            talking(url, Authorization=f"Bearer {token_of('owner')}") as peer,
        ):
            hers = await served.start("sleeper", owner="olga")
            his = await served.start("sleeper", owner="otto")
            for run_id in (hers.id, his.id, "run_no"):
                await peer.ask(stop=run_id, reason="enough")
            await peer.ask(pause=hers.id, reason="late")

    found = await entries(Asking(served, access()))

    told = [(each["action"], each["run_id"], each["result"], each["reason"]) for each in found]
    assert told[::-1] == [
        ("stop", hers.id, "ok", "enough"),
        ("stop", his.id, "forbidden", "enough"),
        ("stop", "run_no", "unknown-run", "enough"),
        ("pause", hers.id, "run-ended", "late"),
    ]
    assert {(each["principal"], each["from"]) for each in found} == {("olga", "127.0.0.1")}

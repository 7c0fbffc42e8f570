"""The outbox: nothing is lost, whatever fails, and what cannot be delivered is kept."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from api.metrics import Metrics
from api.service import open_server
from api.webhooks import Networks, Outbox, Rules
from api.webhooks.message import COLLECTION, read_delivery
from orchestrator import (
    Context,
    InvalidInput,
    Orchestrator,
    RunStatus,
    StoreDamaged,
    agent,
    open_orchestrator,
)
from orchestrator.store import DropDocument, MemoryStore
from tests.api.processes import invoke, quiesce
from tests.api.webhooks.receiver import SECRET, Receiver, receiving
from tests.api.webhooks.test_addresses import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from orchestrator.store import Write


@agent
async def quick(ctx: Context, size: int = 3) -> str:
    return "x" * size


@agent
async def sleeper(ctx: Context) -> None:
    await ctx.sleep(1000)


@agent
async def failing(ctx: Context) -> None:
    raise ValueError("as asked")


@agent
async def parent(ctx: Context) -> None:
    await ctx.map(quick, [{}, {}])


AGENTS = [quick, sleeper, failing, parent]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other in moments."""
    monkeypatch.setattr("api.webhooks.outbox.FIRST_S", 0.02)
    monkeypatch.setattr("api.webhooks.outbox.GROWTH", 1.0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as opened:
        yield opened


def outbox_for(receiver: Receiver | None = None, **rule: Any) -> Outbox:
    rules = [] if receiver is None else [{"url": receiver.url, **rule}]
    return Outbox(Rules.model_validate({"secret": SECRET, "rule": rules}), LOOPBACK)


@asynccontextmanager
async def sending(outbox: Outbox, url: str = "memory://") -> AsyncIterator[Orchestrator]:
    """An orchestrator whose ends are told."""
    with trio.fail_after(30):
        async with (
            open_orchestrator(url, agents=AGENTS, observers=[outbox]) as orchestrator,
            outbox.sending(orchestrator),
        ):
            yield orchestrator


async def kept(orchestrator: Orchestrator) -> list[dict[str, Any]]:
    return [stored for _, stored in await orchestrator.kept(COLLECTION, limit=500)]


async def until_kept(orchestrator: Orchestrator, **wanted: Any) -> dict[str, Any]:
    """Wait until one delivery is kept and looks like that."""
    while True:
        for each in await kept(orchestrator):
            if all(each[name] == value for name, value in wanted.items()):
                return each
        await trio.sleep(0.01)


async def until_empty(orchestrator: Orchestrator) -> None:
    while await kept(orchestrator):
        await trio.sleep(0.01)


# What is told


async def test_the_end_of_a_run_is_told_once_signed_and_then_forgotten(receiver: Receiver) -> None:
    async with sending(outbox_for(receiver)) as orchestrator:
        run = await orchestrator.start(quick, owner="ada", tags=["t"])
        await run.wait()
        await receiver.until(1)
        await until_empty(orchestrator)
    receiver.verify()
    (told,) = receiver.told
    assert told["type"] == "run.succeeded"
    assert told["timestamp"] == told["data"]["ended_at"] == run.record.ended_at
    about = {name: told["data"][name] for name in ("id", "agent", "status", "owner", "tags")}
    assert about == {
        "id": run.id,
        "agent": "quick",
        "status": "succeeded",
        "owner": "ada",
        "tags": ["t"],
    }
    assert (told["data"]["result"], told["data"]["result_left_out"]) == ("xxx", False)
    assert "input" not in told["data"]


async def test_a_stop_is_told_with_its_receipt_and_a_tree_by_its_root_alone(
    receiver: Receiver,
) -> None:
    async with sending(outbox_for(receiver)) as orchestrator:
        run = await orchestrator.start(sleeper)
        await run.stop(reason="enough")
        await (await orchestrator.start(parent)).wait()
        await receiver.until(2)
        await until_empty(orchestrator)
    told = {each["data"]["agent"]: each for each in receiver.told}
    assert set(told) == {"sleeper", "parent"}
    stop = told["sleeper"]["data"]["stop"]
    assert (stop["outcome"], stop["reason"], stop["source"]) == ("stopped", "enough", "user")


async def test_an_error_is_told_without_its_traceback(receiver: Receiver) -> None:
    async with sending(outbox_for(receiver)) as orchestrator:
        await (await orchestrator.start(failing)).wait()
        await receiver.until(1)
    assert receiver.told[0]["data"]["error"] == {"type": "ValueError", "message": "as asked"}
    assert b"Traceback" not in receiver.got[0][1]


async def test_a_large_result_is_left_out(receiver: Receiver) -> None:
    async with sending(outbox_for(receiver)) as orchestrator:
        await (await orchestrator.start(quick, {"size": 70_000})).wait()
        await receiver.until(1)
    data = receiver.told[0]["data"]
    assert (data["result"], data["result_left_out"]) == (None, True)


async def test_the_starter_may_name_a_url(receiver: Receiver) -> None:
    async with sending(outbox_for()) as orchestrator:
        await (await orchestrator.start(quick, webhook=f"{receiver.url}/mine?a=b")).wait()
        await receiver.until(1)
    assert receiver.got[0][0]["path"] == "/mine?a=b"
    receiver.verify()


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a", "/a", "mailto:a@b.c", "http://", "http://[", "https://u@a/", "http://a/\n", 5],
)
async def test_a_starter_may_not_name_what_is_no_url(url: Any) -> None:
    async with sending(outbox_for()) as orchestrator:
        with pytest.raises(InvalidInput, match=r"options\.webhook"):
            await orchestrator.start(quick, webhook=url)


# What fails


async def test_it_is_tried_again_with_the_same_id_until_it_has_arrived(receiver: Receiver) -> None:
    receiver.answers = [500, 302, 429]
    async with sending(outbox_for(receiver)) as orchestrator:
        await (await orchestrator.start(quick)).wait()
        await receiver.until(4)
        await until_empty(orchestrator)
    assert len(set(receiver.ids)) == 1
    assert len({body for _, body in receiver.got}) == 1
    receiver.verify()


async def test_a_receiver_that_wants_to_be_left_alone_is(receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [503], {"Retry-After": "1800"}
    async with sending(outbox_for(receiver)) as orchestrator:
        await (await orchestrator.start(quick)).wait()
        waiting = await until_kept(orchestrator, state="waiting", attempts=1)
        failed_at = datetime.fromisoformat(orchestrator.now())
        until = datetime.fromisoformat(waiting["next_at"]) - failed_at
    assert 1700 < until.total_seconds() < 1900
    assert len(receiver.got) == 1


async def test_one_that_waits_for_long_is_tried_now_if_somebody_says_so(
    receiver: Receiver,
) -> None:
    receiver.answers, receiver.headers = [503], {"Retry-After": "1800"}
    outbox = outbox_for(receiver)
    async with sending(outbox) as orchestrator:
        await (await orchestrator.start(quick)).wait()
        waiting = await until_kept(orchestrator, state="waiting", attempts=1)
        await outbox.retry(read_delivery(waiting))
        await receiver.until(2)
        await until_empty(orchestrator)
    assert receiver.ids == [waiting["id"]] * 2


async def test_one_that_hangs_holds_up_no_run_and_no_other(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.webhooks.outbox.CLOSE_S", 0.1)
    with receiving() as other:
        receiver.answers = [None] * 100
        url = receiver.url.replace("127.0.0.1", "localhost")
        async with sending(outbox_for()) as orchestrator:
            for _ in range(10):
                await (await orchestrator.start(quick, webhook=url)).wait()
            await (await orchestrator.start(quick, webhook=other.url)).wait()
            await other.until(1)
            await until_kept(orchestrator, attempts=0)


async def test_one_that_is_gone_is_given_up_kept_and_may_be_tried_again(
    receiver: Receiver,
) -> None:
    receiver.answers = [410]
    outbox = outbox_for(receiver)
    async with sending(outbox) as orchestrator:
        run = await orchestrator.start(quick)
        await run.wait()
        dead = await until_kept(orchestrator, state="dead")
        assert (dead["run_id"], dead["attempts"], dead["error"]) == (run.id, 1, "answered 410")
        assert dead["next_at"] is None
        async with (
            open_server(orchestrator, outbox=outbox) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            listed = (await client.get("/webhooks/deliveries")).json()
            assert listed["next"] is None
            (shown,) = listed["deliveries"]
            assert shown == {name: value for name, value in dead.items() if name != "body"}
            for state, found in (("dead", 1), ("waiting", 0)):
                page = await client.get("/webhooks/deliveries", params={"state": state})
                assert len(page.json()["deliveries"]) == found
            answer = await client.post(f"/webhooks/deliveries/{dead['id']}/retry")
            assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
            (noted,) = (await client.get("/audit")).json()["audit"]
            assert (noted["action"], noted["reason"]) == ("retry delivery", dead["id"])
            await until_empty(orchestrator)
            answer = await client.post(f"/webhooks/deliveries/{dead['id']}/retry")
            assert (answer.status_code, answer.json()["type"]) == (
                404,
                "urn:quiesce:unknown-delivery",
            )
    assert receiver.ids == [dead["id"]] * 2


async def test_one_that_was_given_up_is_left_alone_by_later_processes_too(
    receiver: Receiver, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    receiver.answers = [410]
    async with sending(outbox_for(receiver), url) as orchestrator:
        await (await orchestrator.start(quick)).wait()
        dead = await until_kept(orchestrator, state="dead")
    async with sending(outbox_for(receiver), url) as orchestrator:
        await (await orchestrator.start(quick)).wait()
        await receiver.until(2)
        # What was planned at first would have been tried before the run had ended.
        assert receiver.ids.count(dead["id"]) == 1
        assert (await kept(orchestrator))[0] == dead


async def test_the_list_has_pages(receiver: Receiver) -> None:
    receiver.answers = [410] * 5
    async with sending(outbox_for(receiver)) as orchestrator:
        for _ in range(5):
            await (await orchestrator.start(quick)).wait()
        while len([each for each in await kept(orchestrator) if each["state"] == "dead"]) < 5:
            await trio.sleep(0.01)
        async with (
            open_server(orchestrator) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            found: list[str] = []
            after: str | None = None
            while True:
                query = {"limit": "2", **({} if after is None else {"after": after})}
                page = (await client.get("/webhooks/deliveries", params=query)).json()
                found += [each["id"] for each in page["deliveries"]]
                after = page["next"]
                if after is None:
                    break
            retried = await client.post(f"/webhooks/deliveries/{found[0]}/retry")
    assert found == sorted(found, reverse=True)
    assert len(found) == 5
    assert (retried.status_code, retried.json()["type"]) == (409, "urn:quiesce:no-outbox")


async def test_an_outbox_that_is_damaged_ends_nothing_and_sends_what_is_new(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def damaged(self: Orchestrator, *_: Any, **__: Any) -> Any:
        raise StoreDamaged("a page of it cannot be read")

    with monkeypatch.context() as broken:
        broken.setattr(Orchestrator, "kept", damaged)
        async with sending(outbox_for(receiver)) as orchestrator:
            await (await orchestrator.start(quick)).wait()
            await receiver.until(1)
    assert "the outbox cannot be read: a page of it cannot be read" in caplog.text


async def test_an_address_that_is_refused_is_given_up_at_once(receiver: Receiver) -> None:
    outbox = Outbox(None, Networks())
    async with sending(outbox) as orchestrator:
        await (await orchestrator.start(quick, webhook=receiver.url)).wait()
        dead = await until_kept(orchestrator, state="dead")
    assert "127.0.0.1, which is loopback" in dead["error"]
    assert "--webhooks-allow" in dead["error"]
    assert receiver.got == []


async def test_after_a_day_it_is_given_up(receiver: Receiver) -> None:
    receiver.answers = [500] * 1000
    passed = 0.0

    def clock() -> float:
        import time

        return time.time() + passed

    outbox = Outbox(Rules.model_validate({"secret": SECRET}), LOOPBACK, clock=clock)
    async with sending(outbox) as orchestrator:
        await (await orchestrator.start(quick, webhook=receiver.url)).wait()
        await receiver.until(3)
        passed = 86_400.0
        dead = await until_kept(orchestrator, state="dead")
    assert dead["attempts"] >= 3


# What crashes


async def test_what_has_not_arrived_goes_on_in_the_next_process(
    receiver: Receiver, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    receiver.answers = [500] * 1000
    async with sending(outbox_for(receiver), url) as orchestrator:
        await (await orchestrator.start(quick)).wait()
        await receiver.until(2)
    before = len(receiver.got)
    async with open_orchestrator(url, agents=AGENTS) as orchestrator:
        (left,) = await kept(orchestrator)
        # The failures are known to whoever goes on: waits grow from there.
        assert (left["state"], left["error"]) == ("waiting", "answered 500")
        assert 0 < left["attempts"] <= before
        assert left["next_at"] > left["created_at"]
    receiver.answers = []
    async with sending(outbox_for(receiver), url) as orchestrator:
        await receiver.until(before + 1)
        await until_empty(orchestrator)
    assert len(set(receiver.ids)) == 1


async def test_what_a_crash_left_over_is_told_too(receiver: Receiver, tmp_path: Path) -> None:
    from orchestrator.store import SaveRun, open_store
    from tests.crash.test_recovery import _queued, _record

    url = f"sqlite:///{tmp_path}/x.db"
    left = _record("run_root", status=RunStatus.RUNNING, started_at="2026-01-01T00:00:00Z")
    async with open_store(url) as store:
        await store.write([SaveRun(left), _queued("run_root", 1, None)])
    async with sending(outbox_for(receiver), url):
        await receiver.until(1)
    assert [each["type"] for each in receiver.told] == ["run.lost"]


async def test_what_was_delivered_is_not_sent_again_before_that_is_durable(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interleaving: delivered, and the outbox is looked through while it is still in the store."""
    write, dropping, go_on = MemoryStore.write, trio.Event(), trio.Event()

    async def held(store: MemoryStore, batch: Sequence[Write], *told: Any) -> None:
        if any(isinstance(each, DropDocument) for each in batch):
            dropping.set()
            await go_on.wait()
        await write(store, batch, *told)

    monkeypatch.setattr(MemoryStore, "write", held)
    outbox = outbox_for(receiver)
    async with sending(outbox) as orchestrator:
        await orchestrator.start(quick)
        await dropping.wait()
        assert len(await kept(orchestrator)) == 1
        await outbox._look_through()
        await outbox.settle()
        go_on.set()
        await until_empty(orchestrator)
    assert len(receiver.got) == 1


@pytest.mark.slow
def test_a_server_that_is_killed_tells_after_its_restart(tmp_path: Path) -> None:
    """Interleaving: the run ends, nobody receives, and the process is killed with SIGKILL."""
    with receiving() as receiver:
        port = receiver.url.rpartition(":")[2]
    (tmp_path / "webhooks.toml").write_text(
        f'secret = "{SECRET}"\n[[rule]]\nurl = "http://127.0.0.1:{port}/"\n'
    )
    words = ["serve", "--port", "0", "--store", "sqlite:///x.db", "--webhooks", "webhooks.toml"]
    words += ["--webhooks-allow", "127.0.0.0/8"]
    order = {"agent": "command", "input": {"argv": ["true"]}}
    with quiesce(*words, cwd=tmp_path) as server:
        url = server.until("listening on").split()[-1]
        with httpx.Client(base_url=url, timeout=30) as client:
            run = client.post("/runs?wait_s=30", json=order).json()
            assert run["status"] == "succeeded"
        server.signal(signal.SIGKILL)
        server.end()
    with receiving(int(port)) as receiver, quiesce(*words, cwd=tmp_path) as server:
        server.until("listening on")
        trio.run(_within, receiver)
        server.signal()
        assert server.end() == 0
    receiver.verify()
    assert [each["data"]["id"] for each in receiver.told] == [run["id"]]


async def _within(receiver: Receiver) -> None:
    with trio.fail_after(40):
        await receiver.until(1)


@pytest.mark.slow
def test_the_command_lists_and_retries(tmp_path: Path) -> None:
    words = ["serve", "--port", "0", "--store", "memory://"]
    order = {
        "agent": "command",
        "input": {"argv": ["true"]},
        "options": {"webhook": "http://127.0.0.1:9/"},
    }
    with quiesce(*words, cwd=tmp_path) as server:
        url = server.until("listening on").split()[-1]
        assert invoke("webhooks", "ls", "--server", url) == (0, "everything has arrived\n")
        with httpx.Client(base_url=url, timeout=30) as client:
            client.post("/runs?wait_s=30", json=order)
        server.until("delivery is dead")
        code, said = invoke("webhooks", "ls", "--state", "dead", "--server", url)
        assert code == 0
        assert "loopback" in " ".join(said.split())
        (delivery_id,) = [word for word in said.split() if word.startswith("msg_")]
        assert invoke("webhooks", "retry", delivery_id, "--server", url) == (
            0,
            f"{delivery_id} is tried again\n",
        )
        code, said = invoke("webhooks", "retry", "msg_none", "--server", url)
        assert code == 2
        assert "no delivery 'msg_none'" in said


# What is measured


async def test_attempts_are_measured(receiver: Receiver) -> None:
    receiver.answers = [500, 200, 410]
    metrics, outbox = Metrics(), outbox_for(receiver)
    outbox.register(metrics.registry)

    def attempts(outcome: str) -> float | None:
        name = "quiesce_webhook_attempts_total"
        return metrics.registry.get_sample_value(name, {"outcome": outcome})

    async with sending(outbox) as orchestrator:
        for number in (2, 3):
            await (await orchestrator.start(quick)).wait()
            await receiver.until(number)
        await until_kept(orchestrator, state="dead")
        assert [attempts(each) for each in ("delivered", "failed", "dead")] == [1, 1, 1]
        assert metrics.registry.get_sample_value("quiesce_webhooks_waiting") == 0

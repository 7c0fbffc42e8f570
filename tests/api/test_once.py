"""Starts under an idempotency key: one run each, whatever becomes of the caller or the server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from api import once
from api.once import COLLECTION, Key, Starts
from api.service import open_server
from orchestrator import Orchestrator, StoreUnavailable, open_orchestrator
from orchestrator.journal import BATCH
from orchestrator.store.writes import AppendEvent, SaveDocument, SaveRun
from tests.api.agents import ALL
from tests.api.auth.people import access, token_of
from tests.api.wire import settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from orchestrator import Run
    from orchestrator.store.writes import Write

ORDER = {"agent": "sleeper", "input": {"seconds": 1000}, "options": {"tags": ["mine"]}}


class Door:
    """The store's door, which a test can shut: nothing is written meanwhile."""

    def __init__(self, orchestrator: Orchestrator, patch: pytest.MonkeyPatch) -> None:
        self._open = trio.Event()
        self._open.set()
        self.refuses = False
        write = orchestrator.store.write

        async def wait_and_write(batch: Sequence[Write], *told: Any) -> None:
            await self._open.wait()
            if self.refuses:
                raise StoreUnavailable
            await write(batch, *told)

        patch.setattr(orchestrator.store, "write", wait_and_write)

    def shut(self) -> None:
        self._open = trio.Event()

    def open(self) -> None:
        self._open.set()

    def let_one_through(self) -> None:
        """Let go what waits at the door, and nothing that comes later."""
        self.open()
        self.shut()


@pytest.fixture
async def door(served: Orchestrator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Door]:
    """The door of the store; it is open when the test is over, or nothing could end."""
    door = Door(served, monkeypatch)
    yield door
    door.refuses = False
    door.open()


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that were claimed so far, also in vain."""
    seen: list[str] = []
    claim = Starts._claim

    def note(starts: Starts, key: Key) -> Any:
        seen.append(key.name)
        return claim(starts, key)

    monkeypatch.setattr(Starts, "_claim", note)
    return seen


async def until(count: int, seen: list[str]) -> None:
    """Wait until so many keys were claimed."""
    while len(seen) < count:
        await trio.sleep(0.001)


async def start(
    client: httpx.AsyncClient, key: str, order: Any = ORDER, path: str = "/runs"
) -> httpx.Response:
    return await client.post(path, json=order, headers={"Idempotency-Key": key})


def started(answer: httpx.Response, *, replayed: bool) -> str:
    """Return the id of the run that an answer shows."""
    assert answer.status_code == 201, answer.text
    run_id: str = answer.json()["id"]
    assert answer.headers["Location"] == f"/runs/{run_id}"
    assert answer.headers.get("Idempotent-Replayed") == ("true" if replayed else None)
    return run_id


def refused(answer: httpx.Response, status: int, kind: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json()["type"] == f"urn:quiesce:{kind}"


async def test_the_same_key_and_request_is_the_same_run(
    client: httpx.AsyncClient, served: Orchestrator
) -> None:
    first = started(await start(client, "k1"), replayed=False)
    # Whitespace and the order of names are not what is asked for.
    again = await client.post(
        "/runs",
        content=json.dumps(dict(reversed(ORDER.items())), indent=3),
        headers={"Idempotency-Key": "k1"},
    )
    assert started(again, replayed=True) == first
    await served.stop(first)
    ended = await start(client, "k1")
    assert started(ended, replayed=True) == first
    assert ended.json()["status"] == "stopped"
    assert started(await start(client, "k2"), replayed=False) != first
    assert started(await client.post("/runs", json=ORDER), replayed=False) != first
    assert len((await served.runs()).runs) == 3


@pytest.mark.parametrize(
    "other",
    [
        ORDER | {"agent": "busy"},
        ORDER | {"input": {"seconds": 999}},
        ORDER | {"options": {}},
        {"agent": "sleeper", "input": {"seconds": 1000}},
    ],
)
async def test_the_same_key_for_another_request_starts_nothing(
    client: httpx.AsyncClient, served: Orchestrator, other: dict[str, Any]
) -> None:
    first = started(await start(client, "k"), replayed=False)
    refused(await start(client, "k", other), 422, "key-reused")
    assert [run.id for run in (await served.runs()).runs] == [first]
    assert started(await start(client, "k"), replayed=True) == first


async def test_a_replay_waits_for_the_end_as_a_start_does(client: httpx.AsyncClient) -> None:
    order = {"agent": "echo", "input": {"text": "x"}}
    first = started(await start(client, "k", order), replayed=False)
    with trio.fail_after(10):
        again = await start(client, "k", order, "/runs?wait_s=10")
    assert started(again, replayed=True) == first
    assert (again.json()["status"], again.json()["result"]) == ("succeeded", "x")


async def test_a_start_that_is_under_way_is_not_doubled(
    client: httpx.AsyncClient, served: Orchestrator, door: Door, claims: list[str]
) -> None:
    answers: dict[str, httpx.Response] = {}

    async def ask(name: str, order: dict[str, Any]) -> None:
        answers[name] = await start(client, "k", order)

    door.shut()
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            others = {"first": ORDER, "again": ORDER, "other": ORDER | {"agent": "busy"}}
            for count, (name, order) in enumerate(others.items(), 1):
                nursery.start_soon(ask, name, order)
                await until(count, claims)
            assert len(served.registry) == 1
            # Refusals are told once the audit has them, and so is the start.
            door.open()
    first = started(answers["first"], replayed=False)
    refused(answers["again"], 409, "key-in-use")
    assert answers["again"].headers["Retry-After"] == "1"
    refused(answers["other"], 422, "key-reused")
    assert started(await start(client, "k"), replayed=True) == first
    assert len(served.registry) == 1


@pytest.mark.slow
async def test_a_hundred_at_once_are_one_run(
    client: httpx.AsyncClient, served: Orchestrator
) -> None:
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await start(client, "k"))

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(ask)
    assert {answer.status_code for answer in answers} <= {201, 409}
    new = [
        each
        for each in answers
        if each.status_code == 201 and "idempotent-replayed" not in each.headers
    ]
    assert len(new) == 1
    assert len(served.registry) == 1


async def ask_and_hang_up(url: str, served: Orchestrator) -> Run:
    """Return the run of a caller that was gone before it was answered."""
    body = json.dumps(ORDER).encode()
    head = (
        "POST /runs HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: k\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    port = int(url.rpartition(":")[2])
    async with await trio.open_tcp_stream("127.0.0.1", port) as tcp:
        await tcp.send_all(head + body)
        while not served.registry:
            await trio.sleep(0.001)
    await settled()
    (run,) = served.registry
    return run


async def test_a_caller_that_hangs_up_finds_its_run(
    url: str, client: httpx.AsyncClient, served: Orchestrator, door: Door, claims: list[str]
) -> None:
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await start(client, "k"))

    door.shut()
    with trio.fail_after(20):
        run = await ask_and_hang_up(url, served)
        async with trio.open_nursery() as nursery:
            # Its caller is gone and its start not durable yet; so long the key is taken.
            nursery.start_soon(ask)
            await until(2, claims)
            door.open()
        refused(answers[0], 409, "key-in-use")
        found = await start(client, "k")
    assert started(found, replayed=True) == run.id
    assert len(served.registry) == 1


async def test_a_key_whose_start_was_not_stored_is_free(
    client: httpx.AsyncClient, served: Orchestrator, door: Door
) -> None:
    door.refuses = True
    with trio.fail_after(20):
        for _ in range(2):
            refused(await start(client, "k"), 503, "store-unavailable")
        door.refuses = False
        while served.store_error is not None:
            await trio.sleep(0.01)
        new = started(await start(client, "k"), replayed=False)
        again = started(await start(client, "k"), replayed=True)
    assert new == again
    while len(served.registry) > 1:
        await trio.sleep(0.01)
    assert [run.id for run in served.registry] == [new]


async def test_a_key_whose_start_was_not_stored_is_free_also_if_its_caller_is_gone(
    url: str, client: httpx.AsyncClient, served: Orchestrator, door: Door
) -> None:
    """Asked again once the start is stored after all, and the stop that withdraws it is not."""
    answers: list[httpx.Response] = []

    async def ask() -> None:
        answers.append(await start(client, "k"))

    door.shut()
    with trio.fail_after(20):
        run = await ask_and_hang_up(url, served)
        door.refuses = True
        door.open()
        while run.ladder.stop is None:
            await trio.sleep(0.001)
        refused(await start(client, "k"), 503, "store-unavailable")
        door.shut()
        door.refuses = False
        while run.shown is None:
            door.let_one_through()
            await trio.sleep(0.001)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await settled()
            door.open()
    assert started(answers[0], replayed=False) != run.id
    assert started(await start(client, "k"), replayed=True) == answers[0].json()["id"]
    assert (await run.wait()).status == "stopped"


async def test_a_key_whose_run_has_waited_is_not_free_if_that_cannot_begin(
    served: Orchestrator, door: Door
) -> None:
    """Its start was stored, and so perhaps told: only a withdrawn start frees the key."""
    starts, key = Starts(served), Key("k", "r")
    begin = partial(served.begin, "sleeper", {"seconds": 1000}, options={"start_after_s": 0.05})
    with trio.fail_after(20):
        run_id, _ = await starts.once(key, begin)
        door.refuses = True
        (run,) = served.registry
        while run.ladder.stop is None:
            await trio.sleep(0.001)
        door.refuses = False
        await run.wait()
        assert await starts.once(key, begin) == (run_id, True)


@pytest.mark.parametrize("order", [{"agent": "nobody"}, {"agent": "echo", "input": {}}])
async def test_a_key_whose_start_was_refused_is_free(
    client: httpx.AsyncClient, order: dict[str, Any]
) -> None:
    refused(await start(client, "k", order), 422, "invalid-input")
    started(await start(client, "k"), replayed=False)


@pytest.mark.parametrize("keys", [[""], ["x" * 256], ["a b"], ["é".encode()], ["a", "a"]], ids=str)
async def test_what_is_no_key_is_refused(
    client: httpx.AsyncClient, served: Orchestrator, keys: list[str]
) -> None:
    headers = [("Idempotency-Key", key) for key in keys]
    answer = await client.post("/runs", json=ORDER, headers=headers)
    refused(answer, 422, "invalid-input")
    assert [error["field"] for error in answer.json()["errors"]] == ["Idempotency-Key"]
    assert len(served.registry) == 0


async def test_the_longest_key_is_a_key(client: httpx.AsyncClient) -> None:
    key = "".join(map(chr, range(0x21, 0x7F))) + "x" * 161
    first = started(await start(client, key), replayed=False)
    assert started(await start(client, key), replayed=True) == first


async def test_a_key_is_its_callers_own() -> None:
    with trio.fail_after(20):
        async with (
            open_orchestrator(agents=ALL) as served,
            open_server(served, host="127.0.0.1", port=0, access=access()) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            found = []
            for name, replayed in (("owner", False), ("other", False), ("owner", True)):
                client.headers["Authorization"] = f"Bearer {token_of(name)}"
                found.append(started(await start(client, "k"), replayed=replayed))
            assert found[0] == found[2] != found[1]


async def test_reruns_have_keys_too(client: httpx.AsyncClient, served: Orchestrator) -> None:
    old = [await served.start("echo", {"text": "x"}) for _ in range(2)]
    for run in old:
        await run.wait()
    path = f"/runs/{old[0].id}/rerun"
    first = started(await start(client, "k", {}, path), replayed=False)
    assert started(await start(client, "k", {}, path), replayed=True) == first
    refused(await start(client, "k", {"from_step": "last"}, path), 422, "key-reused")
    refused(await start(client, "k", {}, f"/runs/{old[1].id}/rerun"), 422, "key-reused")


class Clock:
    """A wall clock that a test can set."""

    def __init__(self) -> None:
        self.hours = 0.0

    def __call__(self, seconds: float) -> str:
        at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.hours, seconds=seconds)
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
async def clock(tmp_path: Path) -> AsyncIterator[tuple[Clock, Orchestrator, httpx.AsyncClient]]:
    clock = Clock()
    async with (
        open_orchestrator(f"sqlite:///{tmp_path / 'runs.db'}", agents=ALL, now=clock) as served,
        open_server(served) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        yield clock, served, client


@pytest.mark.parametrize("rerun", [False, True])
async def test_a_key_whose_run_was_removed_says_so_and_starts_nothing(
    client: httpx.AsyncClient, served: Orchestrator, rerun: bool
) -> None:
    old = await served.start("echo", {"text": "x"})
    await old.wait()
    order, path = ({}, f"/runs/{old.id}/rerun") if rerun else (ORDER, "/runs")
    again = partial(start, client, "k", order, path)
    run_id = started(await again(), replayed=False)
    if not rerun:
        await served.stop(run_id, mode="now")
    elif live := served.live(run_id):
        await live.wait()
    assert (await client.delete(f"/runs/{run_id}")).status_code == 204
    answer = await again()
    refused(answer, 422, "key-reused")
    said = answer.json()["detail"]
    assert said.startswith("the run that this `Idempotency-Key`")
    assert said.endswith("is not kept any more; choose a new key")
    assert len((await client.get("/runs")).json()["runs"]) == 1


async def test_a_key_is_kept_for_a_day(
    clock: tuple[Clock, Orchestrator, httpx.AsyncClient],
) -> None:
    now, _, client = clock
    first = started(await start(client, "k"), replayed=False)
    now.hours = 23.99
    assert started(await start(client, "k"), replayed=True) == first
    now.hours = 24
    second = started(await start(client, "k", ORDER | {"input": {}}), replayed=False)
    assert second != first
    assert started(await start(client, "k", ORDER | {"input": {}}), replayed=True) == second


async def test_old_keys_are_removed_in_turn_and_new_ones_stay(
    clock: tuple[Clock, Orchestrator, httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, served, client = clock
    monkeypatch.setattr(once, "LOOK", 3)
    order = {"agent": "echo", "input": {"text": "x"}}
    for n in range(10):
        await start(client, f"old{n}", order)
    now.hours = 25

    async def left() -> set[str]:
        await served.durable(served.keep("another", "key", None))
        kept = await served.kept(COLLECTION, limit=100)
        return {json.loads(name)[1] for name, _ in kept}

    for n in range(10):
        await start(client, f"new{n}", order)
    assert await left() == {f"new{n}" for n in range(10)}


async def test_a_key_outlives_its_server(tmp_path: Path) -> None:
    found = []
    for replayed in (False, True):
        async with (
            open_orchestrator(f"sqlite:///{tmp_path / 'runs.db'}", agents=ALL) as served,
            open_server(served) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            found.append(started(await start(client, "k"), replayed=replayed))
    assert found[0] == found[1]


async def test_key_and_run_are_one_transaction(
    client: httpx.AsyncClient, served: Orchestrator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a batch ends: what belongs to a start goes with it."""
    batches: list[Sequence[Write]] = []
    write: Callable[..., Any] = served.store.write
    admit: Callable[..., Run] = served.admit

    async def note(batch: Sequence[Write], *told: Any) -> None:
        batches.append(batch)
        await write(batch, *told)

    monkeypatch.setattr(served.store, "write", note)
    for filler in range(BATCH - 3, BATCH + 3):

        def admit_after_many(*given: Any, n: int = filler, **more: Any) -> Run:
            for key in range(n):
                served.keep("filler", str(key), None)
            return admit(*given, **more)

        monkeypatch.setattr(served, "admit", admit_after_many)
        batches.clear()
        await start(client, f"k{filler}")
        first = next(batch for batch in batches if any(isinstance(e, SaveRun) for e in batch))
        kept = [each.collection for each in first if isinstance(each, SaveDocument)]
        others = [type(each) for each in first if not isinstance(each, SaveDocument)]
        assert others[:2] == [SaveRun, AppendEvent]
        assert sorted(each for each in kept if each != "filler") == ["audit", COLLECTION]

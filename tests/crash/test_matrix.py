"""Whatever code does, a stop ends it: each beast, by each kind of stop, over HTTP.

All beasts run at once beside a bystander, on one real server. ``/proc`` is asked what is left.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from tests.api.processes import quiesce
from tests.crash import beasts
from tests.orchestrator.worker.zoo import holders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

GRACE_S, CLEANUP_S = 1.0, 2.0
# What the end of a run may take beyond its own times.
MORE_S = 2.0
# The most processor time that one step of the loop may take, since everything waits for it.
STEP_MS = 50.0
BOUND_S = 200.0

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow

STOPS: dict[str, dict[str, Any]] = {
    "graceful": {"mode": "graceful", "grace_s": GRACE_S},
    "now": {"mode": "now"},
    "kill": {"mode": "kill"},
}


@contextmanager
def served(folder: Path) -> Iterator[tuple[Any, str]]:
    """A server with the beasts, and its address."""
    arguments = ["--agents", "tests.crash.beasts", "--port", "0"]
    store = f"sqlite:///{folder / 'runs.db'}"
    with quiesce("serve", *arguments, "--store", store, cwd=ROOT, lifetime_s=BOUND_S) as server:
        yield server, server.until("listening on").split()[-1]


async def start(client: httpx.AsyncClient, agent: str, folder: Path) -> str:
    """Start a run and wait until all of it is there; return its id."""
    os.makedirs(folder)
    options = {} if agent == "bystander" else {"cleanup_s": CLEANUP_S}
    order = {"agent": agent, "input": {"folder": str(folder)}, "options": options}
    answer = await client.post("/runs", json=order)
    assert answer.status_code == 201, answer.text
    while not (folder / "ready").exists():
        await trio.sleep(0.02)
    run_id: str = answer.json()["id"]
    return run_id


async def start_all(client: httpx.AsyncClient, folder: Path) -> dict[str, str]:
    """Start one of each beast; return their ids."""
    ids: dict[str, str] = {}

    async def start_one(agent: str) -> None:
        ids[agent] = await start(client, agent, folder / agent)

    async with trio.open_nursery() as nursery:
        for agent in beasts.BEASTS:
            nursery.start_soon(start_one, agent)
    return ids


@contextmanager
def asked(url: str, pid: int, answers: list[tuple[float, float]]) -> Iterator[None]:
    """Ask the server how it is for the time of the body; all answers must be 200.

    Of each, ``answers`` get how long it took, and for how long the server's loop worked meanwhile,
    in ms.
    """
    command = [sys.executable, "-m", "tests.crash.asking", url, str(pid)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
            assert process.poll() is None
        finally:
            process.kill()
            said = iter(map(float, process.communicate()[0].split()))
            answers += zip(said, said, strict=False)


async def stop(
    client: httpx.AsyncClient, agent: str, run_id: str, how: str, pids: list[int]
) -> float:
    """Stop a beast that these processes are, and check what becomes of it; return how long."""
    asked = {**STOPS[how], "reason": how, "wait_s": 60}
    answer = await client.post(f"/runs/{run_id}/stop", json=asked)
    assert answer.status_code == 200, answer.text
    run, receipt = answer.json()["run"], answer.json()["receipt"]
    case = f"{agent}, {how}: {receipt}"
    processes, killed_at_least = beasts.BEASTS[agent]
    killed = receipt["processes_killed"]
    assert (run["status"], receipt["outcome"]) == ("stopped", "stopped"), case
    assert receipt["still_running"] == [], case
    assert (receipt["mode"], receipt["reason"]) == (how, how), case
    assert killed_at_least <= killed <= processes, case
    assert len(receipt["killed_pids"]) == killed, case
    assert set(receipt["killed_pids"]) <= set(pids), case
    assert receipt["reached"] == ("kill" if killed else "graceful"), case
    seconds: float = receipt["seconds"]
    assert seconds <= GRACE_S + CLEANUP_S + MORE_S, case
    return seconds


async def test_every_beast_is_ended_by_every_stop(
    tmp_path: Path,
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers: list[tuple[float, float]] = []
    took: dict[tuple[str, str], float] = {}
    with trio.fail_after(BOUND_S), served(tmp_path) as (server, url):
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            aside = await start(client, "bystander", tmp_path / "aside")
            with asked(url, server.popen.pid, answers):
                for how in STOPS:
                    await stop_all(client, tmp_path / how, how, took)
            longest_ms = await finish(client, aside, tmp_path / "aside")
    assert longest_ms < STEP_MS
    # How fast a loaded machine answers is no fact to assert.
    slowest = max(took, key=lambda case: took[case])
    words = (
        f"/healthz among the beasts: {_spread(each for each, _ in answers)} of {len(answers)};"
        f" the loop worked meanwhile: {_spread(worked for _, worked in answers)},"
        f" in one step {longest_ms:.0f} ms at most;"
        f" slowest stop: {' by '.join(slowest)}, {took[slowest]:.1f} s"
    )
    record_property("matrix", words)
    with capsys.disabled():
        print(f"\n{words}")


def _spread(each_ms: Iterable[float]) -> str:
    ordered = sorted(each_ms)
    return f"median {ordered[len(ordered) // 2]:.0f} ms, worst {ordered[-1]:.0f} ms"


async def stop_all(
    client: httpx.AsyncClient, folder: Path, how: str, took: dict[tuple[str, str], float]
) -> None:
    """Start one of each beast and stop all of them at once; nothing may be left."""

    async def end(agent: str, run_id: str) -> None:
        took[agent, how] = await stop(client, agent, run_id, how, pids[agent])

    ids = await start_all(client, folder)
    pids = {agent: holders(folder / agent) for agent in beasts.BEASTS}
    for agent, (processes, _) in beasts.BEASTS.items():
        assert len(pids[agent]) == processes, agent
    async with trio.open_nursery() as nursery:
        for agent, run_id in ids.items():
            nursery.start_soon(end, agent, run_id)
    assert holders(folder) == []


async def finish(client: httpx.AsyncClient, run_id: str, folder: Path) -> float:
    """Let the bystander end, which nothing must have touched.

    Returns:
        the processor time of the longest step that it has seen in its loop, in ms.
    """
    run = (await client.get(f"/runs/{run_id}")).json()
    assert (run["status"], run["stop"]) == ("running", None)
    (folder / "enough").touch()
    run = (await client.get(f"/runs/{run_id}", params={"wait_s": 30})).json()
    assert (run["status"], run["stop"]) == ("succeeded", None)
    assert run["result"]["ticks"] > 10
    longest_ms: float = run["result"]["longest_ms"]
    return longest_ms


async def test_no_beast_outlives_its_orchestrator(tmp_path: Path) -> None:
    with trio.fail_after(BOUND_S):
        with served(tmp_path) as (server, url):
            async with httpx.AsyncClient(base_url=url, timeout=120) as client:
                aside = await start(client, "bystander", tmp_path / "aside")
                ids = await start_all(client, tmp_path / "beasts")
                stopped = dict(list(ids.items())[::2])
                for run_id in stopped.values():
                    asked = {"mode": "graceful", "grace_s": 60, "reason": "before the kill"}
                    answer = await client.post(f"/runs/{run_id}/stop", json=asked)
                    assert answer.status_code in (200, 202)
            server.popen.kill()
            began = time.monotonic()
            while holders(tmp_path / "beasts"):
                assert time.monotonic() - began < MORE_S
                await trio.sleep(0.02)
        with served(tmp_path) as (_, url):
            async with httpx.AsyncClient(base_url=url, timeout=120) as client:
                for agent, run_id in {**ids, "bystander": aside}.items():
                    run = (await client.get(f"/runs/{run_id}")).json()
                    if agent in stopped:
                        assert run["status"] == "stopped", agent
                        assert run["stop"]["reason"] == "before the kill", agent
                        assert run["stop"]["outcome"] == "stopped", agent
                    else:
                        assert (run["status"], run["stop"]) == ("lost", None), agent
                assert holders(tmp_path / "beasts") == []

"""A soak: clients that start, stop, pause, look and leave at random, at a server that is killed.

``python -m tests.crash.soak SECONDS ALIVE KILL_S`` keeps about so many runs alive for so long, with
a kill -9 every so many seconds; then the server that is left must be as it was when it began, and
what its clients were told must be true. It prints figures, and fails if anything is not.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import Counter
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx
import trio

from orchestrator import RunStatus, open_orchestrator
from orchestrator.lifecycle import TRANSITIONS
from orchestrator.stopping import outcome_of
from tests.crash.aftermath import Heard, check_feed, may_follow
from tests.crash.soaked import ALL
from tests.victim import Victim, open_victim

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from orchestrator import Event, RunRecord

CLIENTS = 8
ROOT = Path(__file__).parents[2]
# What a server may have more of after it was busy: what libraries keep for later.
SLACK = {"tasks": 2, "files": 4, "threads": 4}
GROWTH_KIB = 48 * 1024


@dataclass
class Soak:
    """What is going on, and what was seen of it."""

    store: str
    victim: Victim
    alive: int
    url: str = ""
    process: trio.Process | None = None
    quiet: bool = False
    clients: int = 0
    live: list[str] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Count a client that may have a connection to the server."""
        self.clients += 1
        try:
            yield
        finally:
            self.clients -= 1

    @asynccontextmanager
    async def served(self) -> AsyncIterator[trio.Process]:
        """One life of the server; whoever leaves it must have ended it."""
        command = [sys.executable, "-m", "tests.crash.soaked", self.store, self.victim.url]
        process = await trio.lowlevel.open_process(command, stdout=subprocess.PIPE, cwd=ROOT)
        assert process.stdout is not None
        async with process.stdout:
            try:
                self.url = json.loads((await process.stdout.receive_some()).splitlines()[0])
                yield process
            finally:
                self.url = ""
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def client(soak: Soak, seed: str) -> None:
    """Do what people do, until cancelled; a server that is gone comes again."""
    rng, heard = random.Random(seed), Heard()
    soak.heard.append(heard)
    while True:
        while not soak.url or soak.quiet:
            await trio.sleep(0.05)
        with suppress(httpx.TransportError), soak.connected():
            async with httpx.AsyncClient(base_url=soak.url, verify=False, timeout=60) as http:
                while soak.url and not soak.quiet:
                    await act(soak, http, heard, rng)
                    await trio.sleep(rng.uniform(0, 0.1))


async def act(soak: Soak, http: httpx.AsyncClient, heard: Heard, rng: random.Random) -> None:
    """Do one thing, and note what was answered."""
    kinds = ["look", "pause", "resume", "follow", "stop", "stop"]
    kind = rng.choice(kinds) if len(soak.live) > rng.uniform(0, 2 * soak.alive) else "start"
    run_id = rng.choice(soak.live) if soak.live else ""
    order: dict[str, Any]
    match kind:
        case "start":
            options = {"on_crash": rng.choice(["fail", "restart", "restart"])}
            order = {"agent": rng.choice(ALL).name, "options": options}
            answer = await http.post("/runs", json=order)
            soak.live.append(answer.json()["id"])
        case "stop":
            soak.live.remove(run_id)
            mode, wait_s = rng.choice(["graceful", "now", "kill"]), rng.choice([0, 0, 5])
            wanted = {"mode": mode, "grace_s": 1, "wait_s": wait_s}
            answer = await http.post(f"/runs/{run_id}/stop", json=wanted)
        case "follow":
            await follow(soak, http, run_id, rng.uniform(0, 0.5))
            return
        case "look":
            answer = await http.get(f"/runs/{run_id}")
        case _:
            answer = await http.post(f"/runs/{run_id}/{kind}")
    soak.figures[f"{kind}: {answer.status_code}"] += 1
    assert answer.status_code in (200, 201, 202, 409), answer.text
    note(answer, heard)


async def follow(soak: Soak, http: httpx.AsyncClient, run_id: str, for_s: float) -> None:
    """Read a feed for a while, and leave without a word; there is no gap in it."""
    heard = 0
    with trio.move_on_after(for_s):
        async with http.stream("GET", f"/runs/{run_id}/events") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("id: "):
                    assert int(line[4:]) == heard + 1, f"a gap in the feed of {run_id}"
                    heard += 1
    soak.figures["events read"] += heard


def note(answer: httpx.Response, heard: Heard) -> None:
    """Take in what an answer shows of a run."""
    body = answer.json()
    run = body.get("run", body)
    if "available_actions" in run:
        stop = run["stop"] and run["stop"]["outcome"]
        told = {"run": run["id"], "status": run["status"], "attempt": run["attempt"], "stop": stop}
        heard.hear(told)


async def count(soak: Soak) -> dict[str, int]:
    """Let everything end that is live, and ask the server what it has."""
    soak.quiet = True
    states = ",".join(status for status in RunStatus if not status.is_terminal)
    async with httpx.AsyncClient(base_url=soak.url, verify=False, timeout=60) as http:
        where = {"filter": {"status": states}, "mode": "now", "wait_s": 30}
        while (await http.get("/runs", params={"status": states})).json()["runs"]:
            await http.post("/runs/stop", json=where)
        await soak.victim.until(lambda: not soak.victim.open)
        while soak.clients:
            await trio.sleep(0.05)
        await trio.sleep(2)
        answer = await http.post("/runs", params={"wait_s": "30"}, json={"agent": "census"})
    soak.live.clear()
    soak.quiet = False
    return dict(answer.json()["result"])


async def lives(soak: Soak, seconds: float, kill_s: float) -> tuple[dict[str, int], ...]:
    """Kill one server after the other, and let the last one live; return what it had when."""
    end = trio.current_time() + seconds
    last_s = max(kill_s, seconds / 4)
    while trio.current_time() < end - last_s - kill_s:
        async with soak.served() as process:
            await trio.sleep(kill_s)
            assert process.poll() is None, "the server ended by itself"
        soak.figures["kills"] += 1
        with trio.fail_after(10):
            await soak.victim.until(lambda: not soak.victim.open)
    async with soak.served() as process:
        await trio.sleep(kill_s / 2)
        before = await count(soak)
        await trio.sleep(max(0, end - trio.current_time()))
        after = await count(soak)
        soak.quiet = True
        process.send_signal(signal.SIGTERM)
        with trio.fail_after(60):
            assert await process.wait() == 0
    return before, after


async def soaked(store: str, seconds: float, alive: int, kill_s: float) -> Soak:
    """Do all of it."""
    seed = random.SystemRandom().randrange(10**9)
    print(f"seed {seed}")
    async with open_victim() as victim, trio.open_nursery() as nursery:
        soak = Soak(store, victim, alive)
        for n in range(CLIENTS):
            nursery.start_soon(client, soak, f"{seed} {n}")
        before, after = await lives(soak, seconds, kill_s)
        nursery.cancel_scope.cancel()
    print(f"when it began: {before}; at its end: {after}")
    for name, slack in SLACK.items():
        assert after[name] <= before[name] + slack, f"{name} were leaked"
    assert after["kib"] <= before["kib"] + GROWTH_KIB
    await check(soak)
    return soak


# What was told, against what is there


async def check(soak: Soak) -> None:
    """Compare what all clients were told with what the last server has left."""
    async with open_orchestrator(soak.store) as orchestrator:
        assert sum(orchestrator.recovered.values()) == 0, "a run was left that had not ended"
        seen = {run_id for heard in soak.heard for run_id in heard.seen}
        records = {run_id: await orchestrator.get(run_id) for run_id in seen}
        for heard in soak.heard:
            check_heard(heard, records)
            soak.figures["answers"] += sum(map(len, heard.seen.values()))
            soak.figures["stops told"] += len(heard.stopped)
        for root_id in {record.root_id for record in records.values()}:
            events = await check_feed(orchestrator, root_id)
            check_permanence(events)
            soak.figures["events"] += len(events)
        for record in records.values():
            check_receipt(record)
            soak.figures[record.status] += 1


def check_heard(heard: Heard, records: dict[str, RunRecord]) -> None:
    """No status has gone back, and who was told of a stop was told the truth."""
    for run_id, shown in heard.seen.items():
        record = records[run_id]
        assert all(may_follow(each, (record.status, record.attempt)) for each in shown), run_id
        assert run_id not in heard.stopped or record.stop is not None, run_id


def check_permanence(events: list[Event]) -> None:
    """Nothing of a run begins after it was asked to stop."""
    stopped = set()
    for event in events:
        if event.type == "run.stopping":
            stopped.add(event.run_id)
        assert event.run_id not in stopped or event.type not in ("run.started", "operation.started")


def check_receipt(record: RunRecord) -> None:
    """A run has ended, and its receipt says how."""
    assert not TRANSITIONS[record.status]
    if record.stop is not None:
        assert record.stop.settled_at is not None
        assert record.stop.outcome == outcome_of(record.status)
        assert record.stop.still_running == (), record.stop


def main(seconds: float = 600, alive: int = 200, kill_s: float = 20) -> None:
    """Soak, and print the figures."""
    with TemporaryDirectory() as folder:
        store = f"sqlite:///{folder}/runs.db"
        soak = trio.run(partial(soaked, store, seconds, alive, kill_s))
    print(json.dumps(dict(sorted(soak.figures.items()))))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

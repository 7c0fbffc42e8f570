"""Kill -9 at random moments: what was acknowledged is true for ever."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from tests.crash.afterwards import Figures, Told, look, settle
from tests.crash.life import some_start, some_stop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.postgres import Server

LIVES = 3
ROUNDS = 4


class Life:
    """A process that is to be killed, and what it has said so far."""

    def __init__(self, store: str, how: str) -> None:
        self.said: list[dict[str, Any]] = []
        command = [sys.executable, "-m", "tests.crash.life", store, how]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
        )
        assert self._process.stdout is not None
        while not (self.said and "ready" in self.said[-1]):
            # Runs that start again may speak first.
            self.said.append(json.loads(self._process.stdout.readline()))
        self.url = self.said[-1]["ready"]
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        # A kill cannot tear a line: each was written in one piece that fits the pipe.
        self.said.extend(map(json.loads, self._process.stdout))

    def kill(self) -> list[dict[str, Any]]:
        """Kill it, and return all that it had said; it must not have ended before."""
        early = self._process.poll()
        self._process.kill()
        self._reader.join()
        assert self._process.stderr is not None
        err = self._process.stderr.read().decode()
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]  # it is a pipe
        self._process.stderr.close()
        assert early is None, err
        assert "Traceback" not in err, err
        return self.said


@contextmanager
def explained(seed: int) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


def rounds_of_lives(store: str, seed: int, figures: Figures) -> None:
    """Kill several lives of one store, one after the other; check after each and at the end."""
    rng, told = random.Random(seed), Told()
    before: dict[str, Any] = {}
    for n in range(LIVES):
        told.next_life()
        life = Life(store, str(seed * LIVES + n))
        time.sleep(rng.choice([rng.uniform(0, 0.05), rng.uniform(0, 0.4)]))
        for words in life.kill():
            told.hear(words)
        figures.kills += 1
        before = trio.run(look, store, told, figures)
    finish(store, told, before, figures)


def finish(store: str, told: Told, before: dict[str, Any], figures: Figures) -> None:
    trio.run(settle, store, told, before, figures)
    figures.starts += len(told.started)
    figures.stops += len(told.stopping)
    figures.ends += len(told.ended)


@pytest.mark.slow
def test_an_embedded_orchestrator_is_killed(tmp_path: Path) -> None:
    figures, base = Figures(), random.SystemRandom().randrange(10**6) * 1000
    for seed in range(base, base + 2 * ROUNDS):
        with explained(seed):
            rounds_of_lives(f"sqlite:///{tmp_path / f'{seed}.db'}", seed, figures)
    print(figures)
    assert figures.starts > 2 * ROUNDS
    assert figures.stops > 0


@pytest.mark.slow
def test_an_embedded_orchestrator_on_postgresql_is_killed(postgres_server: Server) -> None:
    figures, base = Figures(), random.SystemRandom().randrange(10**6) * 1000
    for seed in range(base, base + ROUNDS):
        with explained(seed):
            rounds_of_lives(postgres_server.make_database("lives"), seed, figures)
    print(figures)
    assert figures.starts > ROUNDS


async def ask(url: str, seed: str, told: Told, live: list[str]) -> None:
    """Start and stop runs over HTTP at random, until the server is gone."""
    rng = random.Random(seed)
    # Without certificates: to load them may take longer than the server lives.
    async with httpx.AsyncClient(base_url=url, timeout=30, verify=False) as client:
        with suppress(httpx.TransportError):
            while True:
                if len(live) < 5 or rng.random() < 0.5:
                    order = some_start(rng)
                    answer = await client.post("/runs", json=order)
                    assert answer.status_code == 201, answer.text
                    told.started[answer.json()["id"]] = order
                    live.append(answer.json()["id"])
                else:
                    run_id = live.pop(rng.randrange(len(live)))
                    order = some_stop(rng) | {"wait_s": rng.choice([0, 0, 5])}
                    answer = await client.post(f"/runs/{run_id}/stop", json=order)
                    assert answer.status_code in (200, 202), answer.text
                    told.stopping.add(run_id)
                    if answer.status_code == 200:
                        told.ended[run_id] = answer.json()["run"]["status"]


async def drive(life: Life, seed: int, told: Told) -> None:
    rng = random.Random(seed)
    before = len(told.started)
    async with trio.open_nursery() as nursery:
        live: list[str] = []
        for n in range(4):
            nursery.start_soon(ask, life.url, f"{seed} {n}", told, live)
        if seed % LIVES:
            # The first of the lives may be killed before it has acknowledged anything.
            with trio.fail_after(60):
                while len(told.started) == before:
                    await trio.sleep(0.01)
        await trio.sleep(rng.uniform(0.05, 0.6))
        # In a thread, so that answers that are on their way can still be heard.
        await trio.to_thread.run_sync(life.kill)


# The killed server tears requests of the test's own client, and httpx leaves the generator of such
# a request's body to the garbage collector. It holds nothing.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
@pytest.mark.slow
def test_a_server_is_killed(tmp_path: Path) -> None:
    figures, base = Figures(), random.SystemRandom().randrange(10**6) * 1000
    for seed in range(base, base + ROUNDS):
        with explained(seed):
            rounds_of_servers(f"sqlite:///{tmp_path / f'{seed}.db'}", seed, figures)
    print(figures)
    assert figures.starts > ROUNDS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
def test_a_server_on_postgresql_is_killed(postgres_server: Server) -> None:
    figures, seed = Figures(), random.SystemRandom().randrange(10**9)
    with explained(seed):
        rounds_of_servers(postgres_server.make_database("lives"), seed, figures)
    print(figures)
    assert figures.starts > 1


def rounds_of_servers(store: str, seed: int, figures: Figures) -> None:
    """Kill several servers on one store, one after the other; check after each and at the end."""
    told = Told()
    before: dict[str, Any] = {}
    for n in range(LIVES):
        told.next_life()
        life = Life(store, "serve")
        earlier = set(told.stopping), set(told.ended)
        trio.run(partial(drive, life, seed * LIVES + n, told))
        began = [words["began"] for words in life.said if "began" in words]
        assert not earlier[0].intersection(began)
        assert not earlier[1].intersection(began)
        for words in life.said:
            if "tick" in words:
                told.hear(words)
        told.began.update(began)
        figures.kills += 1
        before = trio.run(look, store, told, figures)
    finish(store, told, before, figures)

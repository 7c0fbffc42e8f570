"""Kill -9 at random moments: a start under a key is never doubled, and never lost once answered."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from tests.crash.test_kill import Life, explained

if TYPE_CHECKING:
    from pathlib import Path

KEYS = 40
LIVES = 8


async def ask(client: httpx.AsyncClient, key: str, told: dict[str, set[str]]) -> bool:
    """Start the key's run; note its id and return whether there was an answer."""
    order = {"agent": "worker", "options": {"tags": [key], "on_crash": "restart"}}
    answer = await client.post("/runs", json=order, headers={"Idempotency-Key": key})
    if answer.status_code == 409:
        return False
    assert answer.status_code == 201, answer.text
    told[key].add(answer.json()["id"])
    return True


async def ask_all(url: str, seed: str, told: dict[str, set[str]]) -> None:
    """Ask for the runs of all keys, in random order and some of them again, until it is gone."""
    rng = random.Random(seed)
    with suppress(httpx.TransportError):
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            while True:
                await ask(client, rng.choice(list(told)), told)


async def one_life(path: Path, seed: str, told: dict[str, set[str]]) -> None:
    life, rng = Life(f"sqlite:///{path}", "serve"), random.Random(seed)
    # A few more answers, however slow the machine is, and then at any moment.
    enough = sum(map(bool, told.values())) + rng.randrange(1, 8)
    async with trio.open_nursery() as nursery:
        for n in range(4):
            nursery.start_soon(ask_all, life.url, f"{seed} {n}", told)
        with trio.move_on_after(20):
            while sum(map(bool, told.values())) < enough:
                await trio.sleep(0.002)
        await trio.sleep(rng.uniform(0, 0.02))
        await trio.to_thread.run_sync(life.kill)


async def last_life(path: Path, told: dict[str, set[str]]) -> dict[str, int]:
    """Ask for every key once more, and return how many runs each has."""
    life = Life(f"sqlite:///{path}", "serve")
    found = {}
    try:
        async with httpx.AsyncClient(base_url=life.url, timeout=30) as client:
            for key in told:
                assert await ask(client, key, told)
                found[key] = len((await client.get(f"/runs?tag={key}")).json()["runs"])
    finally:
        await trio.to_thread.run_sync(life.kill)
    return found


# As in `test_kill`: the killed server tears requests of the test's own client.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
@pytest.mark.slow
def test_a_key_is_one_run_through_kills(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    path, told = tmp_path / "runs.db", {f"k{n}": set[str]() for n in range(KEYS)}
    with explained(seed):
        for n in range(LIVES):
            trio.run(one_life, path, f"{seed} {n}", told)
        answered = sum(map(bool, told.values()))
        found = trio.run(last_life, path, told)

    assert answered > 0
    assert set(found.values()) == {1}
    assert {len(ids) for ids in told.values()} == {1}

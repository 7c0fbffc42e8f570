"""Code that blocks the server's loop is named where operators look."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from api.service import open_server
from orchestrator import Context, Orchestrator, agent, open_orchestrator

if TYPE_CHECKING:
    from pathlib import Path


def release_once_noticed(orchestrator: Orchestrator, released: threading.Event) -> None:
    while orchestrator.blocked is None or orchestrator.blocked.run_id is None:
        time.sleep(0.01)
    released.set()


async def test_readyz_names_who_blocked_the_loop() -> None:
    released = threading.Event()

    @agent
    async def blocker(ctx: Context) -> None:
        assert released.wait(20)

    with trio.fail_after(30):
        async with (
            open_orchestrator(watchdog_s=0.5) as orchestrator,
            open_server(orchestrator) as url,
            httpx.AsyncClient(base_url=url) as client,
        ):
            thread = threading.Thread(target=release_once_noticed, args=(orchestrator, released))
            thread.start()
            run = await orchestrator.start(blocker)
            await run.wait()
            thread.join()
            answer = await client.get("/readyz")
    assert answer.status_code == 200
    (warning,) = answer.json()["warnings"]
    assert warning.startswith(f"run {run.id} blocked every other run for ")
    assert __file__ in warning


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_start_is_answered_before_an_agent_can_block_the_loop(
    kind: str, tmp_path: Path
) -> None:
    answered = threading.Event()

    @agent
    async def blocker(ctx: Context) -> bool:
        return answered.wait(10)

    def start(url: str) -> str:
        run: str = httpx.post(f"{url}/runs", json={"agent": "blocker"}).json()["id"]
        answered.set()
        return run

    store = "memory://" if kind == "memory" else f"sqlite:///{tmp_path / 'runs.db'}"
    with trio.fail_after(60):
        async with (
            open_orchestrator(store, agents=[blocker]) as orchestrator,
            open_server(orchestrator) as url,
        ):
            # Whatever the order in which Trio takes the tasks of a turn.
            for _ in range(10):
                answered.clear()
                run_id = await trio.to_thread.run_sync(start, url)
                run = orchestrator.live(run_id)
                ended = await run.wait() if run else await orchestrator.get(run_id)
                assert ended.result is True

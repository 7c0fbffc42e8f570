"""Code that blocks the server's loop is named where operators look."""

from __future__ import annotations

import threading
import time

import httpx
import trio

from api.service import open_server
from orchestrator import Context, Orchestrator, agent, open_orchestrator


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

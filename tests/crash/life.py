"""One life of an orchestrator, to be killed: says on stdout what it has acknowledged.

``python -m tests.crash.life STORE SEED`` starts and stops runs at random for ever.
``python -m tests.crash.life STORE serve`` is a server, and its clients do that.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from api.service import serve_forever
from orchestrator import Context, Orchestrator, RunEnded, agent, open_orchestrator

if TYPE_CHECKING:
    from orchestrator import Run

HURRY_S = 0.004


def say(**words: Any) -> None:
    """Write one line in one piece, past every buffer: a kill may come right after it."""
    os.write(1, (json.dumps(words) + "\n").encode())


@agent
async def ticker(ctx: Context) -> None:
    """Tell of progress for ever, and say when."""
    say(began=ctx.run_id)
    n = 0
    while True:
        n += 1
        await ctx.progress(n % 100, str(n))
        say(tick=ctx.run_id, n=n, at=time.monotonic())
        await ctx.sleep(0.002)


@agent
async def worker(ctx: Context, root: bool = True) -> None:
    """Do short operations for ever."""
    if root:
        say(began=ctx.run_id)
    ctx.on_stop(ctx.log, "compensated")
    while True:
        async with ctx.operation("work"):
            await trio.sleep(0.003)


@agent
async def family(ctx: Context) -> None:
    """Start sub-agents for ever, in every way."""
    say(began=ctx.run_id)
    while True:
        child = await ctx.start(worker, root=False)
        with trio.move_on_after(0.005):
            await ctx.map(worker, [{"root": False}, {"root": False}])
        await child.stop(grace_s=1)


ALL = [ticker, worker, family]


def some_start(rng: random.Random) -> dict[str, Any]:
    """Return the agent and options of a random start."""
    options = {"on_crash": rng.choice(["fail", "restart"]), "max_attempts": 3}
    return {"agent": rng.choice(ALL).name, "options": options}


def some_stop(rng: random.Random) -> dict[str, Any]:
    """Return a random stop request."""
    return {"mode": rng.choice(["graceful", "now", "kill"]), "grace_s": rng.choice([0, 5])}


async def starter(orchestrator: Orchestrator, rng: random.Random) -> None:
    while True:
        order = some_start(rng)
        run = await orchestrator.start(order["agent"], options=order["options"])
        say(started=run.id, **order["options"])
        await trio.sleep(rng.uniform(0, HURRY_S))


async def stopper(orchestrator: Orchestrator, rng: random.Random) -> None:
    while True:
        roots = orchestrator.registry.roots()
        if len(roots) > 6:
            await stop(orchestrator, rng.choice(roots), rng)
        await trio.sleep(rng.uniform(0, HURRY_S))


async def stop(orchestrator: Orchestrator, run: Run, rng: random.Random) -> None:
    try:
        ticket = run.request_stop(**some_stop(rng))
    except RunEnded:
        return
    await orchestrator.durable(ticket)
    say(stopping=run.id)
    if rng.random() < 0.5:
        record = await run.wait()
        say(ended=run.id, status=record.status)


async def live(store: str, seed: int) -> None:
    """Start and stop runs at random until the kill."""
    async with open_orchestrator(store, agents=ALL) as orchestrator, trio.open_nursery() as nursery:
        say(ready=True)
        for n in range(3):
            nursery.start_soon(starter, orchestrator, random.Random(f"{seed} start {n}"))
            nursery.start_soon(stopper, orchestrator, random.Random(f"{seed} stop {n}"))


if __name__ == "__main__":
    if sys.argv[2] == "serve":
        trio.run(
            partial(
                serve_forever,
                store=sys.argv[1],
                agents=ALL,
                host="127.0.0.1",
                port=0,
                grace_s=5,
                announce=lambda url: say(ready=url),
            )
        )
    else:
        trio.run(live, sys.argv[1], int(sys.argv[2]))

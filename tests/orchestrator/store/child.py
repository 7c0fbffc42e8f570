"""A process of its own with a store: ``python -m tests.orchestrator.store.child PATH``.

It says ``open`` or why it could not, then writes one batch after the other, each of a run, some
events and a chunk of an artifact, and says the number of each once it is acknowledged.
"""

from __future__ import annotations

import sys

import trio

from orchestrator.errors import StoreInUse
from orchestrator.model import RunId
from orchestrator.store import SaveArtifact, open_store
from tests.orchestrator.store.samples import append, save

ROOT = RunId("r")


def events_up_to(batch: int) -> int:
    """How many events the first so many batches have: 1 + 2 + 3 + 1 + 2 + …"""
    return sum(n % 3 + 1 for n in range(batch))


async def main(path: str) -> None:
    try:
        async with open_store(f"sqlite:///{path}") as store:
            print("open", flush=True)
            for batch in range(1, 100_000):
                events = range(events_up_to(batch - 1) + 1, events_up_to(batch) + 1)
                await store.write(
                    [
                        save(ROOT, version=batch),
                        *(append(ROOT, seq) for seq in events),
                        SaveArtifact(ROOT, "log", "text/plain", b"x", append=True),
                    ]
                )
                print(batch, flush=True)
    except StoreInUse as error:
        print(error, flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1])

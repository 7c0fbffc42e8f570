"""An orchestrator that is there to be killed: it has the whole zoo, and says where that works.

python -m tests.orchestrator.worker.keeper WITNESSES
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from orchestrator.worker import open_warden
from tests.orchestrator.worker.seen import start_animal
from tests.orchestrator.worker.zoo import KINDS


async def main(witnesses: Path) -> None:
    """Keep one worker of each kind."""
    async with open_warden() as warden:
        workers = [await start_animal(warden, kind, witnesses / kind) for kind in KINDS]
        folder = Path(os.readlink(f"/proc/{workers[0].pid}/cwd")).parent
        print(folder, flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]))

"""Whatever runs in a worker is ended: by a kill, by the orchestrator's death, by the warden's.

``/proc`` is asked who holds the file that every process of the zoo holds.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from orchestrator.procfs import look_at
from tests.orchestrator.worker.seen import GONE_S, all_gone, children, exists, start_animal, started
from tests.orchestrator.worker.zoo import KINDS, holders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.worker import Warden
    from tests.orchestrator.worker.conftest import Closing

ROOT = Path(__file__).parents[3]


@pytest.fixture
def witnesses(tmp_path: Path) -> Iterator[Path]:
    """A folder of files that processes of the zoo hold; what is left of those is ended."""
    yield tmp_path
    for path in tmp_path.iterdir():
        for pid in holders(path):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def witness(witnesses: Path) -> Path:
    """One such file."""
    return witnesses / "witness"


async def test_a_kill_ends_everything(warden: Warden, witnesses: Path) -> None:
    for kind in KINDS:
        witness = witnesses / kind
        with trio.fail_after(20):
            async with await start_animal(warden, kind, witness) as worker:
                before = holders(witness)
                assert worker.pid in before, kind

                killed = await worker.kill()

                assert holders(witness) == [], kind
                if kind not in ("is a bomb", "is a comet"):
                    assert set(killed) == set(before), kind
                assert worker.exited.is_set()
                assert worker.death is not None
                assert worker.death.signal == signal.SIGKILL, kind
                assert await worker.kill() == killed


@pytest.mark.slow
async def test_all_ends_when_the_orchestrator_is_killed(witnesses: Path) -> None:
    with trio.fail_after(30):
        command = [sys.executable, "-m", "tests.orchestrator.worker.keeper", str(witnesses)]
        async with started(command, cwd=ROOT) as (keeper, said):
            folder = (await said.receive_some()).decode().strip()
            assert exists(folder)
            assert all(holders(witnesses / kind) for kind in KINDS)

            keeper.kill()

            await all_gone(witnesses)
            with trio.fail_after(GONE_S):
                while exists(folder):
                    await trio.sleep(0.01)


async def test_all_ends_when_the_warden_is_killed(
    warden: Warden, witnesses: Path, closing: Closing
) -> None:
    # What takes off its mark can be found by nobody but the warden.
    kinds = [kind for kind in KINDS if kind != "changes its mark"]
    with trio.fail_after(30):
        first = warden.pid
        assert first is not None
        others = children() - {first}
        workers = [await start_animal(warden, kind, witnesses / kind) for kind in kinds]
        closing(*workers)

        os.kill(first, signal.SIGKILL)

        await all_gone(witnesses)
        for worker in workers:
            await worker.exited.wait()
            assert worker.death is not None
            assert "died with its warden" in worker.death.words
            assert worker.death.lost
            assert worker.death.surviving == ()
        assert children() == others


async def test_another_warden_follows_one_that_was_killed(warden: Warden, witnesses: Path) -> None:
    with trio.fail_after(20):
        first = warden.pid
        assert first is not None
        async with await start_animal(warden, "has a daemon", witnesses / "a") as before:
            os.kill(first, signal.SIGKILL)
            await before.exited.wait()
            async with await start_animal(warden, "sleeps", witnesses / "b") as after:
                assert holders(witnesses / "a") == []
                assert warden.pid not in (None, first)
                assert holders(witnesses / "b") == [after.pid]


async def test_a_sigterm_reaches_everything(warden: Warden, witness: Path) -> None:
    with trio.fail_after(10):
        async with await start_animal(warden, "has a child with a session", witness) as worker:
            others = set(holders(witness)) - {worker.pid}
            worker.terminate()
            await worker.exited.wait()

            assert worker.death is not None
            assert worker.death.signal == signal.SIGTERM
            assert worker.death.words == "was ended by SIGTERM (terminated), as it was told to"
            # Nobody but us has ended these.
            assert set(worker.killed) == set(worker.death.left_behind) == others != set()
            assert holders(witness) == []
            worker.terminate()


async def test_a_sigterm_that_is_ignored_is_no_end_and_several_may_ask_for_a_kill(
    warden: Warden, witness: Path
) -> None:
    with trio.fail_after(10):
        async with await start_animal(warden, "ignores signals", witness) as worker:
            worker.terminate()
            with trio.move_on_after(0.2):
                await worker.exited.wait()
            assert holders(witness) == [worker.pid]
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(worker.kill)
            assert holders(witness) == []
            assert worker.killed == (worker.pid,)


@pytest.mark.slow
async def test_workers_are_killed_all_at_once(
    warden: Warden, witnesses: Path, closing: Closing
) -> None:
    with trio.fail_after(30):
        workers = [await start_animal(warden, kind, witnesses / kind) for kind in KINDS]
        closing(*workers)
        alive = {kind: holders(witnesses / kind) for kind in KINDS}
        assert all(alive.values())

        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(worker.kill)

        for kind, worker in zip(KINDS, workers, strict=True):
            assert holders(witnesses / kind) == []
            if kind not in ("changes its mark", "is a bomb", "is a comet"):
                # What takes off its mark is killed on behalf of everybody who is being killed.
                assert set(worker.killed) - set(alive["changes its mark"]) == set(alive[kind])


async def test_a_worker_is_not_taken_for_the_one_before_it(warden: Warden, witness: Path) -> None:
    with trio.fail_after(20):
        for _ in range(40):
            async with await start_animal(warden, "sleeps", witness) as worker:
                assert holders(witness) == [worker.pid]


async def test_a_daemon_stays_below_its_worker(warden: Warden, witness: Path) -> None:
    with trio.fail_after(10):
        async with await start_animal(warden, "has a daemon", witness) as worker:
            (daemon,) = set(holders(witness)) - {worker.pid}
            seen = look_at(daemon)
            assert seen is not None
            assert seen.parent == worker.pid


async def test_closing_the_warden_ends_everything(
    warden: Warden, witness: Path, closing: Closing
) -> None:
    with trio.fail_after(20):
        workers = [await start_animal(warden, kind, witness) for kind in ("spins", "has a daemon")]
        closing(*workers)
        await warden.aclose()

        assert holders(witness) == []
        assert all(worker.exited.is_set() for worker in workers)
        assert warden.pid is None
        await warden.aclose()

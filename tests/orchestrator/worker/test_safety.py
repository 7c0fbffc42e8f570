"""What must not happen: a wrong process signalled, another's child touched, a stop refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from orchestrator.procfs import all_processes, below, look_at, signal_exactly
from orchestrator.worker import NotEnded, lifeline, open_warden, process, ward
from orchestrator.worker.kernel import (
    kill_marked,
    mark_for,
    mark_of,
    new_token,
    subreaping,
    token_in,
)
from tests.orchestrator.worker.seen import all_gone, children, sleeping, start_animal, started
from tests.orchestrator.worker.zoo import holders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.worker import Warden

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
FREEZER = Path("/sys/fs/cgroup/freezer")


def block_loop(seconds: float) -> None:
    """Do what no code on a loop should."""
    time.sleep(seconds)


@contextmanager
def exiting(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child of our own that has exited, and is not yet reaped."""
    with subprocess.Popen(command) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        yield child


def end_child(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_pid_that_was_reused_is_not_signalled() -> None:
    with sleeping() as first:
        seen = look_at(first.pid)
    assert seen is not None
    if not os.access(LAST_PID, os.W_OK):
        pytest.skip("pids cannot be chosen here")
    # Two processes of one pid are told apart by when they started, in ticks of the clock.
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))
    for _ in range(1000):
        # Others start processes too, and may be faster.
        LAST_PID.write_text(str(seen.pid - 1))
        with sleeping() as second:
            if second.pid == seen.pid:
                assert not signal_exactly(seen, signal.SIGKILL)
                assert second.poll() is None
                return
    pytest.skip("the pid was never ours again")


def test_a_process_that_is_gone_is_not_signalled() -> None:
    with sleeping() as child:
        seen = look_at(child.pid)
    assert seen is not None
    assert not signal_exactly(seen, signal.SIGKILL)
    assert look_at(child.pid) is None


def test_a_name_may_hold_anything(tmp_path: Path) -> None:
    program = tmp_path / ") R 1 (x"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "30"]) as child:
        seen = look_at(child.pid)
        child.kill()
    assert seen is not None
    assert seen.parent == os.getpid()
    assert not seen.ended


def test_descendants_are_found() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 30 & echo; wait"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = below(child.pid, all_processes())
        os.kill(found[0].pid, signal.SIGKILL)
    assert [each.parent for each in found] == [child.pid]


def test_marks_are_inherited_and_told_apart() -> None:
    token = new_token()
    mark = mark_for(token, 3)
    assert token_in(mark) == token == token_in(mark_for(token))
    assert mark != mark_for(token)
    marked = f"import os, resource; resource.setrlimit(10, ({mark}, {mark})); " + (
        "os.execvp('env', ['env', '-i', 'sleep', '30'])"
    )
    with subprocess.Popen([sys.executable, "-c", marked]) as child, sleeping() as other:
        while mark_of(child.pid) != mark:
            assert child.poll() is None
        killed = kill_marked({mark})
        assert killed == {child.pid: mark}
        assert child.wait() == -signal.SIGKILL
        assert other.poll() is None
        assert mark_of(other.pid) != mark


@pytest.mark.slow
async def test_other_children_are_left_alone(warden: Warden, tmp_path: Path) -> None:
    """Neither signalled nor reaped: children, a zombie, and an orphan that comes to us."""
    orphans = tmp_path / "orphans"
    script = f"sleep 1000 & echo $! > {orphans}; exit 7"
    with trio.fail_after(10), sleeping() as alive, sleeping("setsid") as apart:
        worker = await start_animal(warden, "has a daemon", tmp_path / "witness")
        with exiting("sh", "-c", script) as zombie:
            orphan = int(orphans.read_text())
            assert orphan in children()

            assert warden.pid is not None
            os.kill(warden.pid, signal.SIGKILL)
            await worker.aclose()

            assert holders(tmp_path / "witness") == []
            assert alive.poll() is None
            assert apart.poll() is None
            assert look_at(orphan) is not None
            assert zombie.poll() == 7
            end_child(orphan)


@pytest.mark.slow
async def test_a_fork_of_the_program_does_not_hold_the_lifeline(tmp_path: Path) -> None:
    """A process that it forks has all its files, the socket to the warden included."""
    program = (
        "import os, sys, trio, time\n"
        "from pathlib import Path\n"
        "from orchestrator.worker import open_warden\n"
        "from tests.orchestrator.worker.seen import start_animal\n"
        "async def main():\n"
        "    async with open_warden() as warden:\n"
        "        await start_animal(warden, 'has a daemon', Path(sys.argv[1]))\n"
        "        if (pid := os.fork()) == 0:\n"
        "            time.sleep(1000)\n"
        "        print(pid, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    witness = tmp_path / "witness"
    with trio.fail_after(10):
        command = [sys.executable, "-c", program, str(witness)]
        async with started(command) as (owner, said):
            fork = int(await said.receive_some())
            try:
                owner.kill()
                await all_gone(witness)
            finally:
                os.kill(fork, signal.SIGKILL)


@pytest.mark.slow
async def test_a_warden_that_was_stopped_ends_with_the_program(tmp_path: Path) -> None:
    """Also where its session lives on, as in a container, and so nobody else continues it."""
    program = (
        "import os, signal, sys, trio\n"
        "from pathlib import Path\n"
        "from orchestrator.worker import open_warden\n"
        "from tests.orchestrator.worker.seen import start_animal\n"
        "async def main():\n"
        "    async with open_warden() as warden:\n"
        "        await start_animal(warden, 'has a daemon', Path(sys.argv[1]))\n"
        "        os.kill(warden.pid, signal.SIGSTOP)\n"
        "        os.waitid(os.P_PID, warden.pid, os.WSTOPPED)\n"
        "        print(warden.pid, flush=True)\n"
        "        await trio.sleep_forever()\n"
        "trio.run(main)\n"
    )
    witness = tmp_path / "witness"
    with trio.fail_after(10), subreaping():
        async with started([sys.executable, "-c", program, str(witness)]) as (owner, said):
            warden = int(await said.receive_some())
            try:
                owner.kill()
                await all_gone(witness)
            finally:
                await owner.wait()
                end_child(warden)


@pytest.mark.slow
async def test_a_warden_that_still_loads_ends_with_the_program(tmp_path: Path) -> None:
    """Whatever is being imported has its only thread."""
    program = (
        "import trio, orchestrator.worker as w\n"
        "async def main():\n"
        "    async with w.open_warden(preload=['tests.orchestrator.worker.endless']) as warden:\n"
        "        await warden.ready()\n"
        "trio.run(main)\n"
    )
    with trio.fail_after(10):
        env = {**os.environ, "LANG": str(tmp_path / "begun")}
        async with started([sys.executable, "-c", program], env=env) as (owner, _):
            while not holders(tmp_path / "begun"):
                await trio.sleep(0.01)
            owner.kill()
            await all_gone(tmp_path / "begun")


@pytest.mark.slow
async def test_a_warden_that_still_loads_can_be_closed() -> None:
    with trio.fail_after(5):
        async with open_warden(preload=["tests.orchestrator.worker.endless"]) as warden:
            with trio.move_on_after(0.5):
                await warden.ready()
            assert warden.pid is not None
        assert warden.pid is None


@pytest.mark.slow
async def test_a_warden_that_does_not_answer_is_killed(
    warden: Warden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever holds it, it cannot hold the stop."""
    monkeypatch.setattr(process, "PATIENCE_S", 0.3)
    monkeypatch.setattr(lifeline.Lifeline, "wake", lambda self: None)
    witness = tmp_path / "witness"
    with trio.fail_after(10):
        async with await start_animal(warden, "has a daemon", witness) as worker:
            assert warden.pid is not None
            os.kill(warden.pid, signal.SIGSTOP)
            before = holders(witness)

            killed = await worker.kill()

            assert holders(witness) == []
            # Also the worker itself, which dies with the warden, by the kernel's hand.
            assert set(killed) == set(before)


@pytest.mark.slow
async def test_a_loop_that_was_blocked_does_not_take_its_warden_for_silent(
    warden: Warden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or everything in all other workers would be killed for what some code in this process does.

    The warden answers the order to kill while the loop is blocked for longer than it may be silent.
    """
    monkeypatch.setattr(process, "PATIENCE_S", 1.0)
    with trio.fail_after(20):
        async with (
            await start_animal(warden, "sleeps", tmp_path / "aside") as aside,
            await start_animal(warden, "ignores signals", tmp_path / "witness") as worker,
        ):
            before = warden.pid
            assert before is not None
            os.kill(before, signal.SIGSTOP)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(worker.kill)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                os.kill(before, signal.SIGCONT)
                block_loop(1.2)

            assert worker.killed == (worker.pid,)
            assert warden.pid == before
            assert holders(tmp_path / "aside") == [aside.pid]


@pytest.mark.slow
async def test_a_warden_that_does_not_close_is_killed(
    warden: Warden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifeline, "CLOSE_S", 0.3)
    monkeypatch.setattr(lifeline.Lifeline, "wake", lambda self: None)
    witness = tmp_path / "witness"
    with trio.fail_after(10):
        worker = await start_animal(warden, "has a daemon", witness)
        assert warden.pid is not None
        os.kill(warden.pid, signal.SIGSTOP)
        await warden.aclose()
        worker.close_streams()
        assert holders(witness) == []


@pytest.mark.slow
@pytest.mark.skipif(not os.access(FREEZER, os.W_OK), reason="needs a freezer cgroup")
async def test_what_cannot_be_ended_is_named(warden: Warden, tmp_path: Path) -> None:
    cell = FREEZER / f"quiesce-{os.getpid()}"
    cell.mkdir()
    witness = tmp_path / "witness"
    try:
        with trio.fail_after(30):
            worker = await start_animal(warden, "has a child with a session", witness)
            grandchild = next(pid for pid in holders(witness) if pid != worker.pid)
            (cell / "cgroup.procs").write_text(str(grandchild))
            (cell / "freezer.state").write_text("FROZEN")

            began = trio.current_time()
            with pytest.raises(NotEnded) as caught:
                await worker.kill()
            assert caught.value.pids == (grandchild,)
            assert trio.current_time() - began == pytest.approx(ward.KILL_S, abs=1)
            assert not worker.exited.is_set()

            (cell / "freezer.state").write_text("THAWED")
            assert set(await worker.kill()) == {worker.pid, grandchild}
            assert holders(witness) == []
            worker.close_streams()
    finally:
        (cell / "freezer.state").write_text("THAWED")
        cell.rmdir()

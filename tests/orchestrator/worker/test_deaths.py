"""How workers end that nobody killed, in words."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from orchestrator.procfs import look_at
from orchestrator.worker import Death, WorkerSpec
from orchestrator.worker.values import in_words
from tests.orchestrator.worker.seen import ZOO, exists, start_animal

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.worker import Warden


async def death_of(warden: Warden, how: str, **limits: Any) -> Death:
    with trio.fail_after(20):
        spec = WorkerSpec(entry=f"{ZOO}:leave", argument=how, **limits)
        async with await warden.start(spec) as worker:
            await worker.exited.wait()
            assert worker.death is not None
            assert not exists(f"/proc/{worker.pid}")
            return worker.death


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code", "words"),
    [
        ("return", 0, "exited with code 0"),
        ("raise", 1, "exited with code 1"),
        ("exit", 4, "exited with code 4"),
        ("_exit", 3, "exited with code 3"),
    ],
)
async def test_an_exit(warden: Warden, how: str, code: int, words: str) -> None:
    death = await death_of(warden, how)
    assert (death.code, death.signal, death.words) == (code, None, words)
    assert death.left_behind == ()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "number", "words"),
    [
        ("segfault", signal.SIGSEGV, "was ended by SIGSEGV (segmentation fault)"),
        ("killed", signal.SIGKILL, "was killed (SIGKILL), most likely by somebody else"),
    ],
)
async def test_a_signal(warden: Warden, how: str, number: int, words: str) -> None:
    death = await death_of(warden, how)
    assert (death.code, death.signal) == (None, number)
    assert death.words.startswith(words)


@pytest.mark.slow
async def test_more_memory_than_it_may_have(warden: Warden) -> None:
    death = await death_of(warden, "memory", memory_mib=300)
    assert death.words == "ran out of memory: its limit is 300 MiB"
    assert death.code is not None


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("cpu", signal.SIGXCPU),
        pytest.param("cpu, ignored", signal.SIGKILL, marks=pytest.mark.slow),
    ],
)
async def test_more_processor_time_than_it_may_have(warden: Warden, how: str, number: int) -> None:
    death = await death_of(warden, how, cpu_s=1)
    assert death.signal == number
    assert death.words.startswith("used up its processor time of 1 s")
    assert death.cpu_s > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGKILL, "was killed (SIGKILL), most likely by somebody else on this machine"),
        (signal.SIGTERM, "was ended by SIGTERM (terminated)"),
    ],
)
async def test_an_order_that_comes_too_late_is_not_what_ended_it(
    warden: Warden, tmp_path: Path, number: int, words: str
) -> None:
    with trio.fail_after(20):
        async with await start_animal(warden, "sleeps", tmp_path / "witness") as worker:
            assert warden.pid is not None
            # So that it hears of the death and of the order at the same time.
            os.kill(warden.pid, signal.SIGSTOP)
            os.kill(worker.pid, number)
            while (seen := look_at(worker.pid)) is not None and not seen.ended:
                await trio.sleep(0.01)
            worker.begin_kill()
            await trio.testing.wait_all_tasks_blocked()
            os.kill(warden.pid, signal.SIGCONT)
            await worker.exited.wait()
    assert worker.death is not None
    assert worker.death.words == words
    assert worker.killed == ()


@pytest.mark.slow
async def test_what_it_left_behind_is_killed_and_named(warden: Warden) -> None:
    death = await death_of(warden, "daemon")
    assert death.code == 0
    assert len(death.left_behind) == 1
    assert not exists(f"/proc/{death.left_behind[0]}")


@pytest.mark.parametrize(
    ("status", "oom", "words"),
    [
        (-9, True, "was killed (SIGKILL), most likely by the kernel, since memory ran out"),
        (-6, False, "was ended by SIGABRT (aborted), perhaps at its limit of 9 MiB of memory"),
        (-34, False, "was ended by SIGRTMIN"),
        (-40, False, "was ended by signal 40"),
    ],
)
def test_rare_ends_in_words(status: int, oom: bool, words: str) -> None:
    spec = WorkerSpec(entry="a:b", memory_mib=9)
    said = in_words(spec, status, 0.0, asked=False, oom=oom)
    assert said.startswith(words)

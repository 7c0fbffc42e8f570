"""How workers come to be, and what they find."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from orchestrator.worker import WardenUnavailable, WorkerNotStarted, WorkerSpec, open_warden
from orchestrator.worker.kernel import NICENESS, stand_back_as_session
from tests.orchestrator.worker.seen import (
    PATH,
    ZOO,
    children,
    children_of,
    exists,
    names_in,
    open_fds,
    share_of,
    sleeping,
    start_animal,
)
from tests.orchestrator.worker.zoo import holders

if TYPE_CHECKING:
    from orchestrator.worker import Warden, WorkerProcess

SAY = f"{ZOO}:say"


async def report_of(worker: WorkerProcess) -> dict[str, Any]:
    """Return what a worker says that it sees."""
    said = b""
    while not said.endswith(b"\n"):
        chunk = await worker.control.receive_some()
        assert chunk, (await worker.stderr.receive_some()).decode()
        said += chunk
    report: dict[str, Any] = json.loads(said)
    return report


@pytest.fixture(params=[(), ("tests.orchestrator.worker.threaded",)], ids=["forked", "spawned"])
async def either(request: pytest.FixtureRequest) -> Any:
    """A warden that forks its workers, and one that must not."""
    async with open_warden(preload=request.param) as opened:
        await opened.ready()
        assert opened.forks == (request.param == ())
        yield opened


async def test_a_worker_has_what_it_was_given_and_nothing_else(
    either: Warden, tmp_path: Path
) -> None:
    env = {"ONE": "1", "EMPTY": "", "BYTES": "\udcff", "TEXT": "ä=b"}
    spec = WorkerSpec(entry=SAY, argument={"deep": [1, None, "ü"]}, env=env, cwd=tmp_path)
    with trio.fail_after(10):
        async with await either.start(spec) as worker:
            report = await report_of(worker)

    assert report["argument"] == {"deep": [1, None, "ü"]}
    assert report["env"] == env
    assert sorted(report["env_of_a_child"]) == sorted(f"{name}={env[name]}" for name in env)
    assert report["cwd"] == str(tmp_path)
    assert report["session"]
    assert report["threads"] == 1
    check_files(report["fds"])
    check_signals(report["status"])


def check_files(files: dict[str, str]) -> None:
    """It holds its own files only."""
    assert files["0"] == "/dev/null"
    assert files["1"].startswith("pipe:")
    assert files["2"].startswith("pipe:")
    assert files["1"] != files["2"]
    assert files["3"].startswith("socket:")
    assert set(files) == {"0", "1", "2", "3"}


def check_signals(status: str) -> None:
    """Signals have their defaults."""
    fields = (line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    masks = {name: int(mask.replace("/", ""), 16) for name, mask in fields}
    assert masks["SigBlk"] == 0
    # As in any Python: SIGPIPE is ignored, SIGINT is a KeyboardInterrupt. SIGXFSZ differs among
    # Pythons, and signals 32 and 33 belong to the C library, which lets nobody set them.
    assert masks["SigIgn"] & ~(1 << 24 | 0b11 << 31) == 1 << 12
    assert masks["SigCgt"] == 1 << 1


async def test_a_worker_stands_back_and_its_warden_does_not(either: Warden) -> None:
    """Whatever it does, who is to stop it gets a processor first."""
    assert either.pid is not None
    with trio.fail_after(10):
        async with await either.start(WorkerSpec(entry=SAY, env={})) as worker:
            await report_of(worker)
            ours = os.getpriority(os.PRIO_PROCESS, 0)
            assert os.getpriority(os.PRIO_PROCESS, worker.pid) == min(ours + NICENESS, 19)
            assert os.getpriority(os.PRIO_PROCESS, either.pid) == ours
            while share_of(worker.pid) not in (NICENESS, None):
                await trio.sleep(0.01)
            assert share_of(either.pid) == share_of(os.getpid())


def test_who_shares_a_session_with_others_does_not_stand_back_for_it() -> None:
    with sleeping() as process:
        before = share_of(process.pid)
        assert not stand_back_as_session(process.pid)
        assert share_of(process.pid) == before
    assert stand_back_as_session(process.pid)


async def test_a_folder_of_its_own_is_empty_and_removed(either: Warden) -> None:
    with trio.fail_after(10):
        async with await either.start(WorkerSpec(entry=SAY)) as worker:
            folder = Path((await report_of(worker))["cwd"])
            assert names_in(folder) == ["made here"]
        while exists(folder):
            await trio.sleep(0.01)
        assert exists(folder.parent)
        await either.aclose()
        assert not exists(folder.parent)


async def test_a_folder_that_was_given_stays(warden: Warden, tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with await warden.start(WorkerSpec(entry=SAY, cwd=tmp_path)) as worker:
            await report_of(worker)
        await warden.aclose()
    assert (tmp_path / "made here").exists()


async def test_output_arrives(either: Warden) -> None:
    spec = WorkerSpec(entry=f"{ZOO}:leave", argument="return")
    with trio.fail_after(10):
        async with await either.start(spec) as worker:
            assert b"".join([chunk async for chunk in worker.stdout]) == b"the last words\n"
            await worker.exited.wait()
            assert worker.death is not None
            assert worker.death.code == 0
            assert worker.death.words == "exited with code 0"


async def test_modules_are_loaded_beforehand() -> None:
    name = "tests.orchestrator.worker.loaded"
    with trio.fail_after(10):
        async with (
            open_warden(preload=[name]) as warden,
            await warden.start(WorkerSpec(entry=SAY, argument=name)) as worker,
        ):
            assert (await report_of(worker))["preloaded"] is True
    assert name not in sys.modules


async def test_a_module_that_cannot_be_loaded_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with trio.fail_after(10):
        async with (
            open_warden(preload=["no.such.module"]) as warden,
            await warden.start(WorkerSpec(entry=SAY)) as worker,
        ):
            await report_of(worker)
    assert "cannot load no.such.module: ModuleNotFoundError" in caplog.text


async def test_an_entry_that_cannot_be_imported_is_told_on_stderr(warden: Warden) -> None:
    with trio.fail_after(10):
        async with await warden.start(WorkerSpec(entry="no.such:entry")) as worker:
            said = b"".join([chunk async for chunk in worker.stderr])
            await worker.exited.wait()
    assert b"ModuleNotFoundError: No module named 'no'" in said
    assert worker.death is not None
    assert worker.death.code == 1


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"entry": "module"}, "module:function"),
        ({"entry": "a:b", "memory_mib": 0}, "memory_mib must be at least 1"),
        ({"entry": "a:b", "cpu_s": -1}, "cpu_s must be at least 1"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        WorkerSpec(**fields)


async def test_an_argument_that_is_no_json_takes_no_slot() -> None:
    with trio.fail_after(10):
        async with open_warden(max_workers=1) as warden:
            with pytest.raises(TypeError, match="not JSON serializable"):
                await warden.start(WorkerSpec(entry=SAY, argument=object()))
            async with await warden.start(WorkerSpec(entry=SAY)) as worker:
                await report_of(worker)


async def test_an_argument_may_be_large(warden: Warden) -> None:
    argument = "x" * 10_000_000
    with trio.fail_after(20):
        async with await warden.start(WorkerSpec(entry=SAY, argument=[argument])) as worker:
            assert (await report_of(worker))["argument"] == [argument]


@pytest.mark.slow
async def test_fifty_start_at_once_and_no_file_stays_open(warden: Warden, tmp_path: Path) -> None:
    await trio.to_thread.run_sync(lambda: None)
    before = open_fds()

    async def live(number: int) -> None:
        witness = tmp_path / str(number)
        async with await start_animal(warden, "has a daemon", witness) as worker:
            assert worker.pid in holders(witness)

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(live, number)
        # Folders are still being removed.
        while open_fds() != before:
            await trio.sleep(0.01)

    assert not any(holders(tmp_path / name) for name in names_in(tmp_path))


async def test_so_many_and_no_more(tmp_path: Path) -> None:
    with trio.fail_after(10):
        async with open_warden(max_workers=2) as warden, trio.open_nursery() as nursery:
            first, second = [
                await start_animal(warden, "has a daemon", tmp_path / str(n)) for n in range(2)
            ]
            third: list[WorkerProcess] = []

            async def start_third() -> None:
                third.append(await start_animal(warden, "sleeps", tmp_path / "2"))

            with trio.move_on_after(0.1) as waiting:
                await start_third()
            assert waiting.cancelled_caught
            nursery.start_soon(start_third)
            await trio.testing.wait_all_tasks_blocked(0.05)
            assert not third

            await first.kill()
            while not third:
                await trio.sleep(0.01)
            assert holders(tmp_path / "2") == [third[0].pid]
            for worker in (first, second, third[0]):
                await worker.aclose()


async def test_a_start_that_is_cancelled_leaves_nothing(warden: Warden, tmp_path: Path) -> None:
    spec = WorkerSpec(
        entry=f"{ZOO}:animal",
        argument={"kind": "has a daemon", "witness": str(tmp_path / "witness")},
        env=PATH,
    )
    assert warden.pid is not None
    before, mine = open_fds(), children()
    with trio.fail_after(20):
        for wait_s in [0, 0, 0, *(n / 2000 for n in range(20))]:
            with trio.move_on_after(wait_s):
                worker = await warden.start(spec)
                await worker.aclose()
        async with await warden.start(WorkerSpec(entry=SAY)) as last:
            await report_of(last)
        while children_of(warden.pid):
            await trio.sleep(0.01)
        assert holders(tmp_path / "witness") == []
        while open_fds() != before:
            await trio.sleep(0.01)
    assert children() == mine


async def test_nothing_is_started_once_it_is_closed(warden: Warden) -> None:
    await warden.aclose()
    with pytest.raises(WardenUnavailable, match="closed"):
        await warden.start(WorkerSpec(entry=SAY))


async def test_a_start_that_waits_ends_with_the_warden(tmp_path: Path) -> None:
    refused: list[str] = []

    async def start_another() -> None:
        try:
            await warden.start(WorkerSpec(entry=SAY))
        except (WardenUnavailable, WorkerNotStarted) as error:
            refused.append(str(error))

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery, open_warden(max_workers=1) as warden:
            worker = await start_animal(warden, "sleeps", tmp_path / "witness")
            nursery.start_soon(start_another)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await warden.aclose()
            worker.close_streams()
    assert len(refused) == 1


async def test_an_error_in_the_body_is_not_wrapped(tmp_path: Path) -> None:
    async def fail() -> None:
        async with open_warden() as warden:
            worker = await start_animal(warden, "spins", tmp_path / "witness")
            worker.close_streams()
            raise LookupError("mine")

    with trio.fail_after(10), pytest.raises(LookupError, match="mine"):
        await fail()
    assert holders(tmp_path / "witness") == []


async def test_a_cancelled_body_ends_its_workers(tmp_path: Path) -> None:
    with trio.fail_after(10), trio.CancelScope() as scope:
        async with open_warden() as warden:
            worker = await start_animal(warden, "ignores signals", tmp_path / "witness")
            worker.close_streams()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert holders(tmp_path / "witness") == []


async def test_nothing_is_started_before_it_is_needed() -> None:
    before = children()
    async with open_warden() as warden:
        assert warden.pid is None
        assert children() == before


async def test_a_warden_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_warden() as warden:
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        with trio.fail_after(10), pytest.raises(WardenUnavailable, match="No such file"):
            await warden.start(WorkerSpec(entry=SAY))


async def test_a_system_without_the_means_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    monkeypatch.delattr(os, "pidfd_open")
    with pytest.raises(WardenUnavailable, match=r"Linux 5\.4 .*, a Python interpreter"):
        async with open_warden():
            pass

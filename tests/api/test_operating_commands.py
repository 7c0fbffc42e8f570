"""The commands for whoever operates a server, against a real one."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from api.client import Client
from orchestrator import RunStatus
from tests.api.processes import invoke, quiesce

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AGENTS = '''
from orchestrator import Context, agent

@agent
async def wait(ctx: Context, seconds: float = 3600) -> None:
    """Wait."""
    await ctx.sleep(seconds)
'''


@contextmanager
def serving(folder: Path, *flags: str) -> Iterator[Client]:
    """A server process on the store of the folder, ended in good order."""
    (folder / "mine.py").write_text(AGENTS)
    arguments = ["serve", "--agents", "mine.py", "--port", "0", "--store", "sqlite:///runs.db"]
    with quiesce(*arguments, *flags, cwd=folder) as process:
        url = process.until("listening on ").removeprefix("listening on ").strip()
        with Client(url) as client, pytest.MonkeyPatch.context() as patch:
            patch.setenv("QUIESCE_SERVER", url)
            yield client
        process.signal(signal.SIGTERM)
        assert process.end() == 0, process.said


def test_everything_is_halted_and_the_halt_outlives_the_server(tmp_path: Path) -> None:
    with serving(tmp_path, "--max-running", "1") as client:
        runs = [client.start("wait").id for _ in range(2)]
        code, said = invoke("halt", "--reason", "fire")
        assert code == 0
        assert said.splitlines()[0] == "halted: 2 runs are being stopped"
        shown = {f"■ stopped wait {run_id}" for run_id in runs}
        assert set(said.splitlines()[1:]) == shown
        halt = client.halted()
        assert (halt["halt"]["reason"], halt["live"]) == ("fire", 0)
    with serving(tmp_path) as client:
        assert client.halted()["halt"] == halt["halt"]
        assert invoke("halt", "--lift") == (0, "lifted: runs may start again\n")
        assert client.halted()["halt"] is None
        assert client.wait(client.start("wait", {"seconds": 0}).id).record.result is None


def test_a_lift_takes_nothing_that_is_for_a_halt(tmp_path: Path) -> None:
    with serving(tmp_path):
        code, said = invoke("halt", "--lift", "--reason", "over")
    assert (code, said) == (
        2,
        "Error: --reason: is for a halt; --lift takes none of its options\n",
    )


def test_runs_that_wait_outlive_a_server_that_shuts_down(tmp_path: Path) -> None:
    with serving(tmp_path, "--max-running", "1") as client:
        running = client.start("wait").id
        waiting = client.start("wait", {"seconds": 0}).id
        delayed = client.start("wait", {"seconds": 0}, {"start_after_s": 0.5}).id
    with serving(tmp_path) as client:
        assert client.get(running).record.status is RunStatus.STOPPED
        for run_id in (waiting, delayed):
            assert client.wait(run_id).record.status is RunStatus.SUCCEEDED

"""The commands for whoever operates a server, against a real one."""

from __future__ import annotations

import json
import re
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

# Real processes of the command, one after the other.
pytestmark = pytest.mark.slow

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


def test_schedules_are_added_listed_paused_resumed_and_removed(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        assert invoke("schedule", "ls") == (0, "no schedules\n")
        add = ["schedule", "add", "wait", "seconds=0", "--cron", "0 0 1 1 *", "--id", "rarely"]
        code, said = invoke(*add, "--zone", "Europe/Berlin", "--options", '{"priority": 3}')
        assert code == 0
        assert re.fullmatch(r"rarely starts wait: next at \d{4}-12-31T23:00:00.000Z\n", said)
        (kept,) = client.schedules()
        assert (kept["input"], kept["options"]) == ({"seconds": 0}, {"priority": 3})
        code, said = invoke("schedule", "ls")
        assert code == 0
        assert "Europe/Berlin" in said
        assert json.loads(invoke("schedule", "ls", "--json")[1]) == {"schedules": [kept]}
        code, said = invoke(*add)
        assert (code, said.count("\n")) == (2, 1)
        assert "is there already" in said
        assert invoke("schedule", "pause", "rarely") == (0, "rarely starts wait: paused\n")
    with serving(tmp_path) as client:
        assert client.schedules()[0]["paused"]
        assert invoke("schedule", "resume", "rarely")[1].startswith("rarely starts wait: next at")
        assert invoke("schedule", "rm", "rarely") == (0, "rarely is gone\n")
        code, said = invoke("schedule", "rm", "rarely")
        assert (code, said) == (2, "Error: no schedule has the id 'rarely'\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "wait", "--cron", "often"], "cron: 'often' is no cron expression"),
        (["add", "wait", "--cron", "* * * * *", "--zone", "Mars"], "zone: 'Mars' is no time zone"),
        (["add", "wait", "--cron", "* * * * *", "--options", "5"], "--options: '5' is not a JSON"),
        (["pause", "nothing"], "no schedule has the id 'nothing'"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_line(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    with serving(tmp_path):
        code, told = invoke("schedule", *arguments)
    assert (code, told.count("\n")) == (2, 1)
    assert said in told

"""A server process and its end, by signal."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = """
import sys, trio
from functools import partial
from api.service import serve_forever
from tests.api.agents import ALL
sys.exit(trio.run(partial(
    serve_forever, store=sys.argv[1], agents=ALL, host="127.0.0.1", port=0,
    grace_s=float(sys.argv[2]), announce=partial(print, flush=True),
)))
"""


class Server:
    """A server in a process of its own."""

    def __init__(self, store: str, grace_s: float, *before: str) -> None:
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", SERVER, store, str(grace_s)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            text=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.client = httpx.Client(base_url=self.url, timeout=20)

    def start(self, agent: str, **input: Any) -> str:
        answer = self.client.post("/runs", json={"agent": agent, "input": input})
        assert answer.status_code == 201, answer.text
        run_id: str = answer.json()["id"]
        return run_id

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> tuple[int, str]:
        """Return the exit code and what was written to stderr."""
        _, err = self.process.communicate(timeout=20)
        return self.process.returncode, err


@contextmanager
def running(store: Path, grace_s: float = 10, before: tuple[str, ...] = ()) -> Iterator[Server]:
    server = Server(f"sqlite:///{store}", grace_s, *before)
    try:
        yield server
    finally:
        server.client.close()
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


def statuses(store: Path, *run_ids: str) -> list[str]:
    """Return what a next process finds in the store."""
    with running(store) as server:
        found = [server.client.get(f"/runs/{each}").json()["status"] for each in run_ids]
        server.signal(signal.SIGTERM)
        assert server.wait()[0] == 0
    return found


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_every_run_and_exits_0(tmp_path: Path, number: int) -> None:
    with running(tmp_path / "runs.db") as server:
        sleeping, working = server.start("sleeper"), server.start("busy", seconds=0.5)
        server.signal(number)
        code, err = server.wait()

    assert (code, err) == (0, "")
    assert statuses(tmp_path / "runs.db", sleeping, working) == ["stopped", "stopped"]


@pytest.mark.slow
def test_under_nohup_the_end_of_the_terminal_ends_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "runs.db", before=("nohup",)) as server:
        server.signal(signal.SIGHUP)
        run_id = server.start("sleeper")
        server.signal(signal.SIGTERM)
        assert server.wait()[0] == 0
    assert statuses(tmp_path / "runs.db", run_id) == ["stopped"]


@pytest.mark.slow
def test_the_end_of_a_terminal_hurries_nothing_however_often_it_is_told(tmp_path: Path) -> None:
    with running(tmp_path / "runs.db") as server:
        run_id = server.start("busy", seconds=1)
        with server.client.stream("GET", f"/runs/{run_id}/events") as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line == "event: operation.started")
            server.signal(signal.SIGHUP)
            next(line for line in lines if line == "event: run.stopping")
            server.signal(signal.SIGHUP)
            assert "event: operation.finished" in list(lines)
        assert server.wait()[0] == 0


@pytest.mark.slow
def test_a_draining_server_refuses_starts_and_shows_the_end(tmp_path: Path) -> None:
    with running(tmp_path / "runs.db") as server:
        run_id = server.start("busy", seconds=1)
        with server.client.stream("GET", f"/runs/{run_id}/events") as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line == "event: operation.started")
            server.signal(signal.SIGTERM)
            next(line for line in lines if line == "event: run.stopping")
            refused = server.client.post("/runs", json={"agent": "sleeper"})
            rest = [line for line in lines if line.startswith("event: ")]
        code, _ = server.wait()

    assert refused.status_code == 503
    assert rest == ["event: operation.finished", "event: run.stopped", "event: snapshot"]
    assert code == 0


@pytest.mark.slow
def test_a_second_signal_hurries(tmp_path: Path) -> None:
    with running(tmp_path / "runs.db", grace_s=600) as server:
        run_id = server.start("busy")
        with server.client.stream("GET", f"/runs/{run_id}/events") as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line == "event: operation.started")
            server.signal(signal.SIGTERM)
            next(line for line in lines if line == "event: run.stopping")
            server.signal(signal.SIGTERM)
            assert "event: operation.cut" in list(lines)
        code, _ = server.wait()

    assert code == 0
    assert statuses(tmp_path / "runs.db", run_id) == ["stopped"]


@pytest.mark.slow
def test_a_run_that_will_not_exit_is_recorded_and_does_not_keep_the_process(
    tmp_path: Path,
) -> None:
    with running(tmp_path / "runs.db") as server:
        body = {"agent": "shielded", "options": {"cleanup_s": 0.3}}
        run_id = server.client.post("/runs", json=body).json()["id"]
        server.signal(signal.SIGTERM)
        code, err = server.wait()

    assert code == 0
    assert run_id in err
    assert "agents.py:" in err
    assert statuses(tmp_path / "runs.db", run_id) == ["abandoned"]


@pytest.mark.slow
def test_a_stop_on_record_outlives_a_kill(tmp_path: Path) -> None:
    with running(tmp_path / "runs.db") as server:
        stopping, live = server.start("busy"), server.start("sleeper")
        answer = server.client.post(f"/runs/{stopping}/stop", json={"grace_s": 600})
        assert answer.status_code == 202
        server.process.kill()
        server.wait()

    assert statuses(tmp_path / "runs.db", stopping, live) == ["stopped", "lost"]

"""``quiesce exec``: real commands in real processes, real signals, real exit codes."""

from __future__ import annotations

import os
import re
import select
import signal
from typing import TYPE_CHECKING, Any

import pytest

from api.commands.exec import environment, exit_code, number_of
from orchestrator import InvalidInput, RunError, RunId, RunRecord, RunStatus
from tests.api.processes import invoke, quiesce
from tests.orchestrator.agents.commanding import alive

if TYPE_CHECKING:
    from pathlib import Path

    from tests.api.processes import Process

# Real processes of the command, one after the other.
pytestmark = pytest.mark.slow

LOOP = "while :; do sleep 0.02; done"


def run_id_in(process: Process) -> str:
    """Read up to the run's id, and return it."""
    match = re.search(r"run_[0-9a-f]{20}", process.until("queued as"))
    assert match is not None
    return match[0]


# In this process


def test_its_environment_is_ours_by_name_and_what_is_given_by_value() -> None:
    own = ["PATH", "HOME", "bad\udcff", ""]
    assert environment(own, ["A=1", "HOME=/x=y", "B="]) == {
        "PATH": None,
        "HOME": "/x=y",
        "A": "1",
        "B": "",
    }
    for wrong in ("A", "=1", ""):
        with pytest.raises(InvalidInput, match="is not NAME=VALUE"):
            environment([], [wrong])


@pytest.mark.parametrize(
    ("status", "error", "ending", "code"),
    [
        (RunStatus.SUCCEEDED, None, {"exit_code": 0, "signal": None}, 0),
        (RunStatus.FAILED, "CommandFailed", {"exit_code": 3, "signal": None}, 3),
        (RunStatus.FAILED, "CommandFailed", {"exit_code": None, "signal": "SIGTERM"}, 143),
        (RunStatus.FAILED, "CommandFailed", {"exit_code": None, "signal": "signal 40"}, 168),
        (RunStatus.FAILED, "CommandTimedOut", {"exit_code": 0, "timed_out": True}, 124),
        (RunStatus.FAILED, "CommandNotStarted", None, 127),
        (RunStatus.FAILED, "ValueError", None, 1),
        (RunStatus.STOPPED, None, {"exit_code": 0, "signal": None}, 130),
        (RunStatus.LOST, None, None, 1),
    ],
)
def test_exit_codes(
    status: RunStatus, error: str | None, ending: dict[str, Any] | None, code: int
) -> None:
    run_id = RunId("run_0")
    record = RunRecord(
        id=run_id,
        root_id=run_id,
        agent="command",
        status=status,
        created_at="",
        error=None if error is None else RunError(type=error, message="", traceback=""),
    )
    assert exit_code(record, ending) == code


def test_signals_have_numbers() -> None:
    assert number_of("SIGKILL") == 9
    assert number_of("signal 40") == 40


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument"),
        (["--env", "X", "ls"], "--env: 'X' is not NAME=VALUE"),
        (["--timeout-s", "0", "ls"], "input.timeout_s"),
        (["--grace-s", "-1", "ls"], "options.grace_s"),
        (["--store", "nosuch://", "ls"], "names no store"),
        (["--stdin", "/no/such", "ls"], "No such file"),
    ],
)
def test_what_cannot_begin_is_said(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    code, output = invoke("exec", *arguments)
    assert code == 2
    assert said in output


def test_what_it_reads_has_to_be_text(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"\xff")
    code, output = invoke("exec", "--stdin", str(tmp_path / "data"), "cat")
    assert code == 2
    assert "--stdin: is not text" in output


# In a process of its own


def test_what_a_command_says_is_shown_and_its_exit_code_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo hello; echo oops >&2; pwd; echo $MINE $OURS; cat; exit 7"
    arguments = ["--env", "MINE=a", "--stdin", "in.txt", "--", "sh", "-c", script]
    (tmp_path / "in.txt").write_text("what it reads\n")
    monkeypatch.setenv("OURS", "b")
    with quiesce("exec", *arguments, cwd=tmp_path) as process:
        assert process.end() == 7
    for line in ("hello", "oops", str(tmp_path), "a b", "what it reads"):
        assert f"command  {line}\n" in process.said
    assert "failed: CommandFailed: sh exited with code 7; it said last on stderr: oops" in (
        process.said
    )
    assert "Traceback" not in process.said


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "kill -USR1 $$"], 128 + signal.SIGUSR1),
        (["nosuch-program"], 127),
        (["--cwd", "nosuch", "ls"], 127),
        (["--timeout", "0.2", "sleep", "60"], 124),
        (["sh", "-c", "exit $#", "--", "--env", "--cwd"], 2),
        (["grep", "-q", "x", "/dev/null"], 1),
        (["--", "sh", "-c", "exit 2"], 2),
    ],
)
def test_other_ends(tmp_path: Path, arguments: list[str], code: int) -> None:
    with quiesce("exec", *arguments, cwd=tmp_path) as process:
        assert process.end() == code


def test_ctrl_c_interrupts_the_command(tmp_path: Path) -> None:
    script = f"trap 'echo cleaned up; exit 9' INT; echo ready; {LOOP}"
    with quiesce("exec", "sh", "-c", script, cwd=tmp_path) as process:
        run_id = run_id_in(process)
        process.until("ready")
        process.signal()
        assert process.end() == 130
    assert "command  cleaned up\n" in process.said
    assert '"signal": "SIGINT"' in process.said
    assert "graceful" in process.said
    assert alive(run_id) == []


def test_each_ctrl_c_is_a_rung(tmp_path: Path) -> None:
    script = f"trap '' INT TERM; echo ready; {LOOP}"
    with quiesce("exec", "sh", "-c", script, cwd=tmp_path) as process:
        run_id = run_id_in(process)
        process.until("ready")
        process.signal()
        process.until('"signal": "SIGINT"')
        process.signal()
        process.until('"signal": "SIGTERM"')
        assert alive(run_id) != []
        process.signal()
        assert process.end() == 130
    assert alive(run_id) == []


def test_the_end_of_quiesce_itself_ends_the_command(tmp_path: Path) -> None:
    with quiesce("exec", "sh", "-c", f"trap '' TERM; echo ready; {LOOP}", cwd=tmp_path) as process:
        run_id = run_id_in(process)
        process.until("ready")
        (pid, *_) = alive(run_id)
        end = os.pidfd_open(pid)
        process.signal(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL
        ended, _, _ = select.select([end], [], [], 10)
        os.close(end)
        assert ended == [end]
    assert alive(run_id) == []

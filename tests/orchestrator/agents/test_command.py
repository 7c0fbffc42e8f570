"""Any program as a run: what it says, how it ends, and what it is given."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
import trio

from orchestrator import InvalidInput, Orchestrator, RunStatus
from orchestrator.agents._command import attending
from orchestrator.agents.command import command
from orchestrator.worker.kernel import NICENESS
from tests.docs.pages import DOCS, rows_of
from tests.orchestrator.agents.commanding import BOUND_S, alive, begun, finished, lines, told
from tests.orchestrator.worker.seen import share_of

if TYPE_CHECKING:
    from pathlib import Path

ALL_INPUTS = list(command.input_schema["properties"])


@pytest.fixture(params=["task", "process"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Where the agent runs."""
    kind: str = request.param
    return kind


def without_seconds(summary: Any) -> dict[str, Any]:
    assert 0 <= summary["seconds"] < 20
    return {name: value for name, value in summary.items() if name != "seconds"}


# What it says


async def test_each_line_is_an_event_and_the_result_counts_them(
    orchestrator: Orchestrator, isolation: str
) -> None:
    script = "echo one; echo; printf 'two\\r\\n'; echo oops >&2; printf three"
    record = await finished(orchestrator, "sh", "-c", script, isolation=isolation)
    assert record.status is RunStatus.SUCCEEDED
    assert without_seconds(record.result) == {
        "exit_code": 0,
        "signal": None,
        "timed_out": False,
        "lines": {"stdout": 4, "stderr": 1},
        "left_out": 0,
        "stdout_tail": "one\n\ntwo\nthree",
        "stderr_tail": "oops",
    }
    said = await lines(orchestrator, record.id)
    assert [text for level, text in said if level == "info"] == ["one", "", "two", "three"]
    assert [text for level, text in said if level == "warning"] == ["oops"]
    (ending,) = await told(orchestrator, record.id, "command.exited")
    assert (ending["exit_code"], ending["signal"]) == (0, None)
    assert await orchestrator.partial(record.id) is None


async def test_the_command_is_one_operation(orchestrator: Orchestrator) -> None:
    record = await finished(orchestrator, "echo", "a b")
    (started,) = await told(orchestrator, record.id, "operation.started")
    (ended,) = await told(orchestrator, record.id, "operation.finished")
    assert (started["kind"], started["label"]) == ("command", "echo 'a b'")
    assert ended["error"] is None


@pytest.mark.slow
async def test_all_that_is_in_the_pipes_at_the_end_is_told(
    orchestrator: Orchestrator, isolation: str
) -> None:
    record = await finished(orchestrator, "seq", "20000", isolation=isolation)
    said = await lines(orchestrator, record.id)
    assert [text for _, text in said] == [str(n + 1) for n in range(20_000)]


async def test_a_long_line_comes_in_pieces(orchestrator: Orchestrator) -> None:
    script = "head -c 20000 /dev/zero | tr '\\0' x; echo; echo after"
    record = await finished(orchestrator, "sh", "-c", script)
    said = [text for _, text in await lines(orchestrator, record.id)]
    assert "".join(said[:-1]) == "x" * 20_000
    assert max(map(len, said)) <= 8_192
    assert said[-1] == "after"
    assert record.result["lines"]["stdout"] == 2


@pytest.mark.slow
async def test_output_that_is_no_text_does_no_harm(
    orchestrator: Orchestrator, isolation: str
) -> None:
    script = "head -c 1000000 /dev/urandom; printf '\\nCaf\\303\\251 \\377 \\000 end'"
    record = await finished(orchestrator, "sh", "-c", script, isolation=isolation)
    assert record.status is RunStatus.SUCCEEDED
    assert (await lines(orchestrator, record.id))[-1][1] == "Café \ufffd \0 end"


@pytest.mark.slow
async def test_a_flood_neither_fills_the_memory_nor_hides_its_end(
    orchestrator: Orchestrator,
) -> None:
    before = resident_mib()
    record = await finished(orchestrator, "sh", "-c", "yes | head -c 100000000; echo last")
    assert record.status is RunStatus.SUCCEEDED
    assert record.result["lines"]["stdout"] == 50_000_001
    assert record.result["stdout_tail"].endswith("y\nlast")
    assert resident_mib() - before < 150
    said = await lines(orchestrator, record.id)
    level, gap = next(line for line in said if line[1] != "y")
    assert level == "warning"
    assert gap.endswith("lines were left out here: they came too fast")
    left_out = [int(text.split()[0]) for _, text in said if text.endswith("too fast")]
    assert sum(left_out) == record.result["left_out"]
    ordinary = [text for _, text in said if text in ("y", "last")]
    assert len(ordinary) + sum(left_out) == 50_000_001


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


async def test_streams_may_be_closed_early(orchestrator: Orchestrator) -> None:
    script = "echo a; exec 1>&- 2>&-; sleep 0.2; exit 4"
    record = await finished(orchestrator, "sh", "-c", script)
    assert record.error is not None
    assert record.error.message == "sh exited with code 4; it said nothing on stderr"


# Lines with a meaning


async def test_lines_that_are_json_objects_are_understood(
    orchestrator: Orchestrator, isolation: str
) -> None:
    said = [
        {"progress": 40, "message": "well on"},
        {"log": "careful", "level": "error", "at": "12:00"},
        {"partial": {"found": [1, 2]}},
        {"artifact": "a.txt", "data": "Café\n"},
        {"artifact": "a.txt", "data": "more", "append": True},
        {"artifact": "b.bin", "base64": "AAEC", "media_type": "image/x-own"},
        {"progress": 60, "partial": 3, "log": "all at once"},
    ]
    text = "\n".join(map(json.dumps, said))
    record = await finished(orchestrator, "cat", stdin=text, isolation=isolation)
    progress = await told(orchestrator, record.id, "run.progress")
    assert progress == [
        {"percent": 40, "message": "well on"},
        {"percent": 60, "message": ""},
    ]
    assert await lines(orchestrator, record.id) == [("error", "careful"), ("info", "all at once")]
    assert await orchestrator.partial(record.id) == 3
    assert await orchestrator.artifact(record.id, "a.txt") == "Café\nmore".encode()
    assert await orchestrator.artifact(record.id, "b.bin") == b"\0\1\2"
    assert record.result["lines"]["stdout"] == len(said)
    assert record.result["stdout_tail"] == ""


JUST_LINES = [
    "{",
    "{}",
    '{"message": "progress"}',
    '{"progress": 101}',
    '{"progress": "40"}',
    '{"progress": true}',
    '{"progress": null}',
    '{"progress": NaN}',
    '{"log": 1}',
    '{"log": "x", "level": "loud"}',
    '{"log": "\\ud800"}',
    '{"partial": Infinity}',
    '{"artifact": "a"}',
    '{"artifact": "a", "data": "x", "base64": "AAEC"}',
    '{"artifact": "a", "base64": "!"}',
    '{"artifact": "../a", "data": "x", "progress": 40}',
    '["progress", 40]',
    ' {"progress": 40}',
    '{"partial": ' + "[" * 3000,
]


async def test_a_malformed_one_is_just_a_line(orchestrator: Orchestrator) -> None:
    record = await finished(orchestrator, "cat", stdin="\n".join(JUST_LINES))
    assert [text for _, text in await lines(orchestrator, record.id)] == JUST_LINES
    assert await told(orchestrator, record.id, "run.progress") == []
    assert await orchestrator.artifacts(record.id) == []
    assert await orchestrator.partial(record.id) is None


async def test_what_stderr_says_is_a_line_whatever_it_is(orchestrator: Orchestrator) -> None:
    record = await finished(orchestrator, "sh", "-c", """echo '{"progress": 4}' >&2""")
    assert await lines(orchestrator, record.id) == [("warning", '{"progress": 4}')]


async def test_a_file_may_come_in_one_long_line(orchestrator: Orchestrator) -> None:
    text = json.dumps({"artifact": "big", "data": "x" * 1_000_000})
    record = await finished(orchestrator, "cat", stdin=text + "\nafter")
    assert await orchestrator.artifact(record.id, "big") == b"x" * 1_000_000
    assert await lines(orchestrator, record.id) == [("info", "after")]


# How it ends


async def test_an_exit_code_is_a_failure_that_says_why(
    orchestrator: Orchestrator, isolation: str
) -> None:
    script = "echo out; for n in $(seq 20); do echo line $n >&2; done; exit 3"
    record = await finished(orchestrator, "sh", "-c", script, isolation=isolation)
    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert record.error.type == "CommandFailed"
    last = "\n".join(f"line {n}" for n in range(11, 21))
    assert record.error.message == f"sh exited with code 3; it said last on stderr:\n{last}"
    summary = await orchestrator.partial(record.id)
    assert (summary["exit_code"], summary["signal"]) == (3, None)
    assert summary["stdout_tail"] == "out"


@pytest.mark.slow
async def test_a_signal_is_a_failure_that_names_it(
    orchestrator: Orchestrator, isolation: str
) -> None:
    record = await finished(orchestrator, "sh", "-c", "kill -USR1 $$", isolation=isolation)
    assert record.error is not None
    assert record.error.message == "sh was ended by SIGUSR1; it said nothing on stderr"
    (ending,) = await told(orchestrator, record.id, "command.exited")
    assert (ending["exit_code"], ending["signal"]) == (None, "SIGUSR1")


async def test_a_partial_result_of_its_own_is_kept(orchestrator: Orchestrator) -> None:
    script = """echo '{"partial": "mine"}'; exit 1"""
    record = await finished(orchestrator, "sh", "-c", script)
    assert await orchestrator.partial(record.id) == "mine"


async def test_its_time_limit_ends_it(orchestrator: Orchestrator, isolation: str) -> None:
    argv = ["sh", "-c", "trap 'echo bye; exit 0' TERM; while :; do sleep 0.02; done"]
    record = await finished(orchestrator, *argv, timeout_s=0.5, isolation=isolation)
    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert record.error.type == "CommandTimedOut"
    assert record.error.message.startswith("sh was not done within 0.5 s, and exited with code 0;")
    assert ("info", "bye") in await lines(orchestrator, record.id)
    assert [told["signal"] for told in await told_signals(orchestrator, record.id)] == ["SIGTERM"]
    assert alive(record.id) == []


async def test_its_time_limit_ends_it_for_certain(orchestrator: Orchestrator) -> None:
    argv = ["sh", "-c", "trap '' TERM; while :; do sleep 0.02; done"]
    record = await finished(orchestrator, *argv, timeout_s=0.1, cleanup_s=0.4)
    assert record.error is not None
    assert record.error.message.startswith("sh was not done within 0.1 s, and was ended by SIGKILL")
    assert alive(record.id) == []


async def told_signals(orchestrator: Orchestrator, run_id: Any) -> list[dict[str, Any]]:
    return await told(orchestrator, run_id, "command.signalled")


async def test_a_time_limit_that_is_not_reached_changes_nothing(
    orchestrator: Orchestrator,
) -> None:
    record = await finished(orchestrator, "true", timeout_s=20)
    assert record.status is RunStatus.SUCCEEDED
    assert record.result["timed_out"] is False


# What it leaves behind


@pytest.mark.slow
async def test_what_it_leaves_behind_is_ended(orchestrator: Orchestrator, isolation: str) -> None:
    script = "sleep 1000 >/dev/null 2>&1 & (trap '' TERM; sleep 1000) >/dev/null 2>&1 & echo x"
    record = await finished(orchestrator, "sh", "-c", script, isolation=isolation)
    assert record.status is RunStatus.SUCCEEDED
    assert alive(record.id) == []
    level, text = (await lines(orchestrator, record.id))[-1]
    assert level == "warning"
    assert "processes behind when it exited, which are ended now" in text


@pytest.mark.slow
async def test_a_grandchild_that_holds_the_pipes_holds_the_run_for_a_moment_only(
    orchestrator: Orchestrator,
) -> None:
    began = trio.current_time()
    record = await finished(orchestrator, "sh", "-c", "yes in the background & echo x")
    took = trio.current_time() - began
    assert record.status is RunStatus.SUCCEEDED
    assert attending.LINGER_S <= took < attending.LINGER_S + attending.LEFT_BEHIND_S + 5
    assert alive(record.id) == []


@pytest.mark.slow
async def test_one_in_a_session_of_its_own_does_so_too(
    orchestrator: Orchestrator, isolation: str
) -> None:
    script = "setsid sh -c 'sleep 60; :' & sleep 0.2; echo x; exit 5"
    record = await finished(orchestrator, "sh", "-c", script, isolation=isolation)
    assert record.status is RunStatus.FAILED
    assert (await orchestrator.partial(record.id))["exit_code"] == 5
    escaped = alive(record.id)
    for pid in escaped:
        os.kill(pid, signal.SIGKILL)
    # Only a process of the run's own holds what makes a session for itself.
    assert bool(escaped) == (isolation == "task")


# What it is given


@pytest.mark.parametrize(
    ("argv", "more", "says"),
    [
        (["nosuch-program"], {}, "input.argv.0: 'nosuch-program' cannot be started: it is in no"),
        (["/no/such"], {}, "input.argv.0: '/no/such' cannot be started: it does not exist"),
        (["/etc/passwd"], {}, "'/etc/passwd' cannot be started: it may not be executed"),
        (["./garbage"], {"cwd": "."}, "'./garbage' cannot be started: Exec format error"),
        (["./script"], {"cwd": "."}, "'./script' cannot be started: it does not exist, or what"),
        ([""], {}, "'' cannot be started"),
        (["ls"], {"cwd": "/no/such"}, "input.cwd: '/no/such' cannot be worked in: No such file"),
        (["ls"], {"cwd": "/etc/passwd"}, "input.cwd: '/etc/passwd' cannot be worked in: Not a d"),
        (["ls", "x" * 200_000], {}, "'ls' cannot be started: Argument list too long"),
    ],
)
async def test_what_cannot_be_started_is_named(
    orchestrator: Orchestrator,
    tmp_path: Path,
    argv: list[str],
    more: dict[str, str],
    says: str,
) -> None:
    for name, text in (("garbage", "\0"), ("script", "#!/no/such\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    if more.get("cwd") == ".":
        more = {"cwd": str(tmp_path)}
    record = await finished(orchestrator, *argv, **more)
    assert record.status is RunStatus.FAILED
    assert record.error is not None
    assert record.error.type == "CommandNotStarted"
    assert says in record.error.message


@pytest.mark.parametrize(
    ("input", "field"),
    [
        ({}, "input.argv"),
        ({"argv": []}, "input.argv"),
        ({"argv": "ls"}, "input.argv"),
        ({"argv": ["a\0b"]}, "input.argv.0"),
        ({"argv": ["a\ud800"]}, "input.argv.0"),
        ({"argv": ["a"], "stdin": "a\ud800"}, "input.stdin"),
        ({"argv": ["ls"], "env": {"A=B": "x"}}, "input.env"),
        ({"argv": ["ls"], "env": {"A": "x\0"}}, "input.env.A"),
        ({"argv": ["ls"], "timeout_s": 0}, "input.timeout_s"),
        ({"argv": ["ls"], "shell": True}, "input.shell"),
    ],
)
async def test_an_input_that_does_not_fit_starts_nothing(
    orchestrator: Orchestrator, input: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as raised:
        await orchestrator.start(command, input)
    assert raised.value.problems[0][0].startswith(field)


async def test_it_works_where_it_is_told_to(orchestrator: Orchestrator, tmp_path: Path) -> None:
    record = await finished(orchestrator, "pwd", cwd=str(tmp_path))
    assert record.result["stdout_tail"] == str(tmp_path)


async def test_a_process_of_its_own_works_in_an_empty_folder(orchestrator: Orchestrator) -> None:
    record = await finished(orchestrator, "sh", "-c", "pwd; ls -A", isolation="process")
    folder = record.result["stdout_tail"]
    assert folder.startswith("/")
    with trio.fail_after(20):  # it goes when the process has been reaped
        while (await finished(orchestrator, "test", "-e", folder)).status is RunStatus.SUCCEEDED:
            await trio.sleep(0.01)


async def test_it_has_the_variables_that_are_given_and_few_others(
    orchestrator: Orchestrator, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "of the orchestrator")
    monkeypatch.setenv("QUIESCE_ENV_OFFERED", "by the orchestrator")
    given = {"MINE": "yes", "OFFERED": None, "NOBODY_HAS_THIS": None, "LANG": "C.UTF-8"}
    record = await finished(orchestrator, "env", env=given, isolation=isolation)
    found = dict(line.split("=", 1) for line in record.result["stdout_tail"].splitlines())
    assert set(found) <= {
        *("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ"),
        *("MINE", "OFFERED", "QUIESCE_RUN_ID"),
    }
    assert found["PATH"] == os.environ["PATH"]
    assert found["MINE"] == "yes"
    assert found["OFFERED"] == "by the orchestrator"
    assert found["LANG"] == "C.UTF-8"
    assert found["QUIESCE_RUN_ID"] == record.id


@pytest.mark.parametrize("argv", [["sh", "-c", "exit 1"], ["nosuch"], ["true"]])
async def test_the_values_of_variables_are_in_no_event(
    orchestrator: Orchestrator, argv: list[str]
) -> None:
    env = {"TOKEN": "s3cret-token", "PATH": "/usr/bin:/bin:/s3cret-path"}
    record = await finished(orchestrator, *argv, env=env)
    events = [repr(e) async for e in await orchestrator.events(record.id)]
    assert len(events) > 3
    assert not [event for event in events if "s3cret" in event]


async def test_what_is_given_can_be_read(orchestrator: Orchestrator, isolation: str) -> None:
    text = "Café\n" * 50_000
    record = await finished(orchestrator, "wc", "-c", stdin=text, isolation=isolation)
    assert record.result["stdout_tail"] == str(len(text.encode()))


async def test_what_is_given_need_not_be_read(orchestrator: Orchestrator) -> None:
    record = await finished(orchestrator, "true", stdin="x" * 1_000_000)
    assert record.status is RunStatus.SUCCEEDED


async def test_it_has_nothing_to_read_otherwise(orchestrator: Orchestrator) -> None:
    record = await finished(orchestrator, "sh", "-c", "cat; readlink /proc/self/fd/0")
    assert record.result["stdout_tail"] == "/dev/null"


async def test_it_leads_a_session_of_its_own(orchestrator: Orchestrator) -> None:
    run = await begun(orchestrator, "echo ready; exec sleep 1000")
    (pid,) = alive(run.id)
    assert os.getsid(pid) == os.getpgid(pid) == pid
    await run.stop(mode="now")


async def test_it_stands_back_for_others(orchestrator: Orchestrator) -> None:
    run = await begun(orchestrator, "echo ready; exec sleep 1000", isolation="process")
    (pid,) = alive(run.id)
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    with trio.fail_after(BOUND_S):
        while share_of(pid) not in (NICENESS, None):
            await trio.sleep(0.01)
    await run.stop(mode="now")


def test_the_page_has_every_input() -> None:
    rows = rows_of(DOCS / "how-to" / "run-any-command.md")
    shown = [row[0].strip("`") for row in rows if row[0].strip("`") in ALL_INPUTS]
    assert shown == ALL_INPUTS

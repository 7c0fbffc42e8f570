"""Whether the process that had a database before is gone: proved, or not said."""

from __future__ import annotations

import json
import subprocess
import sys

from orchestrator.store.postgresql.holder import NOBODY, UNKNOWN, is_gone, this_process

SAYS = "from orchestrator.store.postgresql.holder import this_process; print(this_process())"


def test_a_process_is_gone_once_it_has_ended_and_not_before() -> None:
    program = [sys.executable, "-c", f"{SAYS}; input()"]
    with subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        said = child.stdout.readline().strip()
        assert not is_gone(said)
        child.kill()
        # Nobody has asked for it yet, so it is still in the list of processes.
        while not is_gone(said):
            pass
        child.wait()
        assert is_gone(said)


def test_this_process_is_not_gone() -> None:
    assert not is_gone(this_process())


def test_another_process_that_got_the_id_is_another_one() -> None:
    *place, pid, started = json.loads(this_process())
    assert is_gone(json.dumps([*place, pid, started - 1]))


def test_of_another_boot_or_container_nothing_is_proved() -> None:
    boot, pids, pid, started = json.loads(this_process())
    assert not is_gone(json.dumps(["another", pids, pid, started - 1]))
    assert not is_gone(json.dumps([boot, "pid:[1]", pid, started - 1]))


def test_who_has_left_is_gone_and_of_whom_nothing_is_known_is_not() -> None:
    assert is_gone(NOBODY)
    assert not is_gone(UNKNOWN)

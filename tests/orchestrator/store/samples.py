"""Records to store, with everything left out that a test does not care about."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

from orchestrator.events import Event
from orchestrator.model import (
    OperationCounts,
    Progress,
    Question,
    Receipt,
    RunError,
    RunId,
    RunOptions,
    RunRecord,
    RunStatus,
    Standing,
    StopMode,
    StopOutcome,
    StopRequest,
    StopSource,
    Usage,
)
from orchestrator.store import AppendEvent, RunFilter, SaveData, SaveRun, SaveStep

AT = "2026-01-02T03:04:05.678901Z"

# Every combination of conditions.
FILTERS = [
    RunFilter(statuses=statuses, agent=agent, owner=owner, tag=tag, root=root, parent=parent)
    for statuses, agent, owner, tag, root, parent in product(
        (None, (RunStatus.RUNNING,), (RunStatus.STOPPED, RunStatus.RUNNING), tuple(RunStatus)),
        (None, "a"),
        (None, "o"),
        (None, "t"),
        (None, "r"),
        (None, "", "p"),
    )
]


def make_run(
    id_: str, status: RunStatus = RunStatus.RUNNING, *, tags: tuple[str, ...] = (), **fields: Any
) -> RunRecord:
    values = {"root_id": id_, "agent": "digest", "created_at": AT, **fields}
    return RunRecord(id=RunId(id_), status=status, options=RunOptions(tags=tags), **values)


def save(id_: str, status: RunStatus = RunStatus.RUNNING, **fields: Any) -> SaveRun:
    return SaveRun(make_run(id_, status, **fields))


def make_event(root: str, seq: int, data: dict[str, Any] | None = None) -> Event:
    return Event(seq, RunId(root), RunId(root), "run.log", AT, data or {"n": seq})


def append(root: str, seq: int, data: dict[str, Any] | None = None) -> AppendEvent:
    return AppendEvent(make_event(root, seq, data))


def step(root: str, name: str, value: bytes = b"1", path: str = "") -> SaveStep:
    return SaveStep(RunId(root), path, name, value)


def entry(
    run: str, key: str, value: bytes = b"1", owner: str = "ann", space: str = "s"
) -> SaveData:
    return SaveData(RunId(run), owner, space, key, value)


def full_record() -> RunRecord:
    """A run in which no field has its default."""
    request = StopRequest(
        mode=StopMode.NOW,
        grace_s=0.25,
        source=StopSource.DEADLINE,
        requested_by="clock",
        requested_at=AT,
        reason="late",
        discard=True,
    )
    error = RunError(type="OSError", message="no \udcff.txt", traceback="…\n")
    receipt = Receipt(
        mode=StopMode.KILL,
        reached=StopMode.GRACEFUL,
        requested_at=AT,
        requested_by="ann",
        source=StopSource.ADMIN,
        reason="\N{SNOWMAN}",
        previous_status=RunStatus.PAUSED,
        settled_at=AT,
        seconds=0.1 + 0.2,
        outcome=StopOutcome.ABANDONED,
        runs_stopped=3,
        operations=OperationCounts(finished=1, cut=2, refused=3),
        clients_closed=1,
        processes_killed=2,
        killed_pids=(7, 11),
        cleanup_errors=("a", "b"),
        critical_s=1e-9,
        still_running=(
            Standing(run_id=RunId("r"), agent="a", file="f.py", line=7, function="main"),
        ),
        error=error,
        detached=(RunId("d"),),
        also=(request,),
        discard=True,
    )
    options = RunOptions(
        deadline_s=1.5,
        idle_timeout_s=0.1,
        grace_s=0,
        cleanup_s=1e-3,
        on_crash="restart",
        max_attempts=7,
        on_disconnect="stop",
        debug=True,
        start_after_s=0.5,
        start_by_s=7.5,
        priority=-3,
        key="k",
        on_conflict="enqueue",
        no_stop_after_percent=90.0,
        retention_s=60.5,
        tags=("x", "y"),
        webhook="https://example.org/hook",
    )
    record = make_run(
        "r",
        RunStatus.ABANDONED,
        root_id="root",
        parent_id="p",
        owner="ann",
        input={"list": [1, 2.5, None, True, "…"], "nested": {"": []}},
        result=[{"big": 2**70}],
        error=error,
        started_at=AT,
        ended_at=AT,
        deadline_at=AT,
        attempt=2,
        node="n1",
        progress=Progress(percent=99.999, message="…"),
        waiting_for=Question(
            id="q1", question="Really?", schema={"type": ["null"]}, asked_at=AT, until_at=AT
        ),
        usage=Usage(requests=2, input_tokens=2**40, output_tokens=1, cost=0.1 + 0.2),
        rerun_of="r0",
        turn=3,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        stop=receipt,
        files=("a.txt",),
        deadline_moved=True,
        retagged=("z",),
        version=9,
    )
    return replace(record, options=options)

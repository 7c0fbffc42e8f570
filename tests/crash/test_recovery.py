"""What a crash can leave behind, written down by hand, and what the next process makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator import (
    Context,
    RunId,
    RunOptions,
    RunRecord,
    RunStatus,
    StopMode,
    StopSource,
    agent,
    open_orchestrator,
)
from orchestrator.events import Event
from orchestrator.model import StopRequest
from orchestrator.recovery import _stop_of
from orchestrator.store import AppendEvent, SavePartial, SaveRun, Write, open_store
from tests.race.isolated import alone

pytestmark = pytest.mark.slow


@agent
async def sleeper(ctx: Context) -> None:
    await ctx.sleep(0.1)


def _record(run_id: str, **fields: Any) -> RunRecord:
    fields = {
        "root_id": "run_root",
        "agent": "sleeper",
        "created_at": "2026-01-01T00:00:00Z",
    } | fields
    return RunRecord(id=RunId(run_id), input={}, **fields)


def _queued(run_id: str, seq: int, parent: str | None) -> AppendEvent:
    data = {"agent": "sleeper", "parent_id": parent}
    at = "2026-01-01T00:00:00Z"
    return AppendEvent(Event(seq, RunId(run_id), RunId("run_root"), "run.queued", at, data))


async def queued_child(url: str, on_crash: str) -> list[Any]:
    options = RunOptions(on_crash=on_crash)  # type: ignore[arg-type]
    root = _record(
        "run_root", status=RunStatus.RUNNING, options=options, started_at="2026-01-01T00:00:00Z"
    )
    child = _record("run_child", status=RunStatus.QUEUED, parent_id=root.id)
    async with open_store(url) as store:
        writes: list[Write] = [
            SaveRun(root),
            _queued(root.id, 1, None),
            SaveRun(child),
            _queued(child.id, 2, root.id),
        ]
        await store.write(writes)
    async with open_orchestrator(url, agents=[sleeper]) as orchestrator:
        live = orchestrator.live("run_root")
        if live is not None:
            await live.wait()
        root, child = [await orchestrator.get(each) for each in ("run_root", "run_child")]
        return [root.status, root.attempt, child.status]


@pytest.mark.parametrize(
    ("on_crash", "root"), [("fail", ["lost", 1]), ("restart", ["succeeded", 2])]
)
def test_a_sub_agent_that_was_queued_at_the_crash_is_settled(
    tmp_path: Any, on_crash: str, root: list[Any]
) -> None:
    """Interleaving: the crash comes between the child's admission and its first step."""
    found = alone(queued_child, f"sqlite:///{tmp_path}/x.db", on_crash, virtual=False, within_s=8)
    assert found[:2] == root
    assert found[2] in ("lost", "stopped")


async def restarted(url: str) -> list[Any]:
    options = RunOptions(on_crash="restart", deadline_s=600)
    root = _record(
        "run_root",
        status=RunStatus.RUNNING,
        options=options,
        started_at="2026-01-01T00:00:00.000Z",
        deadline_at="2026-01-01T00:10:00.000Z",
    )
    async with open_store(url) as store:
        await store.write([SaveRun(replace(root)), _queued(root.id, 1, None)])
    async with open_orchestrator(url, agents=[sleeper]) as orchestrator:
        live = orchestrator.live("run_root")
        if live is not None:
            await live.wait()
        record = await orchestrator.get("run_root")
        return [record.status, record.deadline_at]


def test_a_restart_does_not_move_the_deadline(tmp_path: Any) -> None:
    """``deadline_s`` counts from the first start of the agent's code, and that was long ago."""
    found = alone(restarted, f"sqlite:///{tmp_path}/x.db", virtual=False, within_s=8)
    assert found == ["timed_out", "2026-01-01T00:10:00.000Z"]


async def discarded(url: str, first: str, later: str) -> list[Any]:
    asked = StopRequest(
        mode=StopMode.NOW,
        grace_s=0,
        source=StopSource.USER,
        requested_by="",
        requested_at="2026-01-01T00:00:01Z",
        discard=bool(later),
    )
    record = _record("run_root", status=RunStatus.RUNNING)
    receipt = _stop_of(record, asked.requested_at, asked.source, "")
    receipt = replace(receipt, discard=bool(first), also=(asked,))
    record = replace(record, status=RunStatus.STOPPING, stop=receipt)
    async with open_store(url) as store:
        writes: list[Write] = [SaveRun(record), _queued(record.id, 1, None)]
        await store.write([*writes, SavePartial(record.id, b'"found"')])
    async with open_orchestrator(url, agents=[sleeper]) as orchestrator:
        status = (await orchestrator.get("run_root")).status
        return [status, await orchestrator.store.partial("run_root")]


@pytest.mark.parametrize(
    ("first", "later", "partial"), [("yes", "", None), ("", "yes", None), ("", "", "found")]
)
def test_a_stop_that_discards_does_so_also_after_a_crash(
    tmp_path: Any, first: str, later: str, partial: str | None
) -> None:
    """Interleaving: the crash comes between the stop and the end."""
    url = f"sqlite:///{tmp_path}/x.db"
    found = alone(discarded, url, first, later, virtual=False, within_s=20)
    assert found == ["stopped", partial]

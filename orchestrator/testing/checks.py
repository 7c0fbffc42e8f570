"""What must hold of every run that has ended: its feed, the order of its ends, its receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.errors import OperationCut, OperationRefused
from orchestrator.events import ENDINGS
from orchestrator.model import RunStatus, StopOutcome
from orchestrator.testing.places import Place, is_own_place
from orchestrator.testing.report import Fault, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from orchestrator.events import Event
    from orchestrator.model import RunRecord

# What the stop raises where ``Cancelled`` cannot arrive.
_THE_STOP_ITSELF = (OperationCut.__name__, OperationRefused.__name__)


def check_feed(events: Sequence[Event], tree: Sequence[RunRecord]) -> Iterator[Finding]:
    """Yield what is wrong with the whole feed of a tree that has ended.

    Args:
        events: all of them, in order.
        tree: every run of it, the root first.
    """
    ends = {event.run_id: event.seq for event in events if event.type in ENDINGS}
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        yield _feed(f"its numbers are {[event.seq for event in events]}")
    if not events or (events[-1].run_id, events[-1].type) != (tree[0].id, f"run.{tree[0].status}"):
        yield _feed("its last event is not the end of the root")
    for run in tree:
        own = [event for event in events if event.run_id == run.id]
        if [event.type for event in own if event.type in ENDINGS] != [own[-1].type]:
            yield _feed(f"a run of {run.agent} has not exactly one end, as its last event")
        elif run.parent_id is not None and ends[run.id] > ends.get(run.parent_id, 0):
            yield _feed(f"a run of {run.agent} ended after its parent")


def check_nothing_began_late(events: Sequence[Event]) -> Iterator[Finding]:
    """Yield the operations that started after the stop of their run or its root.

    Not for runs with critical sections or compensations, in which operations may.
    """
    stopping = {event.run_id: event.seq for event in events if event.type == "run.stopping"}
    for event in events:
        began = min(stopping.get(event.run_id, event.seq), stopping.get(event.root_id, event.seq))
        if event.type == "operation.started" and event.seq > began:
            what = f"{event.data['kind']} {event.data['label']}".rstrip()
            yield Finding(Fault.LATE_OPERATION, f"{what!r} started all the same")


def check_record(run: RunRecord) -> Iterator[Finding]:
    """Yield what is wrong with the end of one run that was asked to stop."""
    receipt = run.stop
    if receipt is None or receipt.settled_at is None:
        yield Finding(Fault.UNSETTLED, f"{run.agent} ended {run.status} without a settled receipt")
        return
    standing = [Place(at.file, at.line, at.function) for at in receipt.still_running]
    for place in [place for place in standing if is_own_place(place)] or standing:
        says = "its code does not exit, so it was abandoned; it still stands here"
        yield Finding(Fault.UNSETTLED, says, place)
    if receipt.outcome not in (StopOutcome.STOPPED, StopOutcome.FINISHED_FIRST):
        if not receipt.still_running:
            yield Finding(Fault.UNSETTLED, f"{run.agent} ended {run.status}")
    elif receipt.error is not None and receipt.error.type not in _THE_STOP_ITSELF:
        says = f"{receipt.error.type}: {receipt.error.message}"
        yield Finding(Fault.RAISED, says)
    for failed in receipt.cleanup_errors:
        yield Finding(Fault.COMPENSATION, failed)


def check_untouched(run: RunRecord) -> Iterator[Finding]:
    """Yield why a run that nobody stopped did not succeed."""
    if run.status is not RunStatus.SUCCEEDED:
        words = f"{run.error.type}: {run.error.message}" if run.error else run.status
        yield Finding(Fault.FAILS, words)


def _feed(says: str) -> Finding:
    return Finding(Fault.FEED, says)

"""What must be true of one run that has ended, and of its receipt."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

from orchestrator import Receipt, RunStatus, StopMode, StopOutcome, StopSource
from orchestrator.stopping import KILL_S
from tests.model import model
from tests.model import program as p
from tests.model.flight import EPSILON_S, virtual

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator import Event, RunRecord
    from tests.model.trace import Trace

# The longest grace and the longest critical section of any story.
LONGEST_GRACE_S = 20.0
LONGEST_HOLD_S = 10.0

OUTCOMES = {
    RunStatus.STOPPED: StopOutcome.STOPPED,
    RunStatus.TIMED_OUT: StopOutcome.STOPPED,
    RunStatus.SUCCEEDED: StopOutcome.FINISHED_FIRST,
    RunStatus.ABANDONED: StopOutcome.ABANDONED,
}


class Account:
    """One run, as it is stored and as it was traced."""

    def __init__(
        self,
        record: RunRecord,
        records: dict[str, RunRecord],
        events: list[Event],
        trace: Trace,
        crashed: int,
    ) -> None:
        """Collect what concerns the run.

        Args:
            crashed: the last life in which the process died while the run was live; -1 if none.
        """
        self.record = record
        self.records = records
        self.tree = _family(record, records)
        self.events = [event for event in events if event.run_id in self.tree]
        self.ever = trace.of(record.id, "registered", "undo", "decided", "asks", "heard")
        ended = [e for e in self.ever if e.kind == "decided" and e.where in model.TERMINAL]
        # What was decided when the process died, and was not durable, is as if it had not been.
        self.life = ended[-1].life if ended and ended[-1].life > crashed else -1
        self.entries = [e for e in trace.entries if e.life == self.life and e.run_id in self.tree]
        self.own = [e for e in self.entries if e.run_id == record.id]
        self.crashed = crashed >= 0

    def faults(self) -> Iterator[str]:
        """Yield what is wrong."""
        yield from self.compensations()
        if self.record.waiting_for is not None:
            yield f"{self.record.id} has ended, and waits for an answer"
        if self.record.stop is not None:
            yield from self.source(self.record.stop)
        if self.life < 0:
            # A later process has settled it.
            return
        yield from self.end()
        yield from self.idleness()
        if self.record.stop is not None:
            yield from self.receipt(self.record.stop)
            yield from self.counts(self.record.stop)

    def compensations(self) -> Iterator[str]:
        """Yield compensations that did not run exactly once, last first, iff it was stopped."""
        status, waiting, undone = self.record.status, list[str](), 0
        life = -1
        for entry in self.ever:
            if entry.life != life:
                life, waiting, undone = entry.life, [], 0
            match entry.kind:
                case "registered":
                    waiting.append(entry.where)
                case "undo":
                    undone += 1
                    if not waiting or waiting.pop() != entry.where:
                        yield f"{self.record.id}: {entry.where} is undone out of turn"
                case "decided" if entry.where is RunStatus.ABANDONED:
                    # What its code does from now on counts no more.
                    break
        stopped = status in (model.STOP, model.LATE, model.GONE)
        if life == self.life and (waiting if stopped else undone):
            yield f"{self.record.id} ended {status}: {undone} were undone, not {waiting}"

    def end(self) -> Iterator[str]:
        """Yield an end that came later than it could have, and what was done after it."""
        name, status = self.record.id, self.record.status
        decided = next(e for e in reversed(self.own) if e.kind == "decided")
        stops = [e for e in self.own if e.kind == "stop"]
        below = {r.id for r in self.records.values() if r.parent_id == name}
        reasons = [e.at for e in self.own if e.kind == "stop"]
        reasons += [e.at for e in self.entries if e.kind in ("exit", "undone")]
        reasons += [e.at for e in self.entries if e.run_id in below and e.kind == "decided"]
        if status in (model.STOP, model.LATE) and decided.at > max(reasons) + EPSILON_S:
            yield f"{name} ended at {decided.at:.4f}, and could have at {max(reasons):.4f}"
        if stops and decided.at > (bound := self.latest(stops[0].at)):
            yield f"{name} was stopped at {stops[0].at:.4f}, to end by {bound:.4f}"
        late = [e for e in self.own if e.kind in ("began", "step", "undo") and e.at > decided.at]
        # Code that was let go may go on, and register compensations.
        if late and status is not model.GONE:
            yield f"{name} had ended, and then {late}"

    def latest(self, stopped_at: float) -> float:
        """Return when the run has ended at the latest: graces, holds, and cleanup, for all."""
        holds = [e.at + LONGEST_HOLD_S for e in self.entries if e.kind == "critical"]
        steps = sum(e.kind == "registered" for e in self.entries) + 2 * len(self.tree)
        in_flight = max([stopped_at + LONGEST_GRACE_S, *holds])
        return in_flight + steps * (p.CLEANUP_S + 2 * KILL_S) + EPSILON_S

    def idleness(self) -> Iterator[str]:
        """Yield an idle stop that came too early, or not at all."""
        limit_s = self.record.options.idle_timeout_s
        if limit_s is None or self.crashed:
            return
        asking = 0
        for before, after in pairwise(self.events):
            at, until = virtual(before.at), virtual(after.at)
            asking += (before.type == "run.asked") - (
                before.type in ("run.answered", "run.withdrawn")
            )
            path = model.path(
                e for e in self.events if e.run_id == self.record.id and e.seq <= before.seq
            )
            if path[-1] is model.R and not asking and until > at + limit_s + EPSILON_S:
                yield f"{self.record.id} was idle from {at:.4f} to {until:.4f}"
            stops = after.type == "run.stopping" and after.run_id == self.record.id
            if stops and after.data["source"] == "idle" and until < at + limit_s - EPSILON_S:
                yield f"{self.record.id} was stopped at {until:.4f}, as idle since {at:.4f}"

    def source(self, stop: Receipt) -> Iterator[str]:
        """Yield a stop that nobody can have asked for."""
        if stop.source is StopSource.PARENT and self.record.parent_id is None:
            yield f"{self.record.id} was stopped by its parent, and is a root"

    def receipt(self, stop: Receipt) -> Iterator[str]:
        """Yield what the receipt says of the end, and is not so."""
        status, says = self.record.status, f"the receipt of {self.record.id} says"
        if stop.outcome is not OUTCOMES.get(status):
            yield f"{says} {stop.outcome}, and it ended {status}"
        if stop.settled_at is None or stop.seconds is None:
            yield f"{says} not when it was settled"
        elif abs(virtual(stop.settled_at) - virtual(stop.requested_at) - stop.seconds) > 0.002:
            yield f"{says} {stop.seconds} s, from {stop.requested_at} to {stop.settled_at}"
        late = stop.source is StopSource.DEADLINE
        if status in (model.STOP, model.LATE) and late != (status is model.LATE):
            yield f"{says} {stop.source}, and it ended {status}"
        if bool(stop.still_running) != (status is model.GONE):
            yield f"{says} still running is {stop.still_running}, and it ended {status}"
        path = model.path(e for e in self.events if e.run_id == self.record.id)
        before = path[: path.index(model.SG)] if model.SG in path else path[:-1]
        if before[-1] != stop.previous_status:
            yield f"{says} it was {stop.previous_status}, and it was {before[-1]}"

    def counts(self, stop: Receipt) -> Iterator[str]:
        """Yield the counts of the receipt that are not those of the trace."""
        says, told = f"the receipt of {self.record.id} says", stop.operations
        began = next(n for n, e in enumerate(self.entries) if e in self.own and e.kind == "stop")
        over = next(n for n, e in enumerate(self.entries) if self._is_end(e.run_id, e.where))
        during = Counter(e.kind for e in self.entries[began:over])
        if (told.finished, told.cut) != (during["ended"], during["cut"]):
            yield f"{says} {told}, and it was {during}"
        if self.record.status is model.GONE:
            reached = {StopMode.KILL}
        else:
            # A critical section that is cut does not count among the operations.
            reached = {StopMode.NOW} if told.cut else {StopMode.GRACEFUL, StopMode.NOW}
        if stop.reached not in reached:
            yield f"{says} {stop.reached}, not {reached}"
        over_by_then = {e.run_id for e in self.entries[:began] if e.where in model.TERMINAL}
        live = {e.run_id for e in self.entries[: began + 1]} - over_by_then | {self.record.id}
        if len(live) != stop.runs_stopped:
            yield f"{says} {stop.runs_stopped} runs, and they were {live}"
        refused = sum(event.type == "operation.refused" for event in self.events)
        gone = any(self.records[run_id].status is model.GONE for run_id in self.tree)
        if told.refused > refused and not gone:
            yield f"{says} {told.refused} were refused, and told of are {refused}"

    def _is_end(self, run_id: str, where: str) -> bool:
        return run_id == self.record.id and where in model.TERMINAL


def _family(record: RunRecord, records: dict[str, RunRecord]) -> set[str]:
    found: set[str] = {record.id}
    before = 0
    while len(found) > before:
        before = len(found)
        found |= {each.id for each in records.values() if each.parent_id in found}
    return found

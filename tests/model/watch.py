"""Looks at every run after each step of any task, and at agents while they act."""

from __future__ import annotations

from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator import RunStatus, StopMode
from orchestrator.registry import Registry
from tests.model import model
from tests.model.flight import EPSILON_S, is_cancelled, requests_for, run_of, virtual

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator import Context, Run, RunRecord
    from tests.model.flight import Flight, Hold
    from tests.model.trace import Trace

# Beyond so many steps of tasks something spins.
STEPS = 500_000


class Watch(trio.abc.Instrument):
    """One life of an orchestrator, as seen by agents and onlookers. Deaf once it is ``dead``."""

    def __init__(
        self,
        life: int,
        trace: Trace,
        durable: dict[str, set[str]],
        give_up: Callable[[str], None],
    ) -> None:
        self.life = life
        self._give_up = give_up
        self._steps = 0
        self.trace = trace
        # By root: the steps whose result somebody has had.
        self.durable = durable
        self.registry = Registry()
        self.dead = False
        self.runs: dict[str, Run] = {}
        self.shown: dict[str, RunRecord] = {}
        self.inside: set[str] = set()
        self.undoing: set[str] = set()
        self.asking: dict[str, int] = {}
        # Runs that were let through a gate, and have not been paused since.
        self.stepped: set[str] = set()
        self._left: dict[str, float] = {}
        self._open: dict[str, Run] = {}
        self._met: dict[str, float] = {}
        self._records: dict[str, RunRecord] = {}
        self._flights: set[Flight] = set()
        self._stalled: dict[str, float] = {}

    # What agents report

    def note(self, ctx: Context, kind: str, where: str) -> None:
        """Take an entry of an agent's."""
        if self.dead:
            return
        self.trace.note(self.life, kind, ctx.run_id, where)
        match kind:
            case "exit":
                self.inside.discard(ctx.run_id)
                self._left[ctx.run_id] = trio.current_time()
            case "undo":
                self.undoing.add(ctx.run_id)
            case "undone":
                self.undoing.discard(ctx.run_id)
            case "asks" | "heard":
                more = 1 if kind == "asks" else -1
                self.asking[ctx.run_id] = self.asking.get(ctx.run_id, 0) + more
            case "had":
                self.durable.setdefault(ctx._run.record.root_id, set()).add(where)

    def entered(self, ctx: Context, where: str, hold: Hold | None) -> None:
        """An agent's code begins."""
        if self.dead:
            return
        run = run_of(ctx)
        self._meet(run)
        self.note(ctx, "enter", where)
        self.inside.add(run.id)
        if run.parent is not None:
            self._may_begin(run.parent, f"sub-agent {where}", hold, paused=True)

    def stepping(self, ctx: Context, where: str, hold: Hold | None) -> None:
        """A step's function begins."""
        if self.dead:
            return
        self.note(ctx, "step", where)
        self._may_begin(run_of(ctx), f"step {where}", hold)
        if where in self.durable.get(ctx._run.record.root_id, ()):
            self.trace.fault(f"step {where} is done again")

    @contextmanager
    def flight(self, flight: Flight) -> Iterator[None]:
        """Watch an operation or critical section."""
        if self.dead:
            yield
            return
        flight.parks = flight.critical and flight.run.record.status in model.HELD
        if not flight.parks:
            self._may_begin(flight.run, f"operation {flight.where}", flight.hold)
        self._say(flight, "critical" if flight.critical else "began")
        self._flights.add(flight)
        kind = "ended"
        try:
            yield
        except BaseException as error:
            kind = "cut" if is_cancelled(error) else "ended"
            raise
        finally:
            self._flights.discard(flight)
            if not self.dead:
                self._check_end(flight, cut=kind == "cut")
                if not flight.critical:
                    self._say(flight, kind)

    def _say(self, flight: Flight, kind: str) -> None:
        self.trace.note(self.life, kind, flight.run.id, flight.where)

    def _may_begin(self, run: Run, what: str, hold: Hold | None, *, paused: bool = False) -> None:
        """Check that no stop and, unless it may be ``paused``, no pause forbids it."""
        requests = requests_for(run)
        if requests:
            killed = any(request.mode is StopMode.KILL for request in requests)
            if hold is None or trio.current_time() > hold.until + EPSILON_S:
                self.trace.fault(f"{what} began after the stop")
            elif killed and not hold.undoes:
                self.trace.fault(f"{what} began in a critical section after a kill")
        elif not paused and any(each.record.status is RunStatus.PAUSED for each in run.lineage()):
            self.trace.fault(f"{what} began while its run was paused")

    def _check_end(self, flight: Flight, *, cut: bool) -> None:
        now, requests = trio.current_time(), requests_for(flight.run)
        if not requests:
            if cut and not flight.exposed:
                self.trace.fault(f"{flight.where} was cut, and nobody had asked for a stop")
            return
        asked = min(virtual(each.requested_at) for each in requests)
        graces = [virtual(each.requested_at) + each.grace_s for each in requests]
        until = min(graces) if flight.hold is None else max(asked, flight.hold.until)
        killed = any(each.mode is StopMode.KILL for each in requests)
        if cut and not flight.exposed and not killed and now < until - EPSILON_S:
            self.trace.fault(f"{flight.where} was cut before its time, {until:.4f}")
        # A critical section may have a shield of the agent's own in it.
        if not flight.critical and now > max(until, flight.began) + EPSILON_S:
            self.trace.fault(f"{flight.where} outlived its time, {until:.4f}")

    # What onlookers see

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Look, unless the process is dead."""
        self._steps += 1
        if self._steps > STEPS:
            self._give_up("something spins")
        if not self.dead:
            self.look()

    def look(self) -> None:
        """Look at every run that has not ended. Not a checkpoint."""
        for run in self.registry:
            self._meet(run)
        for run in list(self._open.values()):
            if self._records.get(run.id) is not run.record:
                self._look_at_decision(run)
            if run.shown is not None and self.shown.get(run.id) is not run.shown:
                self._look_at_what_is_shown(run, run.shown)
            self._look_at_time(run)

    def _meet(self, run: Run) -> None:
        if run.id not in self.runs:
            self.runs[run.id] = self._open[run.id] = run
            self._met[run.id] = trio.current_time()

    def _look_at_decision(self, run: Run) -> None:
        before, after = self._records.get(run.id), run.record
        self._records[run.id] = after
        if before is not None and after.status not in model.reachable(before.status):
            self.trace.fault(f"{run.id} went from {before.status} to {after.status}")
        waits = after.waiting_for is not None
        if waits and not self.asking.get(run.id):
            self.trace.fault(f"{run.id} waits for an answer, and does not ask")
        if waits != bool(run.questions._open) and after.status not in model.TERMINAL:
            self.trace.fault(f"{run.id} waits for {after.waiting_for}, and others are open")
        if after.stop is not None and (before is None or before.stop is None):
            self.trace.note(self.life, "stop", run.id, after.stop.source)
        if before is None or before.status is not after.status:
            self.trace.note(self.life, "decided", run.id, after.status)
            self._look_at_status(run, after)

    def _look_at_status(self, run: Run, record: RunRecord) -> None:
        below = [each for each in self.runs.values() if run in each.lineage()]
        if record.status is RunStatus.PAUSED:
            self.stepped.discard(run.id)
            flying = [f.where for f in self._flights if run in f.run.lineage() and not f.parks]
            if flying and not any(requests_for(each) for each in below):
                self.trace.fault(f"{run.id} is paused, and in flight are {flying}")
        if record.status not in model.TERMINAL:
            return
        if record.waiting_for is not None:
            self.trace.fault(f"{run.id} has ended, and waits for an answer")
        standing = [each.id for each in below if each.id in self.inside | self.undoing]
        # It may have left in this very moment.
        late = any(self._left.get(each.id) == trio.current_time() for each in below)
        gone = record.status is RunStatus.ABANDONED
        if (standing and not gone) or (gone and not (standing or late)):
            self.trace.fault(f"{run.id} ended {record.status}, and standing are {standing}")
        left = [each.id for each in below if each.record.status not in model.TERMINAL]
        if left:
            self.trace.fault(f"{run.id} ended before its children {left}")

    def _look_at_what_is_shown(self, run: Run, shown: RunRecord) -> None:
        before = self.shown.get(run.id)
        self.shown[run.id] = shown
        if before is not None and (
            shown.version < before.version or before.status in model.TERMINAL
        ):
            self.trace.fault(f"what is shown of {run.id} went back, or on after its end")
        if shown.status in model.TERMINAL:
            self._open.pop(run.id, None)

    def _look_at_time(self, run: Run) -> None:
        now, record = trio.current_time(), run.record
        if record.stop is None and record.status in (model.R, model.PG, model.PD):
            at = inf if record.deadline_at is None else virtual(record.deadline_at)
            # A run may start again when its deadline is over.
            if now > max(at, self._met[run.id]) + EPSILON_S:
                self.trace.fault(f"{run.id} goes on after its deadline, {at:.4f}")
        if record.status is RunStatus.PAUSING and self._may_be_called_paused(run):
            if now > self._stalled.setdefault(run.id, now) + EPSILON_S:
                self.trace.fault(f"{run.id} is not called paused, though nothing is in flight")
        else:
            self._stalled.pop(run.id, None)

    def _may_be_called_paused(self, run: Run) -> bool:
        below = run.subtree()
        return (
            run.id in self.inside
            and all(each.record.status in model.HELD for each in below)
            and not any(each.id in self.stepped for each in below)
            and not any(f.run in below and not f.parks for f in self._flights)
            and not any(f.critical and f.run in run.lineage() for f in self._flights)
        )

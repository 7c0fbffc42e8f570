"""One round of a sweep: the agent in a loop of its own, stopped at one scheduling point."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.context import running_in
from orchestrator.runtime import open_orchestrator
from orchestrator.testing.chance import seeded
from orchestrator.testing.checks import (
    check_feed,
    check_nothing_began_late,
    check_record,
    check_untouched,
)
from orchestrator.testing.clock import VirtualTime
from orchestrator.testing.leaks import Snapshot, place_of, standing_at, tasks
from orchestrator.testing.places import ORCHESTRATOR, Place, raised_place
from orchestrator.testing.points import Points, at_points
from orchestrator.testing.report import Fault, Finding
from orchestrator.testing.resources import Resources, noting
from orchestrator.testing.scripted_http import ScriptedHTTP
from orchestrator.testing.watching import Watch, root_at_hand, watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import httpx

    from orchestrator.agent import Agent
    from orchestrator.model import StopMode
    from orchestrator.run import Run
    from orchestrator.runtime import Orchestrator
    from orchestrator.testing.garbage import Heap

# Steps of tasks, since the beginning or since the stop, after which nobody waits for the end.
MANY_STEPS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the rounds of a sweep have in common; the fields are described at ``stop_sweep``."""

    agent: Agent
    input: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    agents: Sequence[Agent] = ()
    transport: httpx.AsyncBaseTransport | None = None
    around: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext
    seed: int = 0
    real_time: bool = False


@dataclass(slots=True)
class Played:
    """What a round showed.

    Attributes:
        points: scheduling points that were seen while the run lived.
        stopped: the stop was asked for at the round's point, before the run had ended.
        stopped_at: where the agent stood then; also where an agent that does not end by itself
            was stopped after its last point.
        costly: the round took real time: its loop was ended from outside, or a thread stayed.
    """

    points: int = 0
    stopped: bool = False
    stopped_at: Place | None = None
    costly: bool = False
    findings: list[Finding] = field(default_factory=list)


class Round:
    """Plays the plan once, with a loop, a clock, an orchestrator and a store of its own."""

    def __init__(self, plan: Plan, mode: StopMode, point: int | None, heap: Heap) -> None:
        """Prepare a round.

        Args:
            point: where to ask for the stop; 0 is before the agent's first step, None never.
        """
        self._plan = plan
        self._mode = mode
        self._point = point
        self._heap = heap
        self._token = f"stop sweep, point {point}"
        self._watch = Watch(self._token, self._is_ours)
        self._resources = Resources()
        self._time = VirtualTime(self._stands_still, real_time=plan.real_time)
        self._run: Run | None = None
        self._counter: Points | None = None
        self._asked = False
        self._many = MANY_STEPS
        self._may_begin = False
        self._played = Played()

    def play(self) -> Played:
        """Play it. Not within a running Trio loop, and once only."""
        played = self._played
        if isinstance(self._plan.transport, ScriptedHTTP):
            self._plan.transport.restart()
        before = Snapshot.take()
        with self._heap.left_in() as garbage:
            self._run_loop()
            self._run = self._counter = None
            self._watch.forget()
            self._resources.forget()
        played.findings += garbage
        for thread in before.threads_left():
            played.costly = True
            says = f"thread {thread.name!r}, which still stands here"
            played.findings.append(Finding(Fault.LEFT_RUNNING, says, place_of(thread)))
        return played

    def _run_loop(self) -> None:
        with (
            seeded(self._plan.seed),
            watching(self._watch),
            noting(self._resources, self._is_ours),
        ):
            try:
                trio.run(self._main, clock=self._time.clock, instruments=[self._watch])
            except trio.TrioInternalError:
                if not self._time.given_up:
                    raise
                self._played.costly = self._heap.tainted = True
        if self._watch.failure is not None:
            raise self._watch.failure

    async def _main(self) -> None:
        plan = self._plan
        with trio.CancelScope() as scope:
            async with (
                plan.around(),
                open_orchestrator(agents=plan.agents, transport=plan.transport) as orchestrator,
            ):
                await self._perform(orchestrator)
                if self._played.findings:
                    scope.cancel(reason="what was left over is ended")

    async def _perform(self, orchestrator: Orchestrator) -> None:
        plan, found = self._plan, self._played.findings
        before = set(tasks())
        run = orchestrator.admit(plan.agent, plan.input, options=plan.options)
        self._run = run
        actions = {self._point or 0: self._stop, MANY_STEPS: self._goes_on}
        with at_points(actions, lambda: not run.record.status.is_terminal) as counter:
            self._counter = counter
            if self._point == 0:
                self._stop()
            await run.ended.wait()
        self._played.points = self._played.points or counter.seen
        self._watch.judge_ends()
        found += self._watch.findings
        found += self._resources.left_open()
        if run.exited.is_set():
            found += self._left_running(before)
        found += await self._judge(orchestrator, run)
        if not run.exited.is_set():
            self._time.give_up("the agent was abandoned")
            await trio.sleep_forever()

    async def _judge(self, orchestrator: Orchestrator, run: Run) -> list[Finding]:
        tree = await orchestrator.tree(run.id)
        events = await orchestrator.store.events(run.id, after=0, limit=1_000_000)
        found = list(check_feed(events, tree))
        found += check_record(run.record) if self._asked else check_untouched(run.record)
        if not self._may_begin and not self._watch.has_compensations:
            found += check_nothing_began_late(events)
        return [self._placed(each, run.failure) for each in found]

    def _placed(self, finding: Finding, failure: BaseException | None) -> Finding:
        """Add the place to a finding that is known by its words only."""
        place = finding.place
        if finding.fault in (Fault.RAISED, Fault.FAILS) and failure is not None:
            place = raised_place(failure)
        if finding.fault is Fault.COMPENSATION:
            place = self._watch.place_named_in(finding.says)
        return replace(finding, place=place)

    def _left_running(self, before: set[trio.lowlevel.Task]) -> Iterator[Finding]:
        for task in tasks():
            if task not in before and self._is_leaked(task):
                stands = place_of(task)
                says = f"task {task.name}, which was started here{standing_at(stands)}"
                yield Finding(Fault.LEFT_RUNNING, says, self._watch.spawned.get(task) or stands)

    def _is_leaked(self, task: trio.lowlevel.Task) -> bool:
        """Whether an agent of the tree has started it, or a thread of one; detached runs and
        services of the orchestrator are none of the tree."""
        assert self._run is not None
        if task in self._watch.spawned:
            return True
        code = getattr(task.coro, "cr_code", None)
        ours = any(run.record.root_id == self._run.id for run, _ in running_in(task))
        return ours and code is not None and not code.co_filename.startswith(ORCHESTRATOR)

    # What happens in the loop, outside every task

    def _stop(self) -> None:
        """Ask for the stop at the round's point, if there is something left to stop."""
        assert self._run is not None
        if not self._asked and not self._run.record.status.is_terminal:
            self._played.stopped = True
            self._played.stopped_at = self._where()
            self._ask()

    def _ask(self) -> None:
        run, counter = self._run, self._counter
        assert run is not None
        assert counter is not None
        self._asked = True
        self._may_begin = any(
            section.holds for each in run.subtree() for section in each.gate.sections
        )
        self._many = counter.seen + MANY_STEPS
        counter.act_at(self._many, self._goes_on)
        run.request_stop(mode=self._mode, reason=self._token)

    def _goes_on(self) -> None:
        """So many steps were taken: stop an agent that does not end by itself, give up others."""
        assert self._counter is not None
        if self._counter.seen < self._many or self._ends_untouched():
            return
        self._time.give_up("it goes on and on")
        self._unsettled("it goes on and on, and time does not pass: it loops without waiting")

    def _stands_still(self) -> bool:
        """Nothing will ever happen: stop an agent that waits for ever, give up what else it is."""
        if self._ends_untouched():
            return True
        self._unsettled("nothing will ever wake it")
        return False

    def _ends_untouched(self) -> bool:
        if self._asked or self._run is None or self._run.record.status.is_terminal:
            return False
        assert self._counter is not None
        self._played.points = self._counter.seen
        self._played.stopped_at = self._where()
        self._ask()
        return True

    def _unsettled(self, why: str) -> None:
        finding = Finding(Fault.UNSETTLED, why, self._where())
        self._played.findings += [*self._watch.findings, finding]

    def _where(self) -> Place | None:
        """Where the agent stands: the task that just stepped, or else the agent's first."""
        assert self._run is not None
        last = self._counter.last if self._counter is not None else None
        for task in (last, self._run.task):
            place = place_of(task) if task and running_in(task) else None
            if place is not None:
                return place
        return None

    def _is_ours(self) -> bool:
        return self._run is not None and root_at_hand() == self._run.id

"""The stop sweep: an agent stopped at every scheduling point, one run after the other."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from orchestrator.model import StopMode
from orchestrator.testing.garbage import Heap
from orchestrator.testing.report import Fault, Finding, SweepFailed, SweepReport, Violation
from orchestrator.testing.reproduce import StopAt, line_for, stop_at
from orchestrator.testing.round import Plan, Played, Round

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import httpx

    from orchestrator.agent import Agent
    from orchestrator.testing.places import Place

# Rounds that took real time, after which a mode is not swept any further: the next would take as
# much, and show the same.
COSTLY = 2

# The reports of this process, for the summary at the end of a test run.
reports: list[SweepReport] = []

# A sweep looks at what a whole process does, so there is one at a time.
_one_at_a_time = threading.Lock()


def run_stop_sweep(
    agent: Agent,
    input: Mapping[str, Any] | None = None,
    *,
    modes: Sequence[StopMode | str] = (StopMode.GRACEFUL, StopMode.NOW),
    seed: int = 0,
    at: int | None = None,
    budget_s: float = 60.0,
    options: Mapping[str, Any] | None = None,
    agents: Sequence[Agent] = (),
    transport: httpx.AsyncBaseTransport | None = None,
    around: Callable[[], AbstractAsyncContextManager[Any]] = nullcontext,
    real_time: bool = False,
) -> SweepReport:
    """Stop an agent at each of its scheduling points, and check that each stop was clean.

    The agent is run again and again, each time in a fresh loop and a fresh orchestrator in
    memory, and is stopped at its 1st, 2nd, … n-th point until a run ends untouched; see
    ``Points`` for what a point is. For plain functions; in a Trio loop use ``stop_sweep``.

    Args:
        input: what the agent is started with each time.
        modes: the kinds of stop to sweep, one after the other.
        seed: gives the order in which tasks take turns. The same seed gives the same runs, as
            far as the agent itself is repeatable; threads are not.
        at: sweep that point only.
        budget_s: real seconds after which no new round begins. Points are taken in an order that
            spreads over the whole run, so what is left out is left out evenly.
        options: of each run, the fields of ``RunOptions``.
        agents: those that the agent starts by name.
        transport: answers the HTTP requests of the runs; a ``ScriptedHTTP`` begins anew in each.
        around: makes a context that is entered around each orchestrator, in its loop.
        real_time: let the clock run. For agents with sockets or child processes of the real
            world, for which virtual time does not wait. It does wait for ``trio.to_thread``.

    Returns:
        what was swept; ``complete`` is false if the budget ran out.

    Raises:
        SweepFailed: a stop was not clean, or the agent failed by itself.
        RuntimeError: it was called in a Trio loop.
    """
    if trio.lowlevel.in_trio_run():
        raise RuntimeError("this is a Trio loop already: use `await stop_sweep(...)` here")
    plan = Plan(
        agent=agent,
        input=dict(input or {}),
        options=dict(options or {}),
        agents=tuple(agents),
        transport=transport,
        around=around,
        seed=seed,
        real_time=real_time,
    )
    sweep = _Sweep(plan, [StopMode(mode) for mode in modes], at, budget_s)
    with _one_at_a_time, sweep.heap.settled():
        report = sweep.sweep()
    reports.append(report)
    if report.violations:
        raise SweepFailed(report)
    return report


async def stop_sweep(
    agent: Agent, input: Mapping[str, Any] | None = None, **how: Any
) -> SweepReport:
    """Do ``run_stop_sweep`` from within a Trio loop, in a thread, with the same arguments.

    A checkpoint. The loop goes on meanwhile; its clock does not jump, if it is one that does.
    When cancelled it ends after the round under way.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_hold_clock)
        try:
            report = await trio.to_thread.run_sync(partial(run_stop_sweep, agent, input, **how))
        except Exception as error:
            failure = error  # raised outside of the nursery, which would wrap it
        nursery.cancel_scope.cancel(reason="the sweep is over")
    if failure is not None:
        raise failure
    return report


async def _hold_clock() -> None:
    """Keep a clock that jumps from jumping: Trio does not let it while somebody waits for this."""
    while True:
        await trio.testing.wait_all_tasks_blocked(0.01)


@dataclass(slots=True)
class _Seen:
    """A fault, in its first round."""

    finding: Finding
    mode: StopMode
    point: int
    played: Played
    times: int = 0


class _Sweep:
    def __init__(
        self, plan: Plan, modes: Sequence[StopMode], at: int | None, budget_s: float
    ) -> None:
        only = stop_at.get()
        if only is not None:
            plan, modes, at = replace(plan, seed=only.seed), [only.mode], only.point
        self.heap = Heap()
        self._plan = plan
        self._modes = modes
        self._at = at
        self._budget_s = budget_s
        self._began = time.perf_counter()
        self._swept: Counter[StopMode] = Counter()
        self._known: Counter[StopMode] = Counter()
        self._places: set[Place] = set()
        self._seen: dict[tuple[Fault, object], _Seen] = {}

    def sweep(self) -> SweepReport:
        for number, mode in enumerate(self._modes, 1):
            self._sweep_mode(mode, self._budget_s * number / len(self._modes))
        return SweepReport(
            agent=self._plan.agent.name,
            seed=self._plan.seed,
            points={mode: self._swept[mode] for mode in self._modes},
            of_points={mode: self._known[mode] for mode in self._modes},
            places=tuple(sorted(self._places)),
            seconds=round(time.perf_counter() - self._began, 3),
            violations=tuple(self._violations()),
        )

    def _sweep_mode(self, mode: StopMode, until_s: float) -> None:
        if self._at is not None:
            self._known[mode] = 1
            self._play(mode, self._at)
            return
        untouched = self._play(mode, None)
        self._known[mode] = untouched.points + 1
        costly = int(untouched.costly)
        if Fault.FAILS in {each.fault for each in untouched.findings}:
            return
        for point in chain(spread(untouched.points), count(untouched.points + 1)):
            if time.perf_counter() - self._began > until_s or costly >= COSTLY:
                break
            played = self._play(mode, point)
            costly += played.costly
            if point > untouched.points:
                if not played.stopped:
                    break
                self._known[mode] += 1
            elif not played.stopped:
                # Another run than the first, as threads make it: this one was shorter.
                self._known[mode] -= 1

    def _play(self, mode: StopMode, point: int | None) -> Played:
        _stop_if_cancelled()
        played = Round(self._plan, mode, point, self.heap).play()
        self._swept[mode] += played.stopped
        if played.stopped_at is not None:
            self._places.add(played.stopped_at)
        for key, finding in {
            (each.fault, each.place or each.says): each for each in played.findings
        }.items():
            number = played.points + 1 if point is None else point
            first = self._seen.setdefault(key, _Seen(finding, mode, number, played))
            first.times += 1
        return played

    def _violations(self) -> Iterator[Violation]:
        for seen in sorted(self._seen.values(), key=lambda seen: not seen.played.stopped):
            where = StopAt(seen.mode, seen.point, self._plan.seed)
            yield Violation(
                fault=seen.finding.fault,
                says=seen.finding.says,
                place=seen.finding.place,
                mode=seen.mode,
                point=seen.point,
                stopped_at=seen.played.stopped_at,
                untouched=not seen.played.stopped,
                times=seen.times,
                reproduce=line_for(where, self._plan.agent.name, self._plan.input),
            )


def spread(points: int) -> list[int]:
    """Return 0 to ``points`` in an order of which every beginning is spread evenly."""
    digits = points.bit_length()
    return sorted(range(points + 1), key=lambda n: f"{n:0{digits}b}"[::-1])


def _stop_if_cancelled() -> None:
    with suppress(RuntimeError):  # which says that this is no thread of a loop's
        trio.from_thread.check_cancelled()

"""The stop ladder of one run: ask, cut, clean up, let go.

A request is decided and takes effect in one step without an ``await``: the status, the gates of
the whole subtree, the cancelled scope. After that the only mechanism is time: sections in flight
have deadlines (see ``operations``), and one timer a run says when its cleanup has run out. That
timer starts when it is the run's turn to unwind, that is, when nothing of it is in flight and all
its children have ended; every step of the cleanup starts it anew.
"""

from __future__ import annotations

from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.errors import RunEnded
from orchestrator.events import RunEscalated, RunStopping
from orchestrator.last_rung import LastRung
from orchestrator.lifecycle import Move
from orchestrator.model import RunStatus, StopMode, StopSource
from orchestrator.part import Part
from orchestrator.stopping import KILL_S, Stop, in_words

if TYPE_CHECKING:
    from orchestrator.model import StopRequest
    from orchestrator.run import Run
    from orchestrator.sections import Section
    from orchestrator.timers import Timer


class Ladder(Part["Run"]):
    """How one run is stopped.

    Attributes:
        stop: the account of the stop; None until one is asked for.
        last: the rung for code that does not exit.
    """

    __slots__ = ("_kill", "_rang", "last", "stop")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._kill: Timer | None = None
        # When its cleanup time was over, on Trio's clock; None before that.
        self._rang: float | None = None
        self.stop: Stop | None = None
        self.last = LastRung(run)

    @property
    def account(self) -> Stop:
        """The stop of a run that is known to be stopping."""
        assert self.stop is not None
        return self.stop

    @property
    def cleanup_s(self) -> float:
        """How long one cleanup step may take; short once the run is killed."""
        killed = self.stop is not None and self.stop.mode is StopMode.KILL
        return KILL_S if killed else self._run.record.options.cleanup_s

    @property
    def cleanup_left_s(self) -> float:
        """How long the agent's own cleanup may still take."""
        now = trio.current_time()
        if self._rang is not None:
            # Only what a kill leaves, and a little less, so that the code has time to exit.
            killed = self.account.mode is StopMode.KILL
            return max(0.0, self._rang + 0.9 * KILL_S - now) if killed else 0.0
        if self._kill is None or self._kill.when == inf:
            return self.cleanup_s
        return max(0.0, self._kill.when - now)

    def request(self, request: StopRequest) -> None:
        """Take a stop request for the run and everything below it. Not a checkpoint.

        Raises:
            RunEnded: there is nothing left to stop.
        """
        run = self._run
        if run.record.status.is_terminal:
            raise RunEnded(run.id, run.record.status)
        until = trio.current_time() + request.grace_s
        below = _from_parent(request)
        for each in run.subtree():
            each.ladder.take(request if each is run else below, until)
        run.scope.cancel(reason=in_words(request))
        # After it, so that code hears of the stop and not of a connection that is gone.
        for each in run.subtree():
            if each.gate.over:
                each.hang_up()

    def follow(self, above: Ladder) -> None:
        """Take over a stop of the parent's that was asked for before this run began.

        Only a critical section or a compensation starts a sub-agent then.
        """
        if above.stop is not None and self.stop is None:
            self.take(_from_parent(above.stop.request), above.stop.until)
            self.account.began = above.stop.began

    def take(self, request: StopRequest, until: float) -> None:
        """Take a request for this one run of the subtree that it is for."""
        status = self._run.record.status
        if status is RunStatus.QUEUED:
            self._withdraw(request)
        elif self.stop is not None:
            self._tighten(request, until)
        else:
            self._enter(request, until)

    def _enter(self, request: StopRequest, until: float) -> None:
        run = self._run
        self.stop = Stop(
            request=request,
            previous_status=run.record.status,
            until=until,
            runs_stopped=len(run.subtree()),
            mode=request.mode,
            detached=run.detached,
        )
        self._close_gate()
        run.ledger.change(
            Move.STOP,
            RunStopping(
                request.mode,
                request.grace_s,
                request.source,
                request.requested_by,
                request.reason,
            ),
            stop=self.stop.receipt(),
        )
        self.rearm()

    def section_ended(self, section: Section, *, cut: bool) -> None:
        """Count an operation or critical section that ended under the stop."""
        for run in self._run.stopping_lineage():
            stop = run.ladder.account
            if section.holds:
                held = trio.current_time() - max(stop.began, section.started)
                stop.critical_s = max(stop.critical_s, held)
                stop.critical_cut |= cut
            elif cut:
                stop.cut += 1
                if stop.cut == 1 and stop.mode is StopMode.GRACEFUL:
                    run.tell(RunEscalated(StopMode.NOW, "grace", "the grace is over"))
            else:
                stop.finished += 1
        self._go_on()

    def child_ended(self) -> None:
        """Note that a child has ended, perhaps with code that was let go and still stands."""
        self._go_on()

    def _go_on(self) -> None:
        """Something has ended: say anew when the cleanup has run out, or that it never will."""
        run = self._run
        if self.stop is None or self.last.reached or run.record.status.is_terminal:
            return
        stuck = any(each.parent is run for each in run.services.stuck)
        if stuck and not run.children and not run.gate.sections:
            # The child's code stands in our nursery, so ours can never exit either.
            self.last.begin(patience_s=0)
        else:
            self.rearm()

    def rearm(self, step_s: float | None = None) -> None:
        """Say anew when the cleanup has run out.

        Args:
            step_s: a cleanup step of that bound begins; None while the agent's code unwinds.
        """
        if self.stop is None or self.last.reached:
            return
        self.last.postpone()
        self._rang = None
        if self._kill is None:
            self._kill = self._run.services.timers.timer(self._time_is_up)
        now = trio.current_time()
        if step_s is not None:
            # The step's own bound comes first; this is for a step that swallows it.
            self._kill.set(now + step_s + KILL_S)
        elif self.stop.mode is StopMode.KILL:
            # It rings now; the agent's code may have its turn before that, and clean up.
            self._rang = now
            self._kill.set(now)
        elif self._run.children:
            self._kill.unset()
        else:
            self._kill.set(self._run.gate.bound() + self.cleanup_s)

    def disarm(self) -> None:
        """Forget the alarm: the run has ended."""
        if self._kill is not None:
            self._kill.unset()
            self._kill = None

    def _withdraw(self, request: StopRequest) -> None:
        """Stop a queued run: its agent's code never runs."""
        before = RunStatus.QUEUED
        self.stop = Stop(
            request=request, previous_status=before, until=-inf, runs_stopped=1, mode=request.mode
        )
        self._run.gate.close(-inf)
        self._run.scope.cancel(reason="stopped before it began")
        late = request.source is StopSource.DEADLINE
        self._run.end(Move.TIME_OUT if late else Move.STOP)

    def _tighten(self, request: StopRequest, until: float) -> None:
        stop = self.account
        if not stop.tighten(request, until):
            self._run.save(stop=stop.receipt())
            return
        self._close_gate()
        escalated = RunEscalated(stop.mode, request.source, request.reason)
        self._run.ledger.change(Move.STOP, escalated, stop=stop.receipt())
        self.rearm()

    def _close_gate(self) -> None:
        if self.account.mode is StopMode.KILL:
            self._run.gate.revoke()
        else:
            self._run.gate.close(self.account.until)

    def _time_is_up(self) -> None:
        self._rang = trio.current_time()
        if self.account.mode is not StopMode.KILL:
            self.last.look()
        self.last.begin(patience_s=KILL_S)


def _from_parent(request: StopRequest) -> StopRequest:
    return replace(request, source=StopSource.PARENT)

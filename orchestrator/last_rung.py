"""The last rung of the ladder: a run whose code does not exit is let go, and says where it stands.

Everything of it is closed from outside first, and its process killed if it has one. Code that
stands all the same, in this process, is named on the receipt; nothing else may be said of it.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.cleanup import bounded, patience
from orchestrator.events import RunEscalated, RunLog
from orchestrator.lifecycle import Move
from orchestrator.model import StopMode
from orchestrator.part import Part
from orchestrator.stopping import KILL_S
from orchestrator.supervise import compensate

if TYPE_CHECKING:
    from orchestrator.run import Run
    from orchestrator.worker.driver import Worker

# How long a run whose process was killed may take to notice.
EXIT_S = 5.0


class LastRung(Part["Run"]):
    """How one run is let go, if it comes to that."""

    __slots__ = ("_gone", "_slow", "_steps", "_unwinding")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        # Where the code stood when its cleanup time was over.
        self._slow = ""
        # Grows with every step of the unwinding, so that patience is with a step, not with all.
        self._steps = 0
        # Set when the letting go is over; None while it has not begun.
        self._gone: trio.Event | None = None
        # The agent's code has exited.
        self._unwinding = False

    @property
    def reached(self) -> bool:
        """Whether the run is being let go, which nothing takes back."""
        return self._gone is not None

    def postpone(self) -> None:
        """A step of the unwinding begins: what was going to let go of the last one need not."""
        self._steps += 1

    def look(self) -> None:
        """Note where the code stands whose cleanup time is over, and say it in the feed."""
        self._slow = self._places()
        if (worker := self._run.worker) is None:
            self._name_the_place()
        else:
            self._run.services.spawn(self._look_again, self._run, worker)

    def _places(self) -> str:
        return ", ".join(at.place for at in self._run.standing())

    def _name_the_place(self) -> None:
        if self._slow:
            self._run.tell(RunLog("warning", f"still stopping: its code stands at {self._slow}"))

    async def _look_again(self, run: Run, worker: Worker) -> None:
        await worker.look()
        self._slow = self._slow and self._places()
        self._name_the_place()

    def begin(self, patience_s: float) -> None:
        """Close everything of the run from outside, and let go of it when patience is over."""
        # Here and not in the task: by its turn the next step may have begun.
        self._run.gate.revoke()
        self._run.hang_up()
        if self._run.worker is not None:
            self._run.worker.terminate()
        self._run.services.spawn(self._let_go, self._run, patience_s, self._steps)

    async def _let_go(self, run: Run, patience_s: float, step: int) -> None:
        # Given the run: it may end before the first turn of this task, and nobody else hold it.
        # Of a process that goes meanwhile, the run may have yet to hear.
        worker = run.worker
        # Shielded: it must come to its end when the whole orchestrator is being cancelled.
        with bounded(inf):
            await patience(run.exited, patience_s)
            if worker is not None and self._steps == step:
                await self._kill_worker(worker)
            # Live children come first: the last one to end begins this anew.
            over = run.exited.is_set() or self.reached
            if over or run.children or self._steps != step:
                return
            self._gone, standing = trio.Event(), run.standing()
            why = f"its code does not exit: it stands at {self._places()}"
            run.tell(RunEscalated(StopMode.KILL, "cleanup", why))
            await self._compensate()
            if not self._unwinding:
                run.context.flush()
                run.end(Move.ABANDON, still_running=standing)
            self._gone.set()

    async def _kill_worker(self, worker: Worker) -> None:
        """End the run's process, and give what became of it the time to be seen."""
        await worker.kill()
        with trio.move_on_after(EXIT_S):
            await self._run.exited.wait()

    async def _compensate(self) -> None:
        """Run the compensations in a task of their own, which may get stuck as well."""
        if not self._run.compensations:
            return
        done = trio.Event()

        async def work() -> None:
            with bounded(inf):
                await compensate(self._run)
            done.set()

        self._run.services.spawn(work)
        while not done.is_set():
            # Others may be registered meanwhile; but each in turn has this long at the most.
            waiting = len(self._run.compensations)
            await patience(done, self._run.ladder.cleanup_s + KILL_S)
            if not done.is_set() and len(self._run.compensations) == waiting:
                self._run.cleanup_failed("a compensation does not exit either")
                return

    async def over(self) -> None:
        """Let the letting go come to its end, if it has begun: the code has exited after all,
        and if that came in time the run goes on to its ordinary end."""
        self._unwinding = True
        if (place := self._slow) and self._gone is None:
            self._slow = ""
            self._run.cleanup_failed(f"its code took longer than its cleanup time, at {place}")
        if self._gone is not None:
            with bounded(inf):
                await self._gone.wait()

"""What whoever holds a run may ask of it. Runs are made by ``Orchestrator.start``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.agent import as_json, parse_options
from orchestrator.context import running_in
from orchestrator.errors import IllegalTransition, RunEnded, TooLateToStop, check_text
from orchestrator.model import StopSource
from orchestrator.stack import TaskStack, frames_of, task_tree
from orchestrator.stopping import stop_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    import trio

    from orchestrator.ladder import Ladder
    from orchestrator.limits import Limits
    from orchestrator.model import Json, Receipt, RunId, RunRecord, Standing
    from orchestrator.pausing import Brake
    from orchestrator.questions import Questions
    from orchestrator.services import Services
    from orchestrator.stopping import StopArguments
    from orchestrator.worker.driver import Worker


class Handle:
    """The verbs of a live run. Those that begin with ``request_`` take effect before they return,
    and return the journal's ticket: once it is durable they may be acknowledged.
    """

    if TYPE_CHECKING:
        services: Services
        ladder: Ladder
        brake: Brake
        limits: Limits
        questions: Questions
        task: trio.lowlevel.Task | None
        worker: Worker | None
        ended: trio.Event

        @property
        def id(self) -> RunId: ...
        @property
        def record(self) -> RunRecord: ...
        @property
        def ticket(self) -> int: ...
        def lineage(self) -> Iterator[Handle]: ...

    def request_stop(self, **asked: Unpack[StopArguments]) -> int:
        """Ask the run and everything below it to stop; takes effect before it returns.

        Not a checkpoint. May be called again: a later request can only tighten the stop.

        Returns:
            the journal's ticket: once it is durable the stop may be acknowledged.

        Raises:
            RunEnded: the run has ended already.
            TooLateToStop: a user asks, and the run or one above it is too far for that.
            InvalidInput: an argument is out of its range.
        """
        request = stop_request(asked, self.record.options.grace_s, self.services.now(0))
        if request.source is StopSource.USER and self.ladder.stop is None:
            self._check_not_too_late()
        self.ladder.request(request)
        return self.ticket

    def _check_not_too_late(self) -> None:
        for run in self.lineage():
            limit, percent = run.record.options.no_stop_after_percent, run.record.progress.percent
            if limit is not None and percent >= limit and not self.record.status.is_terminal:
                raise TooLateToStop(run.id, percent, limit)

    def request_pause(self, *, requested_by: str = "", reason: str = "") -> int:
        """Let nothing new start in the run and below it; what is in flight finishes.

        Takes effect before it returns; the run is ``paused`` once nothing is in flight. Not a
        checkpoint. Deadlines tick on. Returns a ticket as ``request_stop`` does.

        Raises:
            IllegalTransition: the lifecycle does not allow it now.
        """
        texts = check_text("requested_by", requested_by), check_text("reason", reason)
        self.brake.pause(*texts)
        return self.ticket

    def request_resume(self, *, requested_by: str = "") -> int:
        """Let a run that was paused, and everything below it, go on. Not a checkpoint.

        Raises:
            IllegalTransition: the lifecycle does not allow it now.
            ParentIsPaused: it is part of a tree that is paused.
        """
        self.brake.resume(check_text("requested_by", requested_by))
        return self.ticket

    def request_step(self, *, requested_by: str = "") -> int:
        """Let one task of a paused tree through its gate, then pause again. Not a checkpoint.

        Raises:
            IllegalTransition: the run is not paused.
            ParentIsPaused: it is part of a tree that is paused.
        """
        self.brake.step(check_text("requested_by", requested_by))
        return self.ticket

    def answer(self, question_id: str, answer: Json, *, answered_by: str = "") -> int:
        """Answer a question of the run's. Not a checkpoint.

        Raises:
            NobodyAsks: it was answered, withdrawn, or never asked.
            InvalidInput: the answer does not fit the question's schema; the question stays.
        """
        answer = as_json(answer, "answer")
        self.questions.answer(question_id, answer, check_text("answered_by", answered_by))
        return self.ticket

    def move_deadline(self, deadline_s: float | None, *, requested_by: str = "") -> int:
        """Let the run's deadline be so many seconds from now, None for never. Not a checkpoint.

        Raises:
            InvalidInput: it is no positive number of seconds.
            RunEnded, IllegalTransition: it has ended, or is being stopped.
        """
        if self.record.status.is_terminal:
            raise RunEnded(self.id, self.record.status)
        if self.ladder.stop is not None:
            raise IllegalTransition(self.record.status, "get another deadline")
        parse_options({"deadline_s": deadline_s})
        self.limits.move_deadline(deadline_s, check_text("requested_by", requested_by))
        return self.ticket

    async def stop(self, **asked: Unpack[StopArguments]) -> Receipt:
        """Stop the run and return its receipt once it is torn down, or honestly abandoned.

        Arguments and errors as in ``request_stop``. The wait is bounded by the grace and the
        cleanup time of the tree, and by the store.
        """
        self.request_stop(**asked)
        await self.ended.wait()
        assert self.record.stop is not None
        return self.record.stop

    async def wait(self) -> RunRecord:
        """Wait until the run has ended, and return its final record. A checkpoint."""
        await self.ended.wait()
        return self.record

    def stack(self) -> list[TaskStack]:
        """Return the await stack of each live task of the run and its sub-agents."""
        if self.task is None:
            return []
        return [
            TaskStack(run.id, run.record.agent, operation, frames_of(task))
            for task in task_tree(self.task)
            for run, operation in running_in(task)
            # Also of sub-agents that were let go, and so are no children any more.
            if self in run.lineage()
        ]

    def standing(self) -> tuple[Standing, ...]:
        """Return where each task of the run still stands; of a process of its own, its id."""
        if self.worker is not None:
            return (self.worker.standing,)
        return tuple(stack.standing for stack in self.stack())

"""What whoever holds a run may ask of it. Runs are made by ``Orchestrator.start``."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypedDict

import trio

from orchestrator.agent import as_json
from orchestrator.context import stacks_below
from orchestrator.errors import (
    IllegalTransition,
    RunEnded,
    StoreUnavailable,
    TooLateToStop,
    check_text,
)
from orchestrator.events import RunTagged
from orchestrator.faults import check_names
from orchestrator.model import RunStatus, StopSource
from orchestrator.options import check_tags, parse_options
from orchestrator.sections import current_section
from orchestrator.stopping import stop_request
from orchestrator.store.writes import SaveTags

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Unpack

    from orchestrator.ladder import Ladder
    from orchestrator.ledger import Ledger
    from orchestrator.limits import Limits
    from orchestrator.model import Json, Receipt, RunId, RunRecord, Standing
    from orchestrator.pausing import Brake
    from orchestrator.questions import Questions
    from orchestrator.services import Services
    from orchestrator.stack import TaskStack
    from orchestrator.stopping import StopArguments
    from orchestrator.worker.driver import Worker


class Changes(TypedDict, total=False):
    """What may be changed of a live run; what is left out stays.

    Attributes:
        deadline_s: seconds from now to the deadline, None for never.
        tags: instead of those that it has.
    """

    deadline_s: float | None
    tags: Sequence[str]


class Handle:
    """The verbs of a live run. Those that begin with ``request_`` take effect before they return,
    and return the journal's ticket: once it is durable they may be acknowledged.
    """

    if TYPE_CHECKING:
        services: Services
        ledger: Ledger
        ladder: Ladder
        brake: Brake
        limits: Limits
        questions: Questions
        task: trio.lowlevel.Task | None
        worker: Worker | None
        ended: trio.Event

        def lineage(self) -> Iterator[Handle]: ...
        def subtree(self) -> Sequence[Handle]: ...

    @property
    def record(self) -> RunRecord:
        """What has been decided about the run; ``shown`` is what is durable of it."""
        return self.ledger.record

    @property
    def shown(self) -> RunRecord | None:
        """The record as it is durable, and so the one to show; None before the start is."""
        return self.ledger.shown

    @property
    def ticket(self) -> int:
        """The journal's ticket of the last change."""
        return self.ledger.ticket

    @property
    def start_ticket(self) -> int:
        """The ticket of the start: what belongs to it becomes durable along with that."""
        return self.ledger.start_ticket

    @property
    def withdrawn(self) -> int:
        """The ticket of what took back all that went along with the start, since that was not
        stored; 0 if nothing was taken back."""
        return self.ledger.withdrawn

    @property
    def id(self) -> RunId:
        """The run's id."""
        return self.record.id

    @property
    def status(self) -> str:
        """The status that is durable, and so the one to show."""
        return (self.shown or self.record).status

    @property
    def receipt(self) -> Receipt | None:
        """The account of the stop so far, or the settled one; None if no stop was asked for."""
        stop = self.ladder.stop
        if self.record.status.is_terminal or stop is None:
            return self.record.stop
        return stop.receipt()

    @property
    def is_held(self) -> bool:
        """Whether a pause is in effect; nothing below it goes on then."""
        return self.record.status in (RunStatus.PAUSING, RunStatus.PAUSED)

    def request_stop(self, **asked: Unpack[StopArguments]) -> int:
        """Ask the run and everything below it to stop; takes effect before it returns.

        Not a checkpoint. May be called again: a later request can only tighten the stop.

        Returns:
            the journal's ticket: once it is durable the stop may be acknowledged.

        Raises:
            RunEnded: the run has ended already.
            TooLateToStop: a user asks, and the run or one above it is too far for that.
            InvalidInput: an argument is out of its range.
            StoreUnavailable: the orchestrator is closed, and leaves the run to the next one.
        """
        self._check_not_left()
        request = stop_request(asked, self.record.options.grace_s, self.services.now(0))
        if request.source is StopSource.USER and self.ladder.stop is None:
            self._check_not_too_late()
        self.ladder.request(request)
        return self.ticket

    def _check_not_left(self) -> None:
        """Refuse to say anything of a run that has not ended, and that the next process may start.

        Raises:
            StoreUnavailable: it is one.
        """
        if self.ended.is_set() and not self.record.status.is_terminal:
            why = f"the orchestrator is closed, and run {self.id} waits on record for the next one"
            raise StoreUnavailable(why)

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

    def change(self, *, requested_by: str = "", **changes: Unpack[Changes]) -> int:
        """Change what is named, all of it or, if any of it is refused, nothing. Not a checkpoint.

        Raises:
            InvalidInput: a value does not fit, or there is nothing of such a name.
            RunEnded, IllegalTransition: the run has ended; or it is being stopped, and so gets no
                other deadline.
        """
        check_names(changes, Changes.__annotations__)
        if self.record.status.is_terminal:
            raise RunEnded(self.id, self.record.status)
        if "deadline_s" in changes:
            if self.ladder.stop is not None:
                raise IllegalTransition(self.record.status, "get another deadline")
            deadline_s = parse_options({"deadline_s": changes["deadline_s"]}).deadline_s
        tags = check_tags(changes["tags"]) if "tags" in changes else None
        check_text("requested_by", requested_by)
        if "deadline_s" in changes:
            self.limits.move_deadline(deadline_s, requested_by)
        if tags is not None:
            told = RunTagged(list(tags), requested_by)
            save = SaveTags(self.id, self.record.tags, tags)
            self.ledger.save(save, payload=told, urgent=True, retagged=tags)
        return self.ticket

    def move_deadline(self, deadline_s: float | None, *, requested_by: str = "") -> int:
        """Let the run's deadline be so many seconds from now, None for never. Not a checkpoint.

        Raises:
            InvalidInput: it is no positive number of seconds.
            RunEnded, IllegalTransition: it has ended, or is being stopped.
        """
        return self.change(deadline_s=deadline_s, requested_by=requested_by)

    def retag(self, tags: Sequence[str], *, requested_by: str = "") -> int:
        """Let the run have these tags instead of those that it has. Not a checkpoint.

        Raises:
            InvalidInput: they are no texts, or more than 100.
            RunEnded: it has ended.
        """
        return self.change(tags=tags, requested_by=requested_by)

    async def stop(self, **asked: Unpack[StopArguments]) -> Receipt:
        """Stop the run and return its receipt once it is torn down, or honestly abandoned.

        Arguments as in ``request_stop``. The wait is bounded by the grace and the cleanup time of
        the tree, and by the store. Whoever comes after the end of a stop gets its receipt too.

        Raises:
            RunEnded: the run has ended without a stop.
            TooLateToStop, InvalidInput, StoreUnavailable: as in ``request_stop``.
        """
        with suppress(RunEnded):
            self.request_stop(**asked)
        await self.ended.wait()
        if self.record.stop is None:
            raise RunEnded(self.id, self.record.status)
        return self.record.stop

    async def wait(self) -> RunRecord:
        """Wait until the run has ended, and return its final record. A checkpoint.

        Raises:
            StoreUnavailable: the orchestrator is closed, and leaves the run to the next one.
        """
        await self.ended.wait()
        self._check_not_left()
        return self.record

    def traceparent(self) -> str:
        """Return where the code at hand stands in a trace, for what it calls; empty for nowhere."""
        section = current_section()
        operation = section.number if section is not None and not section.holds else None
        return self.services.observers.traceparent(self.record, operation)

    async def stack(self) -> list[TaskStack]:
        """Return where each live task of the run and its sub-agents stands.

        Processes of their own are asked for their tasks and threads; of one that does not answer
        within half a second, that is said. A checkpoint if there are any.
        """
        found: list[TaskStack] = []
        workers = [run.worker for run in self.subtree() if run.worker is not None]
        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(worker.look)
        for worker in workers:
            found += worker.stacks
        elsewhere = {stack.run_id for stack in found}
        return [*(each for each in self.stack_here() if each.run_id not in elsewhere), *found]

    def stack_here(self) -> list[TaskStack]:
        """Return where each task in this process that works for the run and its sub-agents
        stands. Not a checkpoint."""
        if self.task is None:
            return []
        # Also of sub-agents that were let go, and so are no children any more.
        return stacks_below(self.task, lambda run: self in run.lineage())

    def standing(self) -> tuple[Standing, ...]:
        """Return where each task of the run still stands; of a process of its own, what it said
        when it was last asked. Not a checkpoint."""
        stacks = self.stack_here() if self.worker is None else self.worker.stacks
        return tuple(stack.standing for stack in stacks)

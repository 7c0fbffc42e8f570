"""Every error that Quiesce raises on purpose.

The docstring of a class is its default message, put like the others: without a capital, without a
full stop. Fields carry what a program may want to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.model import Receipt, RunError, RunId, RunStatus


class OrchestratorError(Exception):
    """Something went wrong in Quiesce."""

    def __init__(self, message: str | None = None) -> None:
        said = (type(self).__doc__ or "").removesuffix(".")
        super().__init__(message or said[:1].lower() + said[1:])


class StopRequested(BaseException):
    """Raised in an agent that is a plain function when its run is stopped. Let it pass: it is no
    ``Exception``, so that an ``except Exception`` does not swallow the stop."""


class InvalidInput(OrchestratorError):
    """A value that was given does not fit.

    Attributes:
        problems: one ``(field, what is wrong and what would be right)`` pair for each fault;
            a nested field is dotted (``options.deadline_s``).
    """

    def __init__(self, problems: Sequence[tuple[str, str]]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{field}: {why}" for field, why in self.problems))


class UnknownAgent(OrchestratorError):
    """No agent of that name is registered."""

    def __init__(self, name: str, known: Sequence[str] = ()) -> None:
        self.name = name
        listed = ", ".join(sorted(known)) or "none"
        super().__init__(f"no agent is named {name!r}; registered agents: {listed}")


class UnknownRun(OrchestratorError):
    """No run has that id."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"no run has the id {run_id!r}")


class IllegalTransition(OrchestratorError):
    """The lifecycle does not allow that move from the run's status."""

    def __init__(self, status: RunStatus, move: str) -> None:
        self.status = status
        self.move = move
        super().__init__(f"a run that is {status} cannot {move}")


class RunEnded(OrchestratorError):
    """The run has ended, so there is nothing left to act on."""

    def __init__(self, run_id: RunId, status: RunStatus) -> None:
        self.run_id = run_id
        self.status = status
        super().__init__(f"run {run_id} has already ended: it is {status}")


class TooLateToStop(OrchestratorError):
    """A run is too far for a user to stop it; ``no_stop_after_percent`` says so."""

    def __init__(self, run_id: RunId, percent: float, limit: float) -> None:
        self.run_id = run_id
        self.percent = percent
        self.limit = limit
        super().__init__(
            f"run {run_id} is at {percent:g} %, and from {limit:g} % on only an admin may stop it"
        )


class ParentIsPaused(OrchestratorError):
    """A sub-agent cannot go on while its parent is paused."""

    def __init__(self, run_id: RunId, parent_id: RunId) -> None:
        self.run_id = run_id
        self.parent_id = parent_id
        super().__init__(
            f"run {run_id} cannot go on while its parent is paused; resume {parent_id} instead"
        )


class PartOfATree(OrchestratorError):
    """A sub-agent's run is part of its root's, and kept and deleted with it."""

    def __init__(self, run_id: RunId, root_id: RunId) -> None:
        self.run_id = run_id
        self.root_id = root_id
        super().__init__(f"run {run_id} is a sub-agent's; delete {root_id}, which it is part of")


class NobodyAsks(OrchestratorError):
    """No question of that id waits for an answer (any more)."""

    def __init__(self, run_id: RunId, question_id: str) -> None:
        self.run_id = run_id
        self.question_id = question_id
        super().__init__(f"run {run_id} does not ask question {question_id!r} (any more)")


class NotAnswered(OrchestratorError):
    """Nobody answered a question in time."""

    def __init__(self, question: str, within_s: float) -> None:
        self.question = question
        self.within_s = within_s
        super().__init__(f"nobody answered within {within_s:g} s: {question}")


class StartsRefused(OrchestratorError):
    """The orchestrator is shutting down and starts nothing new."""


class Halted(StartsRefused):
    """Everything is halted, and nothing starts until the halt is lifted."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        why = f": {reason}" if reason else ""
        super().__init__(f"everything is halted{why}; nothing starts until the halt is lifted")


class QueueFull(OrchestratorError):
    """So many runs wait already that no more may."""

    def __init__(self, max_queued: int) -> None:
        self.max_queued = max_queued
        super().__init__(f"{max_queued} runs wait already, and no more may; try again later")


class KeyConflict(OrchestratorError):
    """Another run with that key has not ended, and the start was not to wait for it."""

    def __init__(self, key: str, run_id: RunId, status: RunStatus) -> None:
        self.key = key
        self.run_id = run_id
        self.status = status
        super().__init__(
            f"run {run_id} has the key {key!r} and has not ended; stop it, wait for its end, or"
            ' start with on_conflict="enqueue" or "stop_previous"'
        )


class UnknownSchedule(OrchestratorError):
    """No schedule has that id."""

    def __init__(self, schedule_id: str) -> None:
        self.schedule_id = schedule_id
        super().__init__(f"no schedule has the id {schedule_id!r}")


class ScheduleExists(OrchestratorError):
    """A schedule with that id is there already; delete it first, or choose another id."""

    def __init__(self, schedule_id: str) -> None:
        self.schedule_id = schedule_id
        super().__init__(
            f"a schedule with the id {schedule_id!r} is there already;"
            " delete it first, or choose another id"
        )


class OperationRefused(OrchestratorError):
    """The run is being stopped or has ended, so no operation of it may start any more."""

    def __init__(self, kind: str, label: str = "") -> None:
        self.kind = kind
        self.label = label
        what = f"{kind} {label!r}" if label else kind
        super().__init__(
            f"{what} was refused: its run is being stopped or has ended, and nothing new may"
            " start; do it before that, in ctx.critical(), or in a ctx.on_stop() compensation"
        )


class OperationCut(OrchestratorError):
    """A stop's time for what was in flight ran out.

    Raised only where Trio's own ``Cancelled`` cannot arrive: in a critical section that took
    longer than it said, or inside a shield of the agent's own.
    """

    def __init__(self, kind: str, label: str = "") -> None:
        self.kind = kind
        self.label = label
        super().__init__(f"{kind} {label!r} was cut by a stop")


class OperationsAreLeaves(OrchestratorError):
    """Operations are leaves: nothing that is a step of its own may start inside one."""

    def __init__(self, outer: str, inner: str) -> None:
        self.outer = outer
        self.inner = inner
        super().__init__(
            f"{inner} was started inside the operation {outer!r}, but operations are leaves,"
            f" since a stop shields them while they are in flight; start {inner} outside it"
        )


class AgentFailed(OrchestratorError):
    """A sub-agent ended with an error.

    In the same process the original exception is the ``__cause__``.
    """

    def __init__(self, agent: str, run_id: RunId, error: RunError) -> None:
        self.agent = agent
        self.run_id = run_id
        self.error = error
        super().__init__(f"sub-agent {agent} failed: {error.type}: {error.message}")


class AgentStopped(OrchestratorError):
    """A sub-agent was stopped while its parent goes on."""

    def __init__(self, agent: str, run_id: RunId, receipt: Receipt) -> None:
        self.agent = agent
        self.run_id = run_id
        self.receipt = receipt
        why = f" ({receipt.reason})" if receipt.reason else ""
        super().__init__(f"sub-agent {agent} was stopped by {receipt.source}{why}")


class ExtraMissing(OrchestratorError):
    """A package is missing that is installed only if asked for."""

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(
            f"the package {package!r} is not installed; run: pip install 'quiesce[{extra}]'"
        )


class UnfitAnswer(OrchestratorError):
    """A model's answer is not what was asked for.

    Attributes:
        text: what was answered, as far as it came.
    """

    def __init__(self, why: str, text: str) -> None:
        self.text = text
        super().__init__(f"{why}; the answer was: {text[:1000]!r}")


class WorkerDied(OrchestratorError):
    """A run's process ended before its agent did.

    Attributes:
        words: how it ended.
    """

    def __init__(self, words: str) -> None:
        self.words = words
        super().__init__(f"the worker process ended: {words}")


class StoreUnavailable(OrchestratorError):
    """The store does not take writes at present; what is in memory is kept and retried."""


class StoreInUse(OrchestratorError):
    """Another process has this store open; stop it first, or use another file."""


class StoreDamaged(OrchestratorError):
    """The store cannot be read; restore it from a backup, or move it away to begin a new one."""


def in_words(error: BaseException) -> str:
    """Return what an exception says, even one that cannot be printed."""
    try:
        return str(error) or repr(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return "(it cannot be put into words)"


def check_text(field: str, value: object) -> str:
    """Return a text that is given from outside.

    Raises:
        InvalidInput: it is no string, or has no UTF-8 form; the store could not take it.
    """
    if not isinstance(value, str):
        raise InvalidInput([(field, f"must be a string, not {type(value).__name__}")])
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput([(field, f"{value!r} has characters that are no text")]) from None
    return value


def check_count(field: str, value: int | None, *, least: int) -> int | None:
    """Return a limit that is given from outside; None is no limit.

    Raises:
        InvalidInput: it is no whole number, or less than the least.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise InvalidInput([(field, f"must be a whole number, not {value!r}")])
    if value is not None and value < least:
        raise InvalidInput([(field, f"must be {least} or more, not {value}")])
    return value

"""The frozen values that everything else speaks of. Standard library only, no behaviour.

Times that are shown (``*_at``) are RFC 3339 UTC strings made by one injected ``now``. Durations
are seconds as floats and end in ``_s`` (or are called ``seconds``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NewType

RunId = NewType("RunId", str)

Json = Any  # What agents are given and hand back. Nothing else in the core is untyped.


class RunStatus(StrEnum):
    """Where a run is in its life; see ``lifecycle`` for what may follow what."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    TIMED_OUT = "timed_out"
    ABANDONED = "abandoned"
    LOST = "lost"

    @property
    def is_terminal(self) -> bool:
        """True when nothing can ever follow."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    (
        *(RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.STOPPED),
        *(RunStatus.TIMED_OUT, RunStatus.ABANDONED, RunStatus.LOST),
    )
)


class StopMode(StrEnum):
    """A rung of the stop ladder. Later members are stricter."""

    GRACEFUL = "graceful"
    NOW = "now"
    KILL = "kill"

    @property
    def rank(self) -> int:
        """0 for the gentlest; a second stop may only raise it."""
        return list(StopMode).index(self)


class StopSource(StrEnum):
    """Who or what asked for a stop."""

    USER = "user"
    ADMIN = "admin"
    DEADLINE = "deadline"
    IDLE = "idle"
    PARENT = "parent"
    SUPERSEDED = "superseded"
    DISCONNECT = "disconnect"
    SHUTDOWN = "shutdown"
    HALT = "halt"


class StopOutcome(StrEnum):
    """What became of a stop."""

    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED_FIRST = "finished_first"
    ABANDONED = "abandoned"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequest:
    """Who asks, why, when, and how long operations in flight may still take.

    Attributes:
        grace_s: seconds from ``requested_at``; 0 for the modes ``now`` and ``kill``.
    """

    mode: StopMode
    grace_s: float
    source: StopSource
    requested_by: str
    requested_at: str
    reason: str = ""
    discard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """A stop of everything, after which nothing starts until it is lifted.

    Attributes:
        grace_s: the most that operations in flight may get; None for each run's own grace.
    """

    mode: StopMode
    grace_s: float | None
    reason: str
    requested_by: str
    requested_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationCounts:
    """Operations of the tree since the stop was asked for."""

    finished: int = 0
    cut: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a task of an abandoned run still stands: its innermost frame.

    Attributes:
        file: or else what is known instead; ``line`` is 0 then.
    """

    run_id: RunId
    agent: str
    file: str
    line: int
    function: str

    @property
    def place(self) -> str:
        """The file and line, or what is known instead."""
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True, kw_only=True)
class RunError:
    """An exception, in words."""

    type: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The account of one stop.

    Attributes:
        mode: the strictest mode that was asked for.
        reached: the rung that it took: ``graceful`` (everything in flight finished), ``now``
            (something was cut), ``kill`` (a process was killed, or code was abandoned).
        settled_at, seconds: None until the stop is settled; seconds since ``requested_at``.
        runs_stopped: runs of the tree that had not ended when the stop came, root included.
        killed_pids: which processes were killed, the first 100 of them.
        critical_s: for how long critical sections held the stop back, in seconds.
        error: what the agent raised while it was being stopped, if it did.
        detached: ids of runs that this tree had started detached; the stop left them alone.
        also: later stop requests, which could only tighten this one; ``discard``: of the first.
    """

    mode: StopMode
    reached: StopMode
    requested_at: str
    requested_by: str
    source: StopSource
    reason: str
    previous_status: RunStatus
    settled_at: str | None
    seconds: float | None
    outcome: StopOutcome
    runs_stopped: int
    operations: OperationCounts
    clients_closed: int
    processes_killed: int = 0
    killed_pids: tuple[int, ...] = ()
    cleanup_errors: tuple[str, ...] = ()
    critical_s: float = 0.0
    still_running: tuple[Standing, ...] = ()
    error: RunError | None = None
    detached: tuple[RunId, ...] = ()
    also: tuple[StopRequest, ...] = ()
    discard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run says that it is: 0 to 100, and a sentence."""

    percent: float = 0.0
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a run and everything below it spent on language models.

    Attributes:
        requests: calls that reached a model, those that were cut included.
        input_tokens, output_tokens: as far as the endpoints reported them.
        cost: US dollars, as far as prices are known.
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question to a person that waits for its answer.

    Attributes:
        id: the same when the run asks again after a restart.
        schema: JSON Schema of the answer.
        until_at: when the asker stops waiting; None for never.
    """

    id: str
    question: str
    schema: Json
    asked_at: str
    until_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the starter of a run may choose.

    Attributes:
        deadline_s: seconds from the first start of the agent's code; None for no limit.
        idle_timeout_s: seconds without any event of the tree; None for no limit.
        grace_s: the grace of a graceful stop that names none.
        cleanup_s: the bound of each cleanup step.
        isolation: where the agent's code runs: a task here, or a process, which can be killed.
        on_crash: what becomes of the run when its process dies: ``fail`` ends it ``lost``.
        max_attempts: how often in all ``on_crash="restart"`` may start it.
        on_disconnect: what becomes of the run when the last client that watched it is gone.
        debug: the run starts paused, and is taken from gate to gate by ``step``.
        start_after_s: seconds from the call before the run may start.
        start_by_s: seconds from the call in which it must have started; None for no limit.
        priority: among the runs that wait, the higher one is first.
        key: which runs of one owner are about the same thing.
        on_conflict: what becomes of a run that finds another one with its key.
        no_stop_after_percent: once its progress is there, no user may stop it; see ``StopSource``.
        webhook: a URL that is told when the run has ended, by whoever serves it.
        retention_s: seconds for which the tree is kept after its end; None for as long as the
            orchestrator keeps any. Only that of a root counts.
    """

    deadline_s: float | None = None
    idle_timeout_s: float | None = None
    grace_s: float = 30.0
    cleanup_s: float = 5.0
    isolation: Literal["task", "process"] = "task"
    on_crash: Literal["fail", "restart"] = "fail"
    max_attempts: int = 3
    on_disconnect: Literal["continue", "stop"] = "continue"
    debug: bool = False
    start_after_s: float = 0.0
    start_by_s: float | None = None
    priority: int = 0
    key: str | None = None
    on_conflict: Literal["allow", "reject", "enqueue", "stop_previous"] = "allow"
    no_stop_after_percent: float | None = None
    retention_s: float | None = None
    tags: tuple[str, ...] = ()
    webhook: str | None = None


@dataclass(frozen=True, kw_only=True)  # no slots: the ledger copies it in one go
class RunRecord:
    """Everything durable about a run except its events, partial result and artifacts.

    Attributes:
        version: grows by one with every change; the run's ETag.
        attempt: 1 for the first start, one more for each restart after a crash.
        input: JSON, as validated; result: JSON, only of a run that succeeded.
        waiting_for: the oldest question that no person has answered yet.
        usage: what the run and everything below it spent on language models.
        rerun_of: the run that this one repeats.
        turn: the round in which it is its owner's turn to start; 0 until it is in the queue.
        traceparent: where the starter of the root stands in a trace; empty for nowhere.
        files: the names of the artifacts that it was started with.
        deadline_moved: ``deadline_at`` was set anew, so what the options say does not count.
        retagged: the tags, once they are others than those of the start.
    """

    id: RunId
    agent: str
    root_id: RunId
    status: RunStatus
    created_at: str
    parent_id: RunId | None = None
    owner: str = ""
    input: Json = None
    options: RunOptions = field(default_factory=RunOptions)
    result: Json = None
    error: RunError | None = None
    progress: Progress = Progress()
    started_at: str | None = None
    ended_at: str | None = None
    deadline_at: str | None = None
    attempt: int = 1
    node: str = ""
    waiting_for: Question | None = None
    usage: Usage = Usage()
    rerun_of: RunId | None = None
    turn: int = 0
    traceparent: str = ""
    stop: Receipt | None = None
    files: tuple[str, ...] = ()
    deadline_moved: bool = False
    retagged: tuple[str, ...] | None = None
    version: int = 1

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that the run has now."""
        return self.options.tags if self.retagged is None else self.retagged

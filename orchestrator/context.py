"""The agent's door to everything that can be observed: its context, ``ctx``."""

from __future__ import annotations

import inspect
import re
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.agent import as_json
from orchestrator.cleanup import bounded
from orchestrator.errors import InvalidInput, check_text
from orchestrator.events import RunArtifact, RunLog, RunProgress, UserEvent
from orchestrator.model import Progress
from orchestrator.operations import section_in
from orchestrator.partials import PartialResult
from orchestrator.store.protocol import SaveArtifact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    import httpx

    from orchestrator.agent import Agent
    from orchestrator.model import Json, RunId
    from orchestrator.ports import Child, RunPort

_current: ContextVar[Context | None] = ContextVar("quiesce_context", default=None)

LOG_LEVELS = ("debug", "info", "warning", "error")
_EVENT_TYPE = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")
_OWN_FAMILIES = ("run.", "operation.", "step.")
_ARTIFACT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,199}")


class Context:
    """One run's door. Handed to the agent; ``current_context()`` gives it to code that was not.

    Unless said otherwise a method is a checkpoint: once a stop is asked for it raises
    ``trio.Cancelled`` (except within an operation or a critical section).
    """

    __slots__ = ("_partial", "_run")

    def __init__(self, run: RunPort) -> None:
        self._run = run
        self._partial: PartialResult | None = None

    @property
    def run_id(self) -> RunId:
        """The id of this run."""
        return self._run.id

    # Sub-agents

    async def call(self, agent: Agent | str, /, **input: Any) -> Any:
        """Run a sub-agent and return what it returns.

        Raises:
            AgentFailed: it raised; the original exception is the cause.
            AgentStopped: it was stopped alone.
            InvalidInput, UnknownAgent, OperationsAreLeaves: it was not started.
        """
        return await self._run.subagents.call(agent, input)

    async def map(
        self,
        agent: Agent | str,
        inputs: Sequence[Mapping[str, Any]],
        limit: int | None = None,
    ) -> list[Any]:
        """Run a sub-agent once for each input and return the results in the same order.

        The first that fails or is stopped ends the others, and its error is raised.

        Args:
            limit: how many may run at once; None for all.
        """
        return await self._run.subagents.map(agent, inputs, limit)

    async def start(self, agent: Agent | str, /, **input: Any) -> Child:
        """Start a sub-agent and go on. The run ends only after it; a failure of it is seen by
        whoever waits for it, and by nobody else."""
        return await self._run.subagents.start(agent, input)

    async def start_detached(self, agent: Agent | str, /, **input: Any) -> RunId:
        """Start a root run of its own, which a stop of this tree does not touch."""
        return await self._run.subagents.start_detached(agent, input)

    # Operations

    def operation(self, kind: str, label: str = "") -> AbstractAsyncContextManager[None]:
        """Guard the awaits in the body as one observable leaf action.

        Entering is a checkpoint and is refused once a stop is asked for. In flight a graceful
        stop lets it finish, up to the grace; leaving it then raises ``Cancelled``. So keep what
        the operation brought within its body.

        Raises:
            OperationsAreLeaves: it was entered inside another operation.
            OperationRefused, OperationCut: where ``Cancelled`` cannot arrive.
        """
        return self._run.gate.operation(kind, label)

    @property
    def http(self) -> httpx.AsyncClient:
        """This run's own HTTP client. Not an operation by itself; closed when the run ends."""
        return self._run.client.http

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Make an HTTP request as an operation; ``options`` as for ``httpx``. Reads the body."""
        async with self.operation("http", f"{method} {url}"):
            return await self.http.request(method, url, **options)

    async def get(self, url: str, **options: Any) -> httpx.Response:
        """``request("GET", …)``."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        """``request("POST", …)``."""
        return await self.request("POST", url, **options)

    # Telling

    async def progress(self, percent: float, message: str = "") -> None:
        """Say how far the run is: 0 to 100, and a sentence.

        Raises:
            InvalidInput: ``percent`` is not within 0 and 100.
        """
        if not 0 <= percent <= 100:
            raise InvalidInput([("percent", f"{percent!r} is not within 0 and 100")])
        check_text("message", message)
        await self._run.journal.room()
        percent = round(float(percent), 3)
        self._run.save(
            payload=RunProgress(percent, message),
            progress=Progress(percent=percent, message=message),
        )

    async def log(self, message: str, level: str = "info") -> None:
        """Append a line to the run's log; ``level`` is debug, info, warning or error."""
        if level not in LOG_LEVELS:
            raise InvalidInput([("level", f"{level!r} is not one of {', '.join(LOG_LEVELS)}")])
        check_text("message", message)
        await self._run.journal.room()
        self._run.tell(RunLog(level, message))

    async def emit(self, type: str, data: Mapping[str, Any] | None = None) -> None:
        """Append an event of the agent's own.

        Args:
            type: dotted lower case, such as ``order.paid``; the families ``run.``,
                ``operation.`` and ``step.`` are taken.
            data: a JSON object.
        """
        if not _EVENT_TYPE.fullmatch(check_text("type", type)) or type.startswith(_OWN_FAMILIES):
            raise InvalidInput(
                [("type", f"{type!r} is not dotted lower case like `order.paid`, or is taken")]
            )
        value = as_json(dict(data or {}), "data")
        await self._run.journal.room()
        self._run.tell(UserEvent(type, value))

    async def partial(self, value: Json) -> None:
        """Set the run's latest partial result, which a stop keeps.

        Cheap to call often: the value is encoded now and then, and when the run ends; so pass
        the object that grows, and do not take it apart afterwards.
        """
        await self._run.journal.room()
        if self._partial is None:
            self._partial = PartialResult(self._run)
        self._partial.set(value)

    async def artifact(
        self,
        name: str,
        data: bytes,
        *,
        append: bool = False,
        media_type: str = "application/octet-stream",
    ) -> None:
        """Keep a file with the run.

        Args:
            append: add to the end of what is there, at a cost that does not grow with it.
        """
        if not _ARTIFACT_NAME.fullmatch(check_text("name", name)):
            raise InvalidInput(
                [("name", f"{name!r} is not a plain file name of at most 200 characters")]
            )
        check_text("media_type", media_type)
        await self._run.journal.room()
        self._run.tell(
            RunArtifact(name, len(data)),
            SaveArtifact(self.run_id, name, media_type, bytes(data), append),
        )

    def flush(self) -> None:
        """Write a partial result that waits to be encoded. Not a checkpoint."""
        if self._partial is not None:
            self._partial.write()

    # Stopping

    async def checkpoint(self) -> None:
        """Let others run; raise ``Cancelled`` if a stop was asked for."""
        await trio.lowlevel.checkpoint()

    async def sleep(self, seconds: float) -> None:
        """Sleep; a stop ends it at once."""
        await trio.sleep(seconds)

    def critical(self, label: str, max_seconds: float) -> AbstractContextManager[None]:
        """Hold a stop back for a short commit section; ``kill`` does not wait for it.

        Operations may start in it even after the stop. Not a checkpoint.

        Args:
            max_seconds: from its beginning; a stop cuts it then, with ``OperationCut``.
        """
        return self._run.gate.critical(label, max_seconds)

    def cleanup(self) -> trio.CancelScope:
        """Return a scope for ``with`` in a ``finally``, whose body may await although the run is
        being stopped. All of a run's ``finally`` blocks share its cleanup time."""
        return bounded(self._run.cleanup_left_s)

    def on_stop(self, callback: Callable[..., Any], *args: Any) -> None:
        """Register a compensation, sync or async, for the case that the run is stopped.

        They run after the agent's code has ended, last registered first, each within the
        cleanup time; they may start operations. Not a checkpoint.
        """
        if not callable(callback):
            raise TypeError(f"on_stop needs a function and its arguments, not {callback!r}")
        if inspect.iscoroutine(callback):
            raise TypeError("pass the function to on_stop, not the coroutine of a call of it")
        self._run.compensations.append((callback, args))

    @property
    def should_stop(self) -> bool:
        """Whether a stop was asked for."""
        return self._run.gate.closed

    @property
    def deadline(self) -> float:
        """When the run's deadline is, on Trio's clock; ``inf`` for never."""
        return self._run.deadline


def current_context() -> Context:
    """Return the context of the run that the calling code works for.

    Raises:
        LookupError: the code does not run in an agent.
    """
    context = _current.get()
    if context is None:
        raise LookupError("this code does not run in an agent, so it has no context")
    return context


@contextmanager
def within(context: Context) -> Iterator[None]:
    """Make the context the current one for the body."""
    token = _current.set(context)
    try:
        yield
    finally:
        _current.reset(token)


def running_in(task: trio.lowlevel.Task) -> tuple[RunPort | None, str]:
    """Return the run that a task works for, and the operation that it is in."""
    context = task.context.get(_current)
    section = section_in(task.context)
    operation = f"{section.kind} {section.label}".rstrip() if section is not None else ""
    return (None if context is None else context._run), operation

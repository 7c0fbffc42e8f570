"""The agent's door to everything that can be observed: its context, ``ctx``."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.cleanup import bounded
from orchestrator.data import DataSpace
from orchestrator.errors import InvalidInput
from orchestrator.faults import check_list
from orchestrator.llm import call_model
from orchestrator.mcp import ToolServer
from orchestrator.sections import section_in
from orchestrator.stack import TaskStack, frames_of, task_tree
from orchestrator.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    import httpx

    from orchestrator.agent import Agent
    from orchestrator.llm import Reply
    from orchestrator.model import Json, RunId
    from orchestrator.ports import Child, RunPort

_current: ContextVar[Context | None] = ContextVar("quiesce_context", default=None)
# In a process that a run has to itself, for plain threads of its code: these inherit no variables.
_of_process: Context | None = None


class Context(Telling):
    """One run's door. Handed to the agent; ``current_context()`` gives it to code that was not.

    Unless said otherwise a method is a checkpoint: once a stop is asked for it raises
    ``trio.Cancelled`` (except within an operation or a critical section).
    """

    __slots__ = ()

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
        self, agent: Agent | str, inputs: Sequence[Mapping[str, Any]], limit: int | None = None
    ) -> list[Any]:
        """Run a sub-agent once for each input and return the results in the same order.

        The first that fails or is stopped ends the others, and its error is raised.

        Args:
            limit: how many may run at once, 1 or more; None for all.
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

    def operation(
        self, kind: str, label: str = "", effect: str = ""
    ) -> AbstractAsyncContextManager[None]:
        """Guard the awaits in the body as one observable leaf action.

        Entering is a checkpoint and is refused once a stop is asked for. In flight a graceful
        stop lets it finish, up to the grace; leaving it then raises ``Cancelled``. So keep what
        the operation brought within its body. ``effect`` says what a cut does to the other side.

        Raises:
            OperationsAreLeaves: it was entered inside another operation.
            OperationRefused, OperationCut: where ``Cancelled`` cannot arrive.
        """
        return self._run.gate.operation(kind, label, effect)

    @property
    def http(self) -> httpx.AsyncClient:
        """This run's own HTTP client. Not an operation by itself; closed when the run ends."""
        return self._run.client.http

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        """Make an HTTP request as an operation; ``options`` as for ``httpx``. Reads the body."""
        async with self._run.gate.operation("http", f"{method} {url}", "connection closed"):
            return await self.http.request(method, url, **options)

    async def get(self, url: str, **options: Any) -> httpx.Response:
        """``request("GET", …)``."""
        return await self.request("GET", url, **options)

    async def post(self, url: str, **options: Any) -> httpx.Response:
        """``request("POST", …)``."""
        return await self.request("POST", url, **options)

    async def llm(
        self,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        tools: Sequence[Agent | str | Mapping[str, Any]] = (),
        schema: Any = None,
        stream: bool = False,
        base_url: str | None = None,
        api_key: str | None = None,
        **parameters: Any,
    ) -> Reply:
        """Ask a language model behind an OpenAI-compatible endpoint, as one operation.

        A stop lets a call in flight finish, up to the grace, and closes its connection then; it
        ends retries at once. What was spent is counted on the run (``usage``).

        Args:
            messages: a question, or the messages of a chat as OpenAI has them.
            model, base_url, api_key: ``QUIESCE_LLM_MODEL``, ``_BASE_URL``, ``_API_KEY`` if None.
            tools: agents or OpenAI tool objects that the model may ask for; see
                ``Reply.tool_calls``. None of them is called.
            schema: the answer is JSON of this type, or of this JSON Schema; see ``Reply.value``.
            stream: tell the answer piece by piece, as events ``llm.delta``.
            parameters: what else the endpoint takes, such as ``temperature``.

        Returns:
            the answer: a string that carries ``tool_calls``, ``message``, ``value``, ``usage``.

        Raises:
            InvalidInput, UnknownAgent: an argument or variable does not fit, or is missing.
            UnfitAnswer: the answer is not what ``schema`` asks for.
            ExtraMissing: ``quiesce[llm]`` is not installed.
            openai.OpenAIError: the endpoint failed, after retries where these make sense.
        """
        return await call_model(
            self._run,
            messages,
            model=model,
            tools=check_list("tools", tools or ()),
            schema=schema,
            stream=stream,
            base_url=base_url,
            api_key=api_key,
            parameters=parameters,
        )

    def mcp(self, server: str, *arguments: str, **options: Any) -> ToolServer:
        """Return a server of the Model Context Protocol, for ``async with``; see ``ToolServer``."""
        return ToolServer(self._run, server, arguments, **options)

    @property
    def data(self) -> DataSpace:
        """The agent's durable key-value store, shared by all runs of it that have one owner.

        ``data.namespace(name)`` is another one, which other agents may share.
        """
        return DataSpace(self._run, self._run.record.agent)

    async def step(self, name: str, function: Callable[..., Any], /, *arguments: Any) -> Json:
        """Do a piece of work once: its result is durable when this returns it.

        When the run starts again after a crash, or is rerun from a later step, the stored result
        is returned and the function is not called. A stop ends the function like anything else;
        but once it has returned, its result is stored first.

        Args:
            name: tells the step from the others of this run, such as ``f"page {n}"``.
            function: sync or async; may contain operations and sub-agents.

        Raises:
            InvalidInput: the name was used before, or the result is not JSON.
        """
        return await self._run.steps.do(self._run, name, function, *arguments)

    async def ask(self, question: str, schema: Any = None, *, within_s: float | None = None) -> Any:
        """Ask a person, and wait for the answer; the run shows what it is ``waiting_for``.

        Several questions may be open at once; the oldest one is shown first. A stop withdraws
        them. An answer is durable: a run that starts again does not ask twice.

        Args:
            schema: the answer's type, or a JSON Schema; None for any JSON.
            within_s: seconds after which to give up; None for never.

        Raises:
            NotAnswered: nobody did, in that time.
        """
        return await self._run.questions.ask(question, schema, within_s)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that the run was started with."""
        return self._run.record.files

    async def file(self, name: str) -> bytes:
        """Return a file of the run's: one that it was started with, or an artifact of its own.

        Raises:
            InvalidInput: the run has no such file.
        """
        await self.checkpoint()
        # What it told before must be there, as it is told in order.
        await self._run.journal.stored(self._run.ticket)
        data = await self._run.store.artifact(self.run_id, name)
        if data is None:
            raise InvalidInput([("name", f"the run has no file {name!r}")])
        return data

    # Stopping

    async def checkpoint(self) -> None:
        """Let others run; wait while paused; raise ``Cancelled`` if a stop was asked for."""
        await trio.lowlevel.checkpoint()
        await self._run.gate.park()

    async def sleep(self, seconds: float) -> None:
        """Sleep; a stop ends it at once, and a pause does not lengthen it."""
        await trio.sleep(seconds)
        await self._run.gate.park()

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
        """Whether a stop was asked for, or the run has ended."""
        return self._run.gate.closed

    @property
    def stopping(self) -> trio.Event:
        """Set once a stop was asked for: what waits within an operation may end sooner then. Set
        at the end of the run, too."""
        return self._run.gate.closing

    @property
    def cleanup_left_s(self) -> float:
        """How many seconds the run's own cleanup may still take; less once the run is killed."""
        return self._run.cleanup_left_s

    @property
    def deadline(self) -> float:
        """When the run's deadline is, on Trio's clock; ``inf`` for never."""
        return self._run.deadline


def current_context() -> Context:
    """Return the context of the run that the calling code works for.

    Raises:
        LookupError: the code does not run in an agent.
    """
    context = _current.get() or _of_process
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


def make_current(context: Context) -> None:
    """Make the context the current one for good: here, and in this process's plain threads."""
    global _of_process
    _of_process = context
    _current.set(context)


def stacks_below(root: trio.lowlevel.Task, of: Callable[[RunPort], bool]) -> list[TaskStack]:
    """Return where the task, and all below it that work for such a run, stand."""
    return [
        TaskStack(run.id, run.record.agent, operation, frames_of(task))
        for task in task_tree(root)
        for run, operation in running_in(task)
        if of(run)
    ]


def running_in(task: trio.lowlevel.Task) -> list[tuple[RunPort, str]]:
    """Return the run that a task works for, and the operation that it is in; or nothing."""
    context = task.context.get(_current)
    section = section_in(task.context)
    operation = f"{section.kind} {section.label}".rstrip() if section is not None else ""
    return [] if context is None else [(context._run, operation)]

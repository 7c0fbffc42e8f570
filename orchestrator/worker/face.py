"""The context of agents that run outside of Trio: the same names, without Trio."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import trio

from orchestrator.agent import as_json
from orchestrator.worker.faces import ChildFace, DataFace, ToolServerFace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from orchestrator.agent import Agent
    from orchestrator.context import Context
    from orchestrator.model import Json, RunId
    from orchestrator.worker.way import Way


class Face:
    """The context, for code outside of Trio.

    Its methods have the names and arguments of ``Context``, and do and raise what is said there,
    except that a stop is raised as what unwinds such code. In a ``finally`` they go on working
    for the time of the clean-up, but no operation starts.

    Absent are ``http``, which is a client for Trio (use ``get``, ``post``, ``request``),
    ``stopping`` (use ``should_stop``), and ``cleanup``, which is not needed.
    """

    def __init__(self, context: Context, way: Way) -> None:
        self._context = context
        self._way = way
        # Both clocks tick alike.
        self._clocks_apart_s = time.monotonic() - trio.current_time()

    # Itself

    @property
    def run_id(self) -> RunId:
        """See ``Context.run_id``."""
        return self._context.run_id

    @property
    def should_stop(self) -> bool:
        """See ``Context.should_stop``."""
        return self._context.should_stop

    @property
    def cleanup_left_s(self) -> float:
        """See ``Context.cleanup_left_s``."""
        return self._context.cleanup_left_s

    @property
    def deadline(self) -> float:
        """When the run's deadline is, on the clock of ``time.monotonic``; ``inf`` for never."""
        return self._context.deadline + self._clocks_apart_s

    # Sub-agents

    def call(self, agent: Agent | str, /, **input: Any) -> Any:
        """See ``Context.call``."""
        return self._way.cross(self._context.call, agent, **input)

    def map(
        self, agent: Agent | str, inputs: Sequence[Mapping[str, Any]], limit: int | None = None
    ) -> Any:
        """See ``Context.map``."""
        return self._way.cross(self._context.map, agent, inputs, limit)

    def start(self, agent: Agent | str, /, **input: Any) -> Any:
        """See ``Context.start``."""

        async def start() -> ChildFace:
            return ChildFace(await self._context.start(agent, **input), self._way)

        return self._way.cross(start)

    def start_detached(self, agent: Agent | str, /, **input: Any) -> Any:
        """See ``Context.start_detached``."""
        return self._way.cross(self._context.start_detached, agent, **input)

    # Operations

    def operation(self, kind: str, label: str = "", effect: str = "") -> Any:
        """See ``Context.operation``."""
        return self._way.hold(lambda: self._context.operation(kind, label, effect))

    def request(self, method: str, url: str, **options: Any) -> Any:
        """See ``Context.request``."""
        return self._way.cross(self._context.request, method, url, **options)

    def get(self, url: str, **options: Any) -> Any:
        """See ``Context.get``."""
        return self._way.cross(self._context.get, url, **options)

    def post(self, url: str, **options: Any) -> Any:
        """See ``Context.post``."""
        return self._way.cross(self._context.post, url, **options)

    def llm(self, messages: str | Sequence[Mapping[str, Any]], **named: Any) -> Any:
        """See ``Context.llm``."""
        return self._way.cross(self._context.llm, messages, **named)

    def mcp(self, server: str, *arguments: str, **options: Any) -> ToolServerFace:
        """See ``Context.mcp``; for ``with``, or ``async with``."""
        found = self._way.at_once(partial(self._context.mcp, server, *arguments, **options))
        return ToolServerFace(found, self._way)

    # What lasts, and what is asked

    @property
    def data(self) -> DataFace:
        """See ``Context.data``."""
        return DataFace(self._context.data, self._way.cross)

    def step(self, name: str, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """See ``Context.step``. The function is called where its caller is."""
        return self._way.cross(self._context.step, name, self._way.there(function), *arguments)

    def ask(self, question: str, schema: Any = None, *, within_s: float | None = None) -> Any:
        """See ``Context.ask``."""
        return self._way.cross(self._context.ask, question, schema, within_s=within_s)

    @property
    def files(self) -> tuple[str, ...]:
        """See ``Context.files``."""
        return self._context.files

    def file(self, name: str) -> Any:
        """See ``Context.file``."""
        return self._way.cross(self._context.file, name)

    # Telling

    def progress(self, percent: float, message: str = "") -> Any:
        """See ``Context.progress``."""
        return self._way.cross(self._context.progress, percent, message)

    def log(self, message: str, level: str = "info") -> Any:
        """See ``Context.log``."""
        return self._way.cross(self._context.log, message, level)

    def emit(self, type: str, data: Mapping[str, Any] | None = None) -> Any:
        """See ``Context.emit``."""
        return self._way.cross(self._context.emit, type, data)

    def partial(self, value: Json) -> Any:
        """See ``Context.partial``. Costs as much as encoding the value, each time."""
        # A copy, since it is encoded later, while the code goes on.
        return self._way.cross(self._context.partial, as_json(value, "partial"))

    def artifact(
        self,
        name: str,
        data: bytes,
        *,
        append: bool = False,
        media_type: str = "application/octet-stream",
    ) -> Any:
        """See ``Context.artifact``."""
        kept = {"append": append, "media_type": media_type}
        return self._way.cross(self._context.artifact, name, data, **kept)

    def view(self, image: bytes) -> Any:
        """See ``Context.view``."""
        return self._way.cross(self._context.view, image)

    def delta(self, text: str) -> Any:
        """See ``Context.delta``."""
        return self._way.cross(self._context.delta, text)

    def spend(
        self,
        *,
        requests: int = 0,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str = "",
        cost: float | None = None,
    ) -> None:
        """See ``Context.spend``."""
        spend = partial(self._context.spend, requests=requests, model=model, cost=cost)
        counted = partial(spend, input_tokens=input_tokens, output_tokens=output_tokens)
        self._way.at_once(counted)

    def flush(self) -> None:
        """See ``Context.flush``."""
        self._way.at_once(self._context.flush)

    # Stopping

    def checkpoint(self) -> Any:
        """See ``Context.checkpoint``."""
        return self._way.cross(self._context.checkpoint)

    def sleep(self, seconds: float) -> Any:
        """See ``Context.sleep``."""
        return self._way.cross(self._context.sleep, seconds)

    def critical(self, label: str, max_seconds: float) -> AbstractContextManager[None]:
        """See ``Context.critical``."""

        @asynccontextmanager
        async def critical() -> AsyncIterator[None]:
            with self._context.critical(label, max_seconds):
                yield

        return self._way.hold_at_once(critical)

    def on_stop(self, callback: Callable[..., Any], *args: Any) -> None:
        """See ``Context.on_stop``. The callback is called where the agent's code was."""
        self._way.at_once(self._context.on_stop, self._way.there(callback), *args)


class SyncContext(Face):
    """The context of an agent that is a plain function: no ``await``, and ``with`` for all.

    A stop is raised as ``StopRequested``: at once and wherever the code stands, but not in an
    operation that is in flight within its grace, nor in a critical section.
    """


class AsyncioContext(Face):
    """The context of an agent that is written for asyncio: ``await`` and ``async with``, as in
    ``Context``.

    A stop cancels the agent's task as ``task.cancel()`` does, but not while an operation is in
    flight within its grace, nor in a critical section.
    """


def data_at_once(context: AsyncioContext) -> DataFace:
    """Return ``context.data`` for code that cannot await: its methods block the loop meanwhile."""
    return DataFace(context._context.data, context._way.wait_for)


def unwind(context: Face) -> NoReturn:
    """Raise what unwinds code outside of Trio, as a stop does that comes just here."""
    raise context._way.stop_here()

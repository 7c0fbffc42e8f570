"""The calls of models and tools that a framework makes, each held as an operation of the run.

Frameworks tell of the beginning and the end of a call in whatever task they like. So each
operation stands in a task of its own, from the one to the other. When a stop cuts an operation
the framework's run is cancelled as a whole, and the operation is over when the call is: what the
events say of a call is true of its connection.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from sniffio import current_async_library

from orchestrator.adapters.retries import calls_at_hand, watch_clients
from orchestrator.adapters.tasks import Tasks, unnoted
from orchestrator.errors import InvalidInput, OperationRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Hashable
    from types import TracebackType

    from orchestrator.worker.face import AsyncioContext

    Kind = Literal["llm", "tool"]

_T = TypeVar("_T")

# The call of a tool that the code at hand is, or has been, part of; of nested ones the outermost.
_tool_at_hand: ContextVar[_Call | None] = ContextVar("quiesce_tool", default=None)

# How often a partial result is written while an answer grows.
PARTIAL_S = 0.25
# Of a value that may be anything, such as what a tool gives, no more is told.
TOLD_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class End:
    """How a call has ended.

    Attributes:
        error: why it came to nothing; a ``CancelledError`` if it was cancelled.
        text: all that a model has written, as far as that is known only now.
        usage: ``input_tokens`` and ``output_tokens`` of a model.
        result: what a tool returned.
    """

    error: BaseException | None = None
    text: str = ""
    usage: dict[str, int] = field(default_factory=dict)
    result: Any = None


class Calls:
    """The calls of one run of a framework, for ``async with`` around the whole of it.

    Attributes:
        answers: the text that each call of a model has brought so far; the partial result.
    """

    def __init__(self, ctx: AsyncioContext) -> None:
        """Begin with none, in the task that runs the framework.

        Raises:
            InvalidInput: the agent is not one for asyncio.
        """
        # A loop may run in this thread although it is Trio's turn.
        if current_async_library() != "asyncio":
            why = 'must be that of an agent for asyncio: declare it `@agent(runtime="asyncio")`'
            raise InvalidInput([("ctx", why)])
        self._loop = asyncio.get_running_loop()
        self.ctx = ctx
        self.answers: list[str] = []
        self._whole = asyncio.current_task()
        self._open: dict[Hashable, _Call] = {}
        self._tasks = Tasks()
        self._given_up = False
        self._kept_at = 0.0

    async def __aenter__(self) -> Calls:
        self._tasks.note()
        watch_clients()
        self._at_hand = calls_at_hand.set(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        calls_at_hand.reset(self._at_hand)
        self._tasks.forget()
        if error is not None:
            await self._tasks.end()
        # A framework does not always tell the end of a call that has failed or was cancelled.
        for key in list(self._open):
            await self.fail(key, error or asyncio.CancelledError())
        if isinstance(error, OperationRefused) and not _in_a_tool():
            raise asyncio.CancelledError from error

    async def begin(self, key: Hashable, kind: Kind, label: str, given: Any = None) -> None:
        """Begin a call, which may go on when this returns. If a stop was asked for it does not.

        Args:
            key: tells it from other calls that are under way.
            label: which model or tool.
            given: what a tool is called with.

        Raises:
            OperationRefused: a stop was asked for, and this is part of a tool that is under way.
        """
        in_a_tool = _in_a_tool()
        if not await self._in_own_loop(self._begin(key, kind, label, given)):
            if in_a_tool:
                # The stop waits for the tool, so the tool must not wait for the stop.
                raise OperationRefused(kind, label)
            await self._go_no_further()
        if kind == "tool" and not in_a_tool:
            _tool_at_hand.set(self._open.get(key))

    async def end(self, key: Hashable, end: End) -> None:
        """End a call; nothing if it is over already. If a stop was asked for, this is where the
        framework's run ends."""
        if not await self._in_own_loop(self._end(key, end)):
            await self._go_no_further()

    async def fail(self, key: Hashable, error: BaseException) -> None:
        """End a call that has failed, or was cancelled; nothing if it is over already."""
        await self._in_own_loop(self._end(key, End(error)))

    def say(self, key: Hashable, piece: str) -> None:
        """Take a piece of what a model writes. Does not wait; may be called in any thread."""
        self._loop.call_soon_threadsafe(self._say, key, piece)

    @asynccontextmanager
    async def held(
        self, key: Hashable, kind: Kind, label: str, given: Any = None
    ) -> AsyncIterator[list[End]]:
        """Hold the body as a call. It may put how it ended into the list that it gets."""
        await self.begin(key, kind, label, given)
        ends: list[End] = []
        try:
            yield ends
        except BaseException as error:
            await self.fail(key, error)
            raise
        await self.end(key, ends[-1] if ends else End())

    def give_up(self) -> None:
        """Cancel the framework's run; once, since a second time would hurt its clean-up."""
        if not self._given_up and self._whole is not None:
            self._given_up = True
            self._whole.cancel()

    async def try_no_more(self) -> None:
        """End the framework's run: a call that has failed would be tried again after a stop."""
        self._loop.call_soon_threadsafe(self.give_up)
        await self._go_no_further()

    def try_no_more_in_a_thread(self) -> None:
        """Do the same for code that cannot await."""
        self._loop.call_soon_threadsafe(self.give_up)
        raise asyncio.CancelledError

    async def keep(self, *, at_once: bool = False) -> None:
        """Write the partial result, unless that was done just now."""
        now = time.monotonic()
        if at_once or now > self._kept_at + PARTIAL_S:
            self._kept_at = now
            await self.ctx.partial({"answers": self.answers})

    async def _begin(self, key: Hashable, kind: Kind, label: str, given: Any) -> bool:
        call = self._open[key] = _Call(self, kind, label, given)
        return await call.begun()

    async def _end(self, key: Hashable, end: End) -> bool:
        call = self._open.pop(key, None)
        return call is None or await call.over(end)

    def _say(self, key: Hashable, piece: str) -> None:
        if piece and (call := self._open.get(key)) is not None:
            call.said.put_nowait(piece)

    async def _in_own_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Return what the work returns, which belongs to the loop of the framework's run. What is
        not async a framework calls in a thread, and its callbacks in a loop of that thread's."""
        if asyncio.get_running_loop() is self._loop:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _go_no_further(self) -> None:
        """Wait until the stop comes here: as soon as nothing is in flight it cancels the whole.

        An error that is raised here some frameworks would take for one of the model's.
        """
        if asyncio.get_running_loop() is self._loop and asyncio.current_task() is not self._whole:
            await asyncio.Event().wait()
        raise asyncio.CancelledError


class _Call:
    """One call: an operation in a task of its own.

    Attributes:
        said: what the framework tells of it, its end the last.
    """

    def __init__(self, calls: Calls, kind: Kind, label: str, given: Any) -> None:
        self.said: asyncio.Queue[str | End] = asyncio.Queue()
        self._calls = calls
        self._ctx = calls.ctx
        self._kind = kind
        self._label = label
        self._given = given
        self._number = 0  # of a model's answer
        self._entered = asyncio.get_running_loop().create_future()
        self._task = unnoted(self._hold())

    @property
    def is_under_way(self) -> bool:
        """Whether it has begun, and is not over."""
        return self._entered.done() and not self._task.done()

    async def begun(self) -> bool:
        """Wait until the operation has begun; return False if a stop has kept it from that."""
        try:
            await asyncio.wait({self._entered, self._task}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._task.cancel()
            raise
        if not self._entered.done() and not self._task.cancelled():
            self._task.result()
        return self._entered.done()

    async def over(self, end: End) -> bool:
        """End the operation and wait for that; return False if a stop has ended it."""
        self.said.put_nowait(end)
        await asyncio.wait({self._task})
        if self._task.cancelled():
            return False
        # The error of the call itself is the framework's business.
        if (error := self._task.exception()) is not None and error is not end.error:
            raise error
        return True

    async def _hold(self) -> None:
        async with self._ctx.operation(self._kind, self._label, "connection closed"):
            try:
                await self._tell_begin()
                self._entered.set_result(None)
                end = await self._listen()
            except asyncio.CancelledError:
                if self._entered.done():
                    # It is cut, but over only when the framework has let go of it.
                    self._calls.give_up()
                    await self._tell_end(await self._listen())
                raise
            await self._tell_end(end)
            if end.error is not None:
                raise end.error

    async def _tell_begin(self) -> None:
        if self._kind == "tool":
            await self._ctx.emit("tool.called", {"tool": self._label, "given": told(self._given)})
        else:
            self._ctx.spend(requests=1)
            self._calls.answers.append("")
            self._number = len(self._calls.answers) - 1

    async def _listen(self) -> End:
        while isinstance(said := await self.said.get(), str):
            await self._add(said)
        return said

    async def _add(self, piece: str) -> None:
        self._calls.answers[self._number] += piece
        await self._ctx.delta(piece)
        await self._calls.keep()

    async def _tell_end(self, end: End) -> None:
        if self._kind == "llm":
            so_far = self._calls.answers[self._number]
            if end.text.startswith(so_far) and end.text != so_far:
                await self._add(end.text.removeprefix(so_far))
            self._ctx.flush()
            if end.usage:
                self._ctx.spend(model=self._label, **end.usage)
            await self._calls.keep(at_once=True)
        elif end.error is None:
            await self._ctx.emit("tool.returned", {"tool": self._label, "gave": told(end.result)})


def _in_a_tool() -> bool:
    tool = _tool_at_hand.get()
    return tool is not None and tool.is_under_way


def told(value: Any) -> str:
    """Return what is told of a value that may be anything."""
    text = value if isinstance(value, str) else repr(value)
    return text.encode(errors="replace").decode()[:TOLD_CHARACTERS]

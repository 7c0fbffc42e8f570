"""A run to follow, to answer and to stop, in this process or on a server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import trio

from orchestrator import (
    Event,
    OrchestratorError,
    RunRecord,
    StopMode,
    StopSource,
    TooLateToStop,
    UnknownRun,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from contextlib import AbstractAsyncContextManager

    from api.client import Client
    from orchestrator import Orchestrator, Run

# So many events may be read ahead of who shows them.
AHEAD = 256


class End(NamedTuple):
    """What there is to say of a run that has ended."""

    record: RunRecord
    partial: Any


class Target(Protocol):
    """A run to follow, to answer and to stop, wherever it is."""

    def events(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Return the run's events, from its first to its final one."""

    async def stop(self, mode: StopMode, reason: str) -> str:
        """Ask the run to stop, as a person at the keyboard. May be called again.

        Returns:
            why that could not be done; empty if it was.
        """

    async def answer(self, run_id: str, question_id: str, answer: Any) -> None:
        """Answer a question of the run, or of one below it.

        Raises:
            NobodyAsks, RunEnded, UnknownRun: nobody waits for it any more.
            OrchestratorError: it does not fit, or could not be told.
        """

    def how_to_answer(self, run_id: str) -> str:
        """Return how a question can be answered from elsewhere."""

    async def end(self) -> End:
        """Wait until it is over and everything that depends on it too."""


class Here:
    """A run in this process."""

    def __init__(self, orchestrator: Orchestrator, run: Run) -> None:
        self._orchestrator = orchestrator
        self._run = run

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[Event]]:
        yield await self._orchestrator.events(self._run.id)

    async def stop(self, mode: StopMode, reason: str) -> str:
        if not self._run.record.status.is_terminal:
            try:
                self._run.request_stop(mode=mode, reason=reason)
            except TooLateToStop as error:
                if mode is StopMode.GRACEFUL:
                    return f"{error}; Ctrl-C again insists"
                # Whose process it is may do anything.
                self._run.request_stop(mode=mode, reason=reason, source=StopSource.ADMIN)
        else:  # what is left are detached runs, which end with this process
            self._orchestrator.stop_all(mode=mode, grace_s=None, source=StopSource.SHUTDOWN)
        return ""

    async def answer(self, run_id: str, question_id: str, answer: Any) -> None:
        run = self._orchestrator.live(run_id)
        if run is None:
            raise UnknownRun(run_id)
        run.answer(question_id, answer)

    def how_to_answer(self, run_id: str) -> str:
        return "nobody can answer it: standard input is no terminal, or has ended"

    async def end(self) -> End:
        record = await self._run.wait()
        partial = await self._orchestrator.partial(record.id)
        await self._orchestrator.drain()
        return End(record, partial)


class There:
    """A run on a server."""

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._run_id = run_id

    @asynccontextmanager
    async def events(self) -> AsyncIterator[AsyncIterator[Event]]:
        async with in_thread(self._client.events(self._run_id)) as events:
            yield events

    async def stop(self, mode: StopMode, reason: str) -> str:
        ask = partial(self._client.stop, self._run_id, mode=mode, reason=reason)
        try:
            await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
        except OrchestratorError as error:
            return str(error)
        return ""

    async def answer(self, run_id: str, question_id: str, answer: Any) -> None:
        give = partial(self._client.answer, run_id, question_id, answer)
        await trio.to_thread.run_sync(give, abandon_on_cancel=True)

    def how_to_answer(self, run_id: str) -> str:
        return f"answer it with `quiesce answer {run_id} ANSWER --server {self._client.url}`"

    async def end(self) -> End:
        get = self._client.get
        view = await trio.to_thread.run_sync(get, self._run_id, abandon_on_cancel=True)
        return End(view.record, view.partial)


@asynccontextmanager
async def in_thread(events: Iterable[Event]) -> AsyncIterator[AsyncIterator[Event]]:
    """Iterate in a thread, which is left to itself when the body is left."""
    send, receive = trio.open_memory_channel[Event](AHEAD)
    async with trio.open_nursery() as nursery, receive:
        nursery.start_soon(_hand_over, events, send)
        yield receive
        nursery.cancel_scope.cancel()


async def _hand_over(events: Iterable[Event], send: trio.MemorySendChannel[Event]) -> None:
    def read() -> None:
        for event in events:
            trio.from_thread.run(send.send, event)

    async with send:
        await trio.to_thread.run_sync(read, abandon_on_cancel=True)

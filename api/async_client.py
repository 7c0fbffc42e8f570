"""A client of a server's HTTP interface for programs on Trio, or on asyncio.

async with AsyncClient("http://127.0.0.1:8080") as client:
    run = await client.start("crawl", {"url": "http://127.0.0.1:9000"})
    async with client.events(run.id) as events:
        async for event in events:
            print(event.type)
"""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

import anyio
import httpx

from api import asks, sse
from api.sse import Following, FrameReader, Loss, events_in
from api.transport import (
    DEFAULT_URL,
    CallRefused,
    Retries,
    ServerGone,
    error_of,
    gone,
    is_stream,
    meaning_of,
    passing,
    request_of,
    settings,
    stream_of,
)
from orchestrator import StopMode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence

    from api.asks import Ask, RunView, StopResult
    from orchestrator import ArtifactInfo, Event

_Answer = TypeVar("_Answer")

# One long poll; ``wait`` makes as many as it takes.
WAIT_S = 30.0


class AsyncClient:
    """One server. For ``async with``; may be used by many tasks at once.

    Its methods are those of ``Client``, and raise the same; each is a checkpoint. A call that is
    cancelled may have reached the server: a start is then safe to repeat only under a ``key``.

    What may be asked twice (all that only looks, deletions, and starts with a ``key``) is asked
    again by itself when the server says 429 or 503 with ``Retry-After``, for half a minute in all.

    Args:
        url: the server's base URL; ``http://`` may be left out.
        token: says who we are; for a server with tokens.

    Raises:
        InvalidInput: it is not an HTTP URL, or cannot be a token.
    """

    def __init__(self, url: str = DEFAULT_URL, *, token: str | None = None) -> None:
        made = settings(url, token)
        self.url = made["base_url"]
        self._http = httpx.AsyncClient(**made)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close every connection. May be called twice."""
        await self._http.aclose()

    async def agents(self) -> list[dict[str, Any]]:
        """Return the registered agents: name, description, input_schema, options, …"""
        return await self._do(asks.agents())

    async def start(
        self,
        agent: str,
        input: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
    ) -> RunView:
        """Start a run; it is durable when this returns.

        Args:
            key: of your own making; whoever starts again under it gets the same run.
        """
        return await self._do(asks.start(agent, input, options, key))

    async def runs(
        self, *, after: str | None = None, limit: int = 50, brief: bool = False, **where: str | None
    ) -> tuple[list[RunView], str | None]:
        """Return a page of runs, newest first, and the cursor of the next page."""
        return await self._do(asks.runs(after, limit, brief, where))

    async def get(self, run_id: str, *, wait_s: float = 0) -> RunView:
        """Return a run, once it has ended or ``wait_s`` seconds are over."""
        return await self._do(asks.get(run_id, wait_s))

    async def wait(self, run_id: str) -> RunView:
        """Wait until the run has ended, and return it."""
        while True:
            view = await self.get(run_id, wait_s=WAIT_S)
            if view.record.status.is_terminal:
                return view
            await anyio.sleep(0.05)  # should the server not take its time

    async def tree(self, run_id: str) -> list[RunView]:
        """Return the run and its sub-agents, parents before children."""
        return await self._do(asks.tree(run_id))

    async def stop(
        self,
        run_id: str,
        *,
        mode: StopMode | str = StopMode.GRACEFUL,
        grace_s: float | None = None,
        reason: str = "",
        wait_s: float = 0,
        discard: bool = False,
    ) -> RunView:
        """Stop a run. The stop is durable when this returns; its receipt is ``record.stop``.

        The run has ended only if its status says so: within ``wait_s``, or later.
        """
        return await self._do(asks.stop(run_id, mode, grace_s, reason, wait_s, discard=discard))

    async def stop_many(
        self,
        ids: Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
        *,
        mode: StopMode | str = StopMode.GRACEFUL,
        grace_s: float | None = None,
        reason: str = "",
        wait_s: float = 0,
        discard: bool = False,
    ) -> list[StopResult]:
        """Stop runs by their ids, or live ones by a filter; one result for each."""
        which = asks.which_runs(ids, where)
        return await self._do(asks.stop_many(which, mode, grace_s, reason, wait_s, discard=discard))

    async def pause(self, run_id: str, *, reason: str = "") -> RunView:
        """Let nothing new start in the run and below it; what is in flight finishes."""
        return await self._do(asks.control(run_id, "pause", {"reason": reason}))

    async def resume(self, run_id: str) -> RunView:
        """Let a paused run, and everything below it, go on."""
        return await self._do(asks.control(run_id, "resume", {}))

    async def step(self, run_id: str) -> RunView:
        """Let one task of a paused tree through its gate."""
        return await self._do(asks.control(run_id, "step", {}))

    async def answer(self, run_id: str, question_id: str, answer: Any) -> RunView:
        """Answer a question of the run's with any JSON."""
        order = {"question_id": question_id, "answer": answer}
        return await self._do(asks.control(run_id, "answer", order))

    async def move_deadline(self, run_id: str, deadline_s: float | None) -> RunView:
        """Let the run's deadline be so many seconds from now, None for never."""
        return await self._do(asks.change(run_id, {"deadline_s": deadline_s}))

    async def rerun(
        self, run_id: str, *, from_step: str | None = None, key: str | None = None
    ) -> RunView:
        """Start a new run with the input of one that has ended; ``key`` as for ``start``."""
        return await self._do(asks.control(run_id, "rerun", {"from_step": from_step}, key))

    async def delete(self, run_id: str) -> None:
        """Remove a run that has ended, with everything below it, for good."""
        await self._do(asks.delete(run_id))

    async def deliveries(
        self, *, state: str | None = None, after: str | None = None, limit: int = 50
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return webhook messages that have not arrived, newest first, and the next cursor."""
        return await self._do(asks.deliveries(state, after, limit))

    async def retry_delivery(self, delivery_id: str) -> dict[str, Any]:
        """Try a webhook message now, also one that was given up."""
        return await self._do(asks.retry_delivery(delivery_id))

    async def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """Return what files were kept with a run."""
        return await self._do(asks.artifacts(run_id))

    async def artifact(self, run_id: str, name: str) -> bytes:
        """Return one of those files."""
        return await self._do(asks.artifact(run_id, name))

    async def halt(
        self,
        *,
        mode: StopMode | str = StopMode.GRACEFUL,
        grace_s: float | None = None,
        reason: str = "",
        wait_s: float = 0,
    ) -> dict[str, Any]:
        """Stop every run and let nothing start until ``lift``. Durable when this returns."""
        return await self._do(asks.halt(mode, grace_s, reason, wait_s))

    async def halted(self) -> dict[str, Any]:
        """Return the ``halt`` that is on, or None for it, and how many runs are ``live``."""
        return await self._do(asks.halted())

    async def lift(self) -> None:
        """Let runs start again. May be called at any time."""
        await self._do(asks.lift())

    async def schedules(self) -> list[dict[str, Any]]:
        """Return the schedules, in the order of their ids."""
        return await self._do(asks.schedules())

    async def schedule(
        self, agent: str, input: Mapping[str, Any] | None = None, *, cron: str, **more: Any
    ) -> dict[str, Any]:
        """Start an agent again and again, and return the schedule; ``more`` as for ``Client``."""
        return await self._do(asks.schedule(agent, input, cron, more))

    async def pause_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let it fire no more until it is resumed."""
        return await self._do(asks.move_schedule(schedule_id, "pause"))

    async def resume_schedule(self, schedule_id: str) -> dict[str, Any]:
        """Let it fire again from now on."""
        return await self._do(asks.move_schedule(schedule_id, "resume"))

    async def unschedule(self, schedule_id: str) -> None:
        """Forget a schedule; its runs go on."""
        await self._do(asks.unschedule(schedule_id))

    @asynccontextmanager
    async def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        on_lost: Callable[[], None] = lambda: None,
    ) -> AsyncIterator[AsyncIterator[Event]]:
        """Give the events of a run and its sub-agents, each once, until the run's final one.

        A connection that is lost is made again, from the last event on, for half a minute; so a
        server may be started again meanwhile. May be left at any event.

        Args:
            after: events up to this number are left out.
            on_lost: called when the connection is lost; must not raise.
        """
        async with aclosing(self._events(Following(run_id, after), Loss(on_lost))) as events:
            yield events

    async def _events(self, place: Following, loss: Loss) -> AsyncGenerator[Event, None]:
        while True:
            try:
                async with aclosing(self._stream(place, loss)) as events:
                    async for event in events:
                        yield event
                if place.ended or place.over:
                    return
                # A stream that ends without that is one of a server that closes, or one that
                # began behind the end. If the run was over before it began, it has said all.
                place.over = (await self.get(place.run_id)).record.status.is_terminal
                if not place.over:
                    await anyio.sleep(sse.RETRY_S)
            except (httpx.RequestError, ServerGone, CallRefused) as error:
                await anyio.sleep(loss.bear(passing(self.url, error)))

    async def _stream(self, place: Following, loss: Loss) -> AsyncGenerator[Event, None]:
        """Yield what one connection brings."""
        method, path, headers = stream_of(place.run_id, place.after)
        async with self._http.stream(method, path, headers=headers) as response:
            if not is_stream(response):
                await response.aread()
                raise error_of(response, self.url)
            loss.made_good()
            reader, chunks = FrameReader(), response.aiter_bytes()
            try:
                async for chunk in chunks:
                    for event in place.fresh(events_in(reader.feed(chunk), self.url)):
                        yield event
                    if place.ended:
                        return
            finally:
                # The generators of httpx end by an error only; else they are left to the collector.
                await response.aclose()
                with suppress(httpx.HTTPError, httpx.StreamError):
                    async for _ in chunks:
                        pass

    async def _do(self, ask: Ask[_Answer]) -> _Answer:
        retries = Retries(ask)
        while True:
            try:
                response = await self._http.request(**request_of(ask))
            except httpx.RequestError as error:
                raise gone(self.url, error) from None
            pause_s = retries.pause_s(response)
            if pause_s is None:
                return meaning_of(ask, response, self.url)
            await anyio.sleep(pause_s)

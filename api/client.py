"""A synchronous client of a server's HTTP interface; ``AsyncClient`` is the other one.

with Client("http://127.0.0.1:8080") as client:
    run = client.start("crawl", {"url": "http://127.0.0.1:9000"})
    for event in client.events(run.id):
        print(event.type)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import httpx

from api import asks, sse
from api.asks import RunView as RunView  # noqa: TC001  # part of this door
from api.asks import StopResult as StopResult  # noqa: TC001  # likewise
from api.async_client import AsyncClient as AsyncClient
from api.operating import Operating
from api.sse import Following, FrameReader, Loss, events_in
from api.transport import DEFAULT_URL as DEFAULT_URL
from api.transport import CallRefused as CallRefused
from api.transport import ServerGone as ServerGone
from api.transport import TokenRefused as TokenRefused
from api.transport import passing
from orchestrator import StopMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from orchestrator import ArtifactInfo, Event

# One long poll; ``wait`` makes as many as it takes.
WAIT_S = 30.0


class Client(Operating):
    """One server. For ``with``; may be used from several threads at once.

    Every method raises ``ServerGone`` if nobody answers, ``TokenRefused`` if the server wants a
    token, or another one, ``UnknownRun`` for a run that it does not know or may not show, and
    ``CallRefused`` for any other error that it reports. What it tells
    a run to do is durable when a method returns.

    Args:
        url: the server's base URL; ``http://`` may be left out.
        token: says who we are; for a server with tokens.

    Raises:
        InvalidInput: it is not an HTTP URL, or cannot be a token.
    """

    def agents(self) -> list[dict[str, Any]]:
        """Return the registered agents: name, description, input_schema, options, …"""
        return self._do(asks.agents())

    def start(
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
        return self._do(asks.start(agent, input, options, key))

    def runs(
        self, *, after: str | None = None, limit: int = 50, brief: bool = False, **where: str | None
    ) -> tuple[list[RunView], str | None]:
        """Return a page of runs, newest first, and the cursor of the next page.

        Args:
            brief: without inputs and results, which may be large; they are None.
            where: ``status agent owner tag root parent``; ``parent="none"`` for roots alone.
        """
        return self._do(asks.runs(after, limit, brief, where))

    def get(self, run_id: str, *, wait_s: float = 0) -> RunView:
        """Return a run, once it has ended or ``wait_s`` seconds are over."""
        return self._do(asks.get(run_id, wait_s))

    def wait(self, run_id: str) -> RunView:
        """Wait until the run has ended, and return it."""
        while True:
            view = self.get(run_id, wait_s=WAIT_S)
            if view.record.status.is_terminal:
                return view
            time.sleep(0.05)  # should the server not take its time

    def tree(self, run_id: str) -> list[RunView]:
        """Return the run and its sub-agents, parents before children."""
        return self._do(asks.tree(run_id))

    def stop(
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

        Args:
            wait_s: how long to wait for the run to be torn down.
            discard: remove its partial result, artifacts, steps and data once it has stopped.

        Raises:
            RunEnded: it had ended without a stop.
        """
        return self._do(asks.stop(run_id, mode, grace_s, reason, wait_s, discard=discard))

    def stop_many(
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
        """Stop runs by their ids, or live ones by a filter; one result for each.

        Args:
            where: as for ``runs``, but without any None.
            wait_s: how long to wait for all of them to be torn down.
            discard: as for ``stop``.

        Raises:
            InvalidInput: a value of ``where`` is None; nothing was asked.
        """
        which = asks.which_runs(ids, where)
        return self._do(asks.stop_many(which, mode, grace_s, reason, wait_s, discard=discard))

    def pause(self, run_id: str, *, reason: str = "") -> RunView:
        """Let nothing new start in the run and below it; what is in flight finishes.

        Raises:
            RunEnded, IllegalTransition: its status does not allow it.
        """
        return self._do(asks.control(run_id, "pause", {"reason": reason}))

    def resume(self, run_id: str) -> RunView:
        """Let a paused run, and everything below it, go on.

        Raises:
            RunEnded, IllegalTransition: its status does not allow it.
            ParentIsPaused: it is part of a tree that is paused.
        """
        return self._do(asks.control(run_id, "resume", {}))

    def step(self, run_id: str) -> RunView:
        """Let one task of a paused tree through its gate; errors as in ``resume``."""
        return self._do(asks.control(run_id, "step", {}))

    def answer(self, run_id: str, question_id: str, answer: Any) -> RunView:
        """Answer a question of the run's with any JSON.

        Raises:
            NobodyAsks, RunEnded: nobody waits for it (any more).
            CallRefused: with status 422, it does not fit; the question stays.
        """
        order = {"question_id": question_id, "answer": answer}
        return self._do(asks.control(run_id, "answer", order))

    def move_deadline(self, run_id: str, deadline_s: float | None) -> RunView:
        """Let the run's deadline be so many seconds from now, None for never.

        Raises:
            RunEnded, IllegalTransition: it has ended, or is being stopped.
        """
        return self._do(asks.change(run_id, {"deadline_s": deadline_s}))

    def rerun(
        self, run_id: str, *, from_step: str | None = None, key: str | None = None
    ) -> RunView:
        """Start a new run with the input of one that has ended.

        Args:
            from_step: reuse the durable steps before this one; ``last`` for all.
            key: as for ``start``.

        Raises:
            IllegalTransition: the run has not ended.
        """
        return self._do(asks.control(run_id, "rerun", {"from_step": from_step}, key))

    def delete(self, run_id: str) -> None:
        """Remove a run that has ended, with everything below it, for good."""
        self._do(asks.delete(run_id))

    def deliveries(
        self, *, state: str | None = None, after: str | None = None, limit: int = 50
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return webhook messages that have not arrived, newest first, and the next cursor.

        Args:
            state: ``waiting`` or ``dead``; both if None.
        """
        return self._do(asks.deliveries(state, after, limit))

    def retry_delivery(self, delivery_id: str) -> dict[str, Any]:
        """Try a webhook message now, also one that was given up."""
        return self._do(asks.retry_delivery(delivery_id))

    def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """Return what files were kept with a run."""
        return self._do(asks.artifacts(run_id))

    def artifact(self, run_id: str, name: str) -> bytes:
        """Return one of those files."""
        return self._do(asks.artifact(run_id, name))

    def events(
        self,
        run_id: str,
        *,
        after: int = 0,
        on_lost: Callable[[], None] = lambda: None,
    ) -> Iterator[Event]:
        """Yield the events of a run and its sub-agents, each once, until the run's final one.

        A connection that is lost is made again, from the last event on, for half a minute.

        Args:
            after: events up to this number are left out.
            on_lost: called when the connection is lost.
        """
        place, loss = Following(run_id, after), Loss(on_lost)
        while not place.ended:
            try:
                with self._stream(run_id, place.after) as response:
                    loss.made_good()
                    reader = FrameReader()
                    for chunk in response.iter_bytes():
                        yield from place.fresh(events_in(reader.feed(chunk), self.url))
                        if place.ended:
                            return
                # A stream that ends without that is one of a server that closes, or one that
                # began behind the end. If the run was over before it began, it has said all.
                if place.over:
                    return
                place.over = self.get(run_id).record.status.is_terminal
                if not place.over:
                    time.sleep(sse.RETRY_S)
            except (httpx.RequestError, ServerGone, CallRefused) as error:
                time.sleep(loss.bear(passing(self.url, error)))

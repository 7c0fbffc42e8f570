"""A synchronous client of a server's HTTP interface.

with Client("http://127.0.0.1:8080") as client:
    run = client.start("crawl", {"url": "http://127.0.0.1:9000"})
    for event in client.events(run.id):
        print(event.type)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from api.operating import Operating
from api.sse import Loss, ending_of, read_events
from api.transport import DEFAULT_URL as DEFAULT_URL
from api.transport import CallRefused as CallRefused
from api.transport import ServerGone as ServerGone
from api.transport import TokenRefused as TokenRefused
from api.transport import gone, path_of
from api.views import RunView as RunView
from api.views import view_of
from orchestrator import ArtifactInfo, StopMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from orchestrator import Event

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
        return list(self._call("GET", "/agents")["agents"])

    def start(
        self,
        agent: str,
        input: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> RunView:
        """Start a run; it is durable when this returns."""
        order = {"agent": agent, "input": dict(input or {}), "options": dict(options or {})}
        return self._view(self._call("POST", "/runs", body=order))

    def runs(
        self, *, after: str | None = None, limit: int = 50, **where: str | None
    ) -> tuple[list[RunView], str | None]:
        """Return a page of runs, newest first, and the cursor of the next page.

        Args:
            where: ``status agent owner tag root parent``; ``parent="none"`` for roots alone.
        """
        query = {"after": after, "limit": str(limit), **where}
        page = self._call("GET", "/runs", query=query)
        return [self._view(each) for each in page["runs"]], page["next"]

    def get(self, run_id: str, *, wait_s: float = 0) -> RunView:
        """Return a run, once it has ended or ``wait_s`` seconds are over."""
        query = {"wait_s": str(wait_s)} if wait_s else {}
        return self._view(self._call("GET", path_of(run_id), query=query, wait_s=wait_s))

    def wait(self, run_id: str) -> RunView:
        """Wait until the run has ended, and return it."""
        while True:
            view = self.get(run_id, wait_s=WAIT_S)
            if view.record.status.is_terminal:
                return view
            time.sleep(0.05)  # should the server not take its time

    def tree(self, run_id: str) -> list[RunView]:
        """Return the run and its sub-agents, parents before children."""
        found = [self._call("GET", path_of(run_id, "tree"))]
        for node in found:
            found.extend(node["children"])
        return [self._view(node) for node in found]

    def stop(
        self,
        run_id: str,
        *,
        mode: StopMode | str = StopMode.GRACEFUL,
        grace_s: float | None = None,
        reason: str = "",
        wait_s: float = 0,
    ) -> RunView:
        """Stop a run. The stop is durable when this returns; its receipt is ``record.stop``.

        Args:
            wait_s: how long to wait for the run to be torn down.

        Raises:
            RunEnded: it had ended without a stop.
        """
        order = {"mode": StopMode(mode), "reason": reason, "wait_s": wait_s}
        if grace_s is not None:
            order["grace_s"] = grace_s
        answer = self._call("POST", path_of(run_id, "stop"), body=order, wait_s=wait_s)
        return self._view(answer["run"])

    def pause(self, run_id: str, *, reason: str = "") -> RunView:
        """Let nothing new start in the run and below it; what is in flight finishes.

        Raises:
            RunEnded, IllegalTransition: its status does not allow it.
        """
        return self._control(run_id, "pause", {"reason": reason})

    def resume(self, run_id: str) -> RunView:
        """Let a paused run, and everything below it, go on.

        Raises:
            RunEnded, IllegalTransition: its status does not allow it.
            ParentIsPaused: it is part of a tree that is paused.
        """
        return self._control(run_id, "resume", {})

    def step(self, run_id: str) -> RunView:
        """Let one task of a paused tree through its gate; errors as in ``resume``."""
        return self._control(run_id, "step", {})

    def answer(self, run_id: str, question_id: str, answer: Any) -> RunView:
        """Answer a question of the run's with any JSON.

        Raises:
            NobodyAsks, RunEnded: nobody waits for it (any more).
            CallRefused: with status 422, it does not fit; the question stays.
        """
        order = {"question_id": question_id, "answer": answer}
        return self._control(run_id, "answer", order)

    def move_deadline(self, run_id: str, deadline_s: float | None) -> RunView:
        """Let the run's deadline be so many seconds from now, None for never.

        Raises:
            RunEnded, IllegalTransition: it has ended, or is being stopped.
        """
        order = {"deadline_s": deadline_s}
        return self._view(self._call("PATCH", path_of(run_id), body=order))

    def rerun(self, run_id: str, *, from_step: str | None = None) -> RunView:
        """Start a new run with the input of one that has ended.

        Args:
            from_step: reuse the durable steps before this one; ``last`` for all.

        Raises:
            IllegalTransition: the run has not ended.
        """
        return self._control(run_id, "rerun", {"from_step": from_step})

    def deliveries(
        self, *, state: str | None = None, after: str | None = None, limit: int = 50
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Return webhook messages that have not arrived, newest first, and the next cursor.

        Args:
            state: ``waiting`` or ``dead``; both if None.
        """
        query = {"state": state, "after": after, "limit": str(limit)}
        page = self._call("GET", "/webhooks/deliveries", query=query)
        return page["deliveries"], page["next"]

    def retry_delivery(self, delivery_id: str) -> dict[str, Any]:
        """Try a webhook message now, also one that was given up."""
        path = f"/webhooks/deliveries/{quote(delivery_id, safe='')}/retry"
        return dict(self._call("POST", path))

    def artifacts(self, run_id: str) -> list[ArtifactInfo]:
        """Return what files were kept with a run."""
        found = self._call("GET", path_of(run_id, "artifacts"))["artifacts"]
        return [ArtifactInfo(**each) for each in found]

    def artifact(self, run_id: str, name: str) -> bytes:
        """Return one of those files."""
        return self._send("GET", path_of(run_id, "artifacts", name)).content

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
        over, loss = False, Loss(on_lost)
        while True:
            try:
                with self._stream(run_id, after) as response:
                    loss.made_good()
                    for event in read_events(response.iter_bytes()):
                        if event.seq > after:
                            after = event.seq
                            yield event
                        if event.run_id == run_id and ending_of(event):
                            return
                # A stream that ends without that is one of a server that closes, or one that
                # began behind the end. If the run was over before it began, it has said all.
                if over:
                    return
                over = self.get(run_id).record.status.is_terminal
            except (httpx.TransportError, ServerGone) as error:
                loss.bear(gone(self.url, error))

    def _control(self, run_id: str, verb: str, order: Mapping[str, Any]) -> RunView:
        return self._view(self._call("POST", path_of(run_id, verb), body=order))

    def _view(self, answer: dict[str, Any]) -> RunView:
        return view_of(answer, self.url)

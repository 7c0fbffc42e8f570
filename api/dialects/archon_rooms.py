"""Archon's events: a room is a run, and whoever is in it hears how the run stands, up to its end.

What is told is how the run stands by then. So whoever comes late, or again, hears at once all that
matters, and a client that is slow is told less often.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from quart import current_app

from api import socketio
from api.acts import Checked, Stop
from api.auth.guard import check_run
from api.auth.rights import Right
from api.calls import the_orchestrator
from api.dialects.archon_progress import STOP, STOPPING, progress_of, stop_message
from api.schema import Order, StopOrder, parse
from api.stream import OneRun
from orchestrator import InvalidInput, RunStatus, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from api.socketio import Conversation
    from api.stream import Streams
    from orchestrator import Orchestrator, RunRecord

# What one client may be in at a time.
MAX_ROOMS = 100

News = list[tuple[str, dict[str, Any]]]


class About(Order):
    """What every event of a client says."""

    progress_id: str


@dataclass(eq=False, slots=True)
class Room:
    """One run, and what one client has been told of it.

    Attributes:
        progress: the latest that it was told; None before it was told anything.
        stopping: whether it was told that the run is being stopped.
    """

    run_id: str
    progress: dict[str, Any] | None = None
    stopping: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)

    def news(self, record: RunRecord) -> News:
        """Return the events by which the client hears how the run stands; not a checkpoint.

        Of a stop it hears twice: that it has begun, and after the last progress what it came to.
        Whoever comes when all is over hears the latter alone.
        """
        over, stop = record.status.is_terminal, record.stop is not None
        came, progress = self.progress is None, progress_of(record)
        begins = stop and not self.stopping and not (over and came)
        news: News = []
        if progress != self.progress and (came or over or not stop):
            news.append(("crawl_progress", progress))
        if begins:
            stopping = {"progressId": record.id, "message": STOPPING}
            news.insert(len(news) if came else 0, ("crawl:stopping", stopping))
        if over and stop:
            news.append(("crawl:stopped", _stopped(record)))
        self.progress, self.stopping = progress, self.stopping or begins
        return news


class Rooms:
    """What one client is in, and what it asks for."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._rooms: dict[str, Room] = {}

    def hear(self, name: str, arguments: list[Any]) -> Callable[[], Awaitable[dict[str, Any]]]:
        """See ``Listener.hear``."""
        acts = {
            "crawl_subscribe": self.enter,
            "crawl_unsubscribe": self._exit,
            "crawl_stop": self._stop,
        }
        if name not in acts:
            raise InvalidInput([("event", f"{name!r} is none of: {', '.join(acts)}")])
        return acts[name](parse(About, arguments[0] if arguments else {}).progress_id)

    def rooms(self) -> tuple[str, ...]:
        """See ``Listener.rooms``."""
        return tuple(self._rooms)

    def leave(self) -> None:
        """See ``Listener.leave``."""
        for run_id in list(self._rooms):
            self._drop(run_id)

    async def settle(self) -> None:
        """See ``Listener.settle``."""
        for room in list(self._rooms.values()):
            await room.ended.wait()

    def enter(self, run_id: str) -> Callable[[], Awaitable[dict[str, Any]]]:
        """See ``Listener.enter``."""
        if len(self._rooms) >= MAX_ROOMS and run_id not in self._rooms:
            why = f"{MAX_ROOMS} are subscribed to; unsubscribe from one"
            raise InvalidInput([("progress_id", why)])
        room = self._rooms.get(run_id)
        if room is None:
            room = self._rooms[run_id] = Room(run_id)
            return partial(self._open, room)
        return partial(self._tell_again, room)

    def _exit(self, run_id: str) -> Callable[[], Awaitable[dict[str, Any]]]:
        self._drop(run_id)
        return partial(_done, run_id)

    def _drop(self, run_id: str) -> None:
        room = self._rooms.pop(run_id, None)
        if room is not None:
            room.scope.cancel(reason="the client has left")

    def _stop(self, run_id: str) -> Callable[[], Awaitable[dict[str, Any]]]:
        order = parse(StopOrder, STOP)
        asked = Checked("stop", run_id, partial(Stop, run_id, order), reason=order.reason)
        return partial(_stop_answer, run_id, asked)

    # What is told

    async def _open(self, room: Room) -> dict[str, Any]:
        try:
            await check_run(Right.READ, room.run_id)
            source = await _source(the_orchestrator(), room.run_id)
        except BaseException:
            self._ended(room)
            raise
        streams: Streams = current_app.extensions["quiesce.streams"]
        self._conversation.start_soon(self._follow, room, source, streams, the_orchestrator())
        return await _done(room.run_id)

    async def _follow(
        self, room: Room, source: OneRun, streams: Streams, orchestrator: Orchestrator
    ) -> None:
        try:
            with room.scope:
                over = await self._tell(room, orchestrator)
                async with aclosing(streams.follow(source)) as following:
                    while not over and await anext(following, None) is not None:
                        over = await self._tell(room, orchestrator)
        except UnknownRun:
            pass  # it ended long ago, and was forgotten while the client took its time
        finally:
            self._ended(room)

    async def _tell(self, room: Room, orchestrator: Orchestrator) -> bool:
        """Tell what is new; return whether the run is over."""
        record = await orchestrator.get(room.run_id)
        for name, body in room.news(record):
            await self._conversation.emit(name, body)
        return record.status.is_terminal

    async def _tell_again(self, room: Room) -> dict[str, Any]:
        """Say how the run stands to a client that is in its room, and asks to be let in.

        While the run is being stopped it has heard that already.
        """
        await check_run(Right.READ, room.run_id)
        record = await the_orchestrator().get(room.run_id)
        if not room.stopping:
            await self._conversation.emit("crawl_progress", progress_of(record))
        return await _done(room.run_id)

    def _ended(self, room: Room) -> None:
        room.ended.set()
        if self._rooms.get(room.run_id) is room:
            del self._rooms[room.run_id]


async def _source(orchestrator: Orchestrator, run_id: str) -> OneRun:
    """Return what happens from now on in a run."""
    live = orchestrator.live(run_id)
    after = 0 if live is None else live.feed.shown
    return OneRun(await orchestrator.events(run_id, after=after), live, _nothing)


async def _nothing() -> dict[str, Any]:
    return {}


async def _done(run_id: str) -> dict[str, Any]:
    return {"success": True, "progressId": run_id}


async def _stop_answer(run_id: str, asked: Checked) -> dict[str, Any]:
    answer, _ = await asked.answer()
    message = stop_message(RunStatus(answer["run"]["status"]))
    return {"success": True, "message": message, "progressId": run_id}


def _stopped(record: RunRecord) -> dict[str, Any]:
    progress = progress_of(record)
    cancelled = record.status is RunStatus.STOPPED
    return {
        "progressId": record.id,
        "status": progress["status"],
        "message": progress["log"] if cancelled else stop_message(record.status),
        "timestamp": record.ended_at,
    }


blueprint = socketio.blueprint(Rooms)

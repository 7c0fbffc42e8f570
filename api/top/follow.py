"""Streams that are followed for as long as somebody looks, and how far they can be trusted."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, NoReturn

from api.sse import ending_of
from api.transport import TokenRefused, path_of
from orchestrator import OrchestratorError, RunStatus, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.sse import Frame
    from api.top.board import Board
    from api.top.link import Link
    from orchestrator import Event, RunRecord

RETRY_S = 1.0
# Runs of which events do not say all are asked for so often, and no more than that one by one.
LEARN_S = 0.3
ONE_BY_ONE = 8
PAGE = "500"
# Of runs that have ended the latest are read.
RECENT = "200"

LIVE = [str(status) for status in RunStatus if not status.is_terminal]
# What a row shows changes by these alone; logs and operations would be noise here.
_TYPES = [
    *("queued", "started", "progress", "deadline", "tagged", "pausing", "paused", "resumed"),
    *("asked", "answered", "withdrawn", "stopping", "escalated"),
    *(status for status in RunStatus if status.is_terminal),
]
_ALL = "/events?types=" + ",".join(f"run.{each}" for each in _TYPES)


class State(StrEnum):
    """How far what is shown can be trusted: only what is ``live`` or ``over`` is true now."""

    CONNECTING = "connecting"
    LIVE = "live"
    OFFLINE = "offline"
    OVER = "over"


class Feed:
    """A stream that is followed.

    Attributes:
        state: how far what it told can be trusted.
        heard: when the server was last heard, as local time.
    """

    def __init__(self) -> None:
        self.state = State.CONNECTING
        self.heard = datetime.now().astimezone()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state is State.OVER

    @property
    def is_certain(self) -> bool:
        """Whether what it told is true at present."""
        return self.state in (State.LIVE, State.OVER)

    async def listen(self) -> None:
        """Take what one connection tells, until it is lost."""
        raise NotImplementedError


async def follow(feed: Feed) -> None:
    """Keep a feed connected until it is over.

    Raises:
        TokenRefused: the server does not take our token any more.
        UnknownRun: there is no such run any more.
    """
    while not feed.is_over:
        try:
            await feed.listen()
        except (TokenRefused, UnknownRun):
            raise
        except OrchestratorError:
            pass  # whatever it was: nothing is known now, and that is said
        if not feed.is_over:
            feed.state = State.OFFLINE
            await asyncio.sleep(RETRY_S)


class AllRuns(Feed):
    """The events of all runs, and whatever must be asked for besides."""

    def __init__(self, link: Link, board: Board) -> None:
        super().__init__()
        self._link = link
        self._board = board

    async def listen(self) -> None:
        """See ``Feed``. Everything is read anew after each time that the connection was made."""
        async with self._link.stream(_ALL, None) as frames:
            async for frame in frames:
                self.heard = datetime.now().astimezone()
                if frame.name == "reset":
                    await self._read()
                    self.state = State.LIVE
                elif (event := frame.event) is not None:
                    self._board.apply(event)

    async def learn(self) -> NoReturn:
        """Ask, again and again, for the runs of which events do not say all."""
        while True:
            await asyncio.sleep(LEARN_S)
            ids, self._board.unsaid = self._board.unsaid, set()
            try:
                if self.state is State.LIVE:
                    await self._ask(ids)
            except OrchestratorError:  # it is asked for again a little later, or with all the rest
                self._board.unsaid |= ids

    async def _ask(self, ids: set[str]) -> None:
        if len(ids) > ONE_BY_ONE:
            await self._read()
            return
        for run_id in ids:
            moment = self._board.moment
            try:
                self._board.put(await self._link.get(run_id), moment)
            except UnknownRun:
                self._board.forget(run_id)
        self._board.prune()

    async def _read(self) -> None:
        moment = self._board.moment
        recent, _ = await self._link.runs(parent="none", limit=RECENT)
        found: list[RunRecord] = []
        after: str | None = None
        while True:
            live = ",".join(LIVE)
            page, after = await self._link.runs(parent="none", status=live, limit=PAGE, after=after)
            found += page
            if after is None:
                break
        # What has ended between the two is in both, and shown as what was said last.
        self._board.put_all([*recent, *found], moment)


class OneRun(Feed):
    """The feed of a run and everything below it.

    Args:
        take: is told each event, each once and in order.
    """

    def __init__(self, link: Link, run_id: str, take: Callable[[Event], None]) -> None:
        super().__init__()
        self._link = link
        self._run_id = run_id
        self._take = take
        self._last = 0

    async def listen(self) -> None:
        """See ``Feed``. It goes on where it was; nothing is called live before it was read."""
        following: int | None = self._last
        while following is not None:
            page, following = await self._link.events(self._run_id, after=following)
            for event in page:
                self._hear_event(event)
        path = path_of(self._run_id, "events")
        async with self._link.stream(path, str(self._last)) as frames:
            if self.state is not State.OVER:
                self.state = State.LIVE
            async for frame in frames:
                self.heard = datetime.now().astimezone()
                self._hear(frame)

    def _hear(self, frame: Frame) -> None:
        event = frame.event
        if event is None:
            if frame.name == "snapshot" and RunStatus(json.loads(frame.data)["status"]).is_terminal:
                self.state = State.OVER
        else:
            self._hear_event(event)

    def _hear_event(self, event: Event) -> None:
        if event.seq <= self._last:
            return
        self._last = event.seq
        self._take(event)
        if event.run_id == self._run_id and ending_of(event) is not None:
            self.state = State.OVER

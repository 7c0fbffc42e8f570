"""The sessions of Engine.IO 4: over long polls, over a WebSocket, and from one to the other.

What a session says waits in a short queue, and whoever says more waits with it; so a client that
does not read costs no memory. A session ends when its client leaves, breaks the rules, or does not
answer a ping in time, and with the server.
"""

from __future__ import annotations

import logging
import secrets
from collections import Counter
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, assert_never

import trio

from api.auth.identity import TooManySessions
from api.socketio.packets import FrameKind, Malformed, frame, read_frame
from api.socketio.recovery import Recovery
from api.stream import CLOSING_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_log = logging.getLogger("quiesce.api")

# As the servers of others have them.
PING_INTERVAL_S = 25.0
PING_TIMEOUT_S = 20.0
MAX_PAYLOAD = 64 * 1024
# As many as the client for Python takes from one poll.
MAX_WAITING = 16
# A client that goes over to a WebSocket waits for the poll that is under way.
PROBED_POLL_S = 0.1
# Of one principal, or of one address before it is known who it is.
MAX_SESSIONS = 500

# WebSocket close codes.
NORMAL = 1000
GOING_AWAY = 1001
POLICY = 1008


class Transport(Enum):
    """How a session reaches its client."""

    POLLING = "polling"
    PROBING = "polling, while a WebSocket is tried"
    WEBSOCKET = "websocket"


class Talk(Protocol):
    """What is said in a session."""

    def hear(self, text: str) -> None:
        """Take what the client says; not a checkpoint.

        Raises:
            Malformed: it may not say that.
        """

    def end(self) -> None:
        """Note that the session is over; not a checkpoint."""

    async def begin(self) -> None:
        """Do what is to be done from the beginning of the session on."""

    async def settle(self) -> None:
        """Wait until all is said that there is, once the server closes."""


class Session:
    """One client.

    Attributes:
        sid: nobody can guess it; whoever knows it is the client.
        pid: by what its client is known when it comes back; empty before it has connected.
        talk: what is said.
        ended: set once it is over.
        ending: the code and the reason with which a WebSocket is closed.
    """

    def __init__(self, closing: trio.Event, forget: Callable[[Session], None]) -> None:
        self.sid = secrets.token_urlsafe(32)
        self.pid = ""
        self.talk: Talk
        self.transport = Transport.POLLING
        self.ended = trio.Event()
        self.ending = (NORMAL, "")
        self._closing = closing
        self._forget = forget
        self._scope = trio.CancelScope()
        self._sink, self.waiting = trio.open_memory_channel[str](MAX_WAITING)
        self._poll: trio.CancelScope | None = None
        self._last_word = frame(FrameKind.NOOP)
        self._answered = trio.Event()

    async def run(
        self, talk: Talk, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Be there until the end. To be run with ``nursery.start``; raises only ``Cancelled``."""
        self.talk = talk
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self._nursery.start_soon(self._beat)
                    self._nursery.start_soon(self._leave)
                    self._nursery.start_soon(talk.begin)
                    task_status.started()
        except Exception as error:
            _log.error("a Socket.IO session failed", exc_info=error)
        finally:
            self.end(GOING_AWAY, "the session is over")

    def end(self, code: int, why: str, *, last_word: FrameKind = FrameKind.NOOP) -> None:
        """End the session; what waits may still be read. May be called twice. Not a checkpoint.

        Args:
            last_word: what a poll that waits is told.
        """
        if self.ended.is_set():
            return
        self.ending = (code, why)
        self._last_word = frame(last_word)
        self.ended.set()
        self.talk.end()
        self._scope.cancel(reason=why)
        self._sink.close()
        self._forget(self)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Do something that ends with the session at the latest."""
        self._nursery.start_soon(function, *args)

    async def _beat(self) -> None:
        """End the session of a client that is not there any more."""
        while not self.ended.is_set():
            await trio.sleep(PING_INTERVAL_S)
            self._answered = trio.Event()
            with trio.move_on_after(PING_TIMEOUT_S) as patience:
                await self.say(frame(FrameKind.PING))
                await self._answered.wait()
            if patience.cancelled_caught:
                self.end(POLICY, f"a ping was not answered within {PING_TIMEOUT_S:g} s")

    async def _leave(self) -> None:
        """End with the server, once all is said."""
        await self._closing.wait()
        with trio.move_on_after(2 * CLOSING_S):
            await self.talk.settle()
        self.end(GOING_AWAY, "the server is closing")

    # What comes in

    def hear(self, text: str | bytes | None) -> None:
        """Take a frame of the client's. It takes effect in this step.

        Raises:
            Malformed: a client may not say that; the session has ended.
        """
        try:
            self._take(text)
        except Malformed as error:
            self.end(POLICY, str(error))
            raise

    def _take(self, text: str | bytes | None) -> None:
        said = read_frame(text)
        match said.kind:
            case FrameKind.MESSAGE:
                self.talk.hear(said.data)
            case FrameKind.PONG:
                self._answered.set()
            case FrameKind.CLOSE:
                self.end(NORMAL, "the client has closed the session")
            case FrameKind.NOOP:
                pass
            case FrameKind.OPEN | FrameKind.PING | FrameKind.UPGRADE:
                raise Malformed(f"a client may not send a packet {said.kind.name} here")
            case _:
                assert_never(said.kind)

    # What goes out

    async def say(self, text: str) -> None:
        """Send a frame to the client; waits while too many wait."""
        await self._sink.send(text)

    async def poll(self) -> list[str]:
        """Return what there is for the client, once there is something.

        Raises:
            Malformed: a poll is under way already, or the client has gone over to a WebSocket.
        """
        if self.transport is Transport.WEBSOCKET:
            raise Malformed("this session has gone over to a WebSocket")
        if self._poll is not None:
            self.end(POLICY, "there were two polls at a time", last_word=FrameKind.CLOSE)
            raise Malformed("this session has a poll under way; it is over now")
        self._poll = trio.CancelScope()
        try:
            return await self._next_frames(self._poll)
        except trio.Cancelled:
            # What it was about to be told is lost with it; so whoever it was begins anew.
            self.end(GOING_AWAY, "a poll was broken off")
            raise
        finally:
            self._poll = None

    async def _next_frames(self, waiting: trio.CancelScope) -> list[str]:
        frames = []
        with waiting:
            if self.transport is Transport.PROBING:
                waiting.deadline = trio.current_time() + PROBED_POLL_S
            try:
                frames.append(await self.waiting.receive())
                while len(frames) < MAX_WAITING:
                    frames.append(self.waiting.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                pass
        return frames or [self._last_word]

    # From polls to a WebSocket

    def probe(self) -> None:
        """Let a WebSocket be tried; a poll that waits ends soon, so that the client can go over.

        Raises:
            Malformed: one is tried already, or in use.
        """
        if self.transport is not Transport.POLLING:
            raise Malformed("this session has a WebSocket already")
        self.transport = Transport.PROBING
        if self._poll is not None:
            self._poll.deadline = trio.current_time() + PROBED_POLL_S

    def stay(self) -> None:
        """Go on with polls: the WebSocket came to nothing."""
        if self.transport is Transport.PROBING:
            self.transport = Transport.POLLING

    def go_over(self) -> None:
        """Use the WebSocket from now on, and nothing else."""
        self.transport = Transport.WEBSOCKET
        if self._poll is not None:
            self._poll.cancel(reason="the client has gone over to a WebSocket")


class Sessions:
    """The sessions of a server that are open.

    Attributes:
        recovery: what is kept of those whose connections broke.
    """

    def __init__(self, closing: Callable[[], trio.Event]) -> None:
        self.recovery = Recovery()
        self._closing = closing
        self._open: dict[str, Session] = {}
        self._holders: dict[Session, str] = {}
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def get(self, sid: str) -> Session | None:
        """Return the session that has that id; None if none has (any more)."""
        return self._open.get(sid)

    def come_back(self, pid: str, principal: str) -> tuple[str, ...] | None:
        """Return the rooms of a client that is back; None if it has none. Not a checkpoint.

        Its old session ends, if nobody has noticed yet that its connection is gone.
        """
        for session in list(self._open.values()):
            if session.pid == pid and self._holders[session] == principal:
                session.end(GOING_AWAY, "its client has come back")
        return self.recovery.take(pid, principal)

    def open(self, holder: str) -> Session:
        """Return a new session; the caller must let it ``run``. Not a checkpoint.

        Raises:
            TooManySessions: its holder has too many.
        """
        session = Session(self._closing(), self._close)
        self.hold(session, holder)
        self._open[session.sid] = session
        return session

    def hold(self, session: Session, holder: str) -> None:
        """Count the session as that holder's from now on.

        Raises:
            TooManySessions: they have too many.
        """
        if self._held[holder] >= MAX_SESSIONS:
            raise TooManySessions(f"{holder} has {MAX_SESSIONS} Socket.IO sessions; close one")
        self._release(session)
        self._holders[session] = holder
        self._held[holder] += 1

    def _close(self, session: Session) -> None:
        self._open.pop(session.sid, None)
        self._release(session)

    def _release(self, session: Session) -> None:
        holder = self._holders.pop(session, None)
        if holder is not None:
            self._held[holder] -= 1
            self._held += Counter()  # forgets who holds none

"""What is said in a session: Socket.IO 5, in its main namespace.

Who the client is, is looked at when it connects to the namespace: by its ``auth``, or else by the
request that it says so with. An event takes effect in the step in which it is read; what is
answered follows from a task of its own.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, assert_never

import trio
from quart import g
from werkzeug.datastructures import Headers

from api import problems
from api.auth.guard import checked, credentials, the_access
from api.auth.identity import BadCredentials, Credentials, Unidentified
from api.socketio.engine import POLICY
from api.socketio.packets import MAIN, Malformed, Packet, PacketKind, message, read_packet
from orchestrator import OrchestratorError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from api.auth.identity import Identity
    from api.socketio.engine import Session, Sessions

    Answer = Callable[[], Awaitable[dict[str, Any]]]

# How long a session may be open before its client says who it is.
CONNECT_S = 10.0
# What one client may have asked for that is not answered yet.
MAX_PENDING = 200
# What a client is told who says nothing of who it is.
UNIDENTIFIED = "this server wants a token; connect with `auth: {token: TOKEN}`"


class Listener(Protocol):
    """What the events of one client mean."""

    def hear(self, name: str, arguments: list[Any]) -> Answer:
        """Do what the client asks, and return what says the answer. Not a checkpoint.

        Raises:
            OrchestratorError: it cannot be done; the client is told.
        """

    def rooms(self) -> tuple[str, ...]:
        """Return what the client is told of. Not a checkpoint."""

    def enter(self, room: str) -> Answer:
        """Tell the client of that (again), and return what says the answer. Not a checkpoint.

        Raises:
            OrchestratorError: it cannot be told.
        """

    def leave(self) -> None:
        """Tell the client nothing more. Not a checkpoint."""

    async def settle(self) -> None:
        """Wait until all is said that there is, once the server closes."""


class Stage(Enum):
    """How far a client has come."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"


class Conversation:
    """One client and what it says.

    Attributes:
        identity: who it is; None before that is known.
    """

    def __init__(
        self, session: Session, sessions: Sessions, listen: Callable[[Conversation], Listener]
    ) -> None:
        self.identity: Identity | None = None
        self.start_soon = session.start_soon
        self._session = session
        self._sessions = sessions
        self._stage = Stage.NEW
        self._pending = 0
        self._connected = trio.Event()
        self._listener = listen(self)

    def end(self) -> None:
        """See ``Talk.end``: a client whose connection broke may come back for its rooms."""
        if self.identity is not None and (rooms := self._listener.rooms()):
            self._sessions.recovery.keep(self._session.pid, self.identity.principal, rooms)

    async def begin(self) -> None:
        """See ``Talk.begin``: whoever does not connect in time has no use for a session."""
        with trio.move_on_after(CONNECT_S) as patience:
            await self._connected.wait()
        if patience.cancelled_caught:
            self._session.end(POLICY, f"nobody has connected within {CONNECT_S:g} s")

    async def settle(self) -> None:
        """See ``Talk.settle``."""
        await self._listener.settle()

    async def emit(self, name: str, body: dict[str, Any]) -> None:
        """Send an event; waits while too much waits for the client."""
        await self._say(PacketKind.EVENT, [name, body])

    async def _say(self, kind: PacketKind, data: Any, **more: Any) -> None:
        await self._session.say(message(kind, data, **more))

    # What comes in

    def hear(self, text: str) -> None:
        """See ``Talk.hear``."""
        packet = read_packet(text)
        if packet.namespace != MAIN:
            self._turn_away(packet)
            return
        match packet.kind:
            case PacketKind.CONNECT:
                self._connect(packet.data)
            case PacketKind.DISCONNECT:
                self._disconnect()
            case PacketKind.EVENT:
                self._event(packet)
            case PacketKind.ACK:
                pass  # nothing is sent that asks for one
            case PacketKind.CONNECT_ERROR | PacketKind.BINARY_EVENT | PacketKind.BINARY_ACK:
                raise Malformed(f"a client may not send a packet {packet.kind.name}")
            case _:
                assert_never(packet.kind)

    def _turn_away(self, packet: Packet) -> None:
        if packet.kind is not PacketKind.CONNECT:
            raise Malformed(f"there is no namespace {packet.namespace!r}")
        error = {"message": "Invalid namespace"}
        self._later(partial(self._say, PacketKind.CONNECT_ERROR, error, namespace=packet.namespace))

    def _connect(self, auth: object) -> None:
        if self._stage is not Stage.NEW:
            raise Malformed("this client is connected already")
        self._stage = Stage.CONNECTING
        self._later(partial(self._let_in, auth))

    async def _let_in(self, auth: object) -> None:
        try:
            identity = await _identify(auth)
            self._sessions.hold(self._session, identity.principal)
        except OrchestratorError as error:
            self._stage = Stage.NEW
            told = {"message": str(error), "data": await _problem(error)}
            await self._say(PacketKind.CONNECT_ERROR, told)
            return
        rooms = self._recover(auth, identity)
        self.identity = g.caller = identity
        self._stage = Stage.CONNECTED
        self._connected.set()
        # Before the client can leave one of them.
        entering = [self._listener.enter(room) for room in rooms]
        # Another id than that of the session, which is a secret of the client's.
        told = {"sid": secrets.token_urlsafe(16), "pid": self._session.pid}
        await self._say(PacketKind.CONNECT, told)
        for enter in entering:
            with suppress(OrchestratorError):  # it is gone, or may not be seen any more
                await enter()

    def _recover(self, auth: object, identity: Identity) -> tuple[str, ...]:
        """Return the rooms that the client was in before its connection broke.

        It is told the same ``pid`` again if it was in some.
        """
        pid = auth.get("pid") if isinstance(auth, dict) else None
        known = pid if isinstance(pid, str) else ""
        rooms = self._sessions.come_back(known, identity.principal) if known else None
        self._session.pid = secrets.token_urlsafe(32) if rooms is None else known
        return rooms or ()

    def _disconnect(self) -> None:
        self._listener.leave()
        self.identity = None
        self._stage = Stage.NEW

    def _event(self, packet: Packet) -> None:
        if self._stage is not Stage.CONNECTED:
            raise Malformed("an event comes after the client has connected")
        match packet.data:
            case [str(name), *arguments]:
                g.caller = self.identity
            case _:
                raise Malformed("an event is an array, and its name comes first")
        try:
            answer = self._listener.hear(name, arguments)
        except OrchestratorError as error:
            answer = partial(_fail, error)
        self._later(partial(self._answer, packet.number, answer))

    # What goes out

    async def _answer(self, number: int | None, answer: Answer) -> None:
        try:
            body = await answer()
        except OrchestratorError as error:
            body = {"success": False, "message": str(error), **await _problem(error)}
            if number is None:
                await self.emit("error", body)
        if number is not None:
            await self._say(PacketKind.ACK, [body], number=number)

    def _later(self, say: Callable[[], Awaitable[None]]) -> None:
        """Say something from a task of its own; but only so much at a time."""
        if self._pending >= MAX_PENDING:
            raise Malformed(f"more than {MAX_PENDING} answers wait; read them")
        self._pending += 1
        self._session.start_soon(self._say_later, say)

    async def _say_later(self, say: Callable[[], Awaitable[None]]) -> None:
        await say()
        self._pending -= 1


async def _identify(auth: object) -> Identity:
    """Return who connects.

    Raises:
        TooOften, Unidentified, BadCredentials, CannotJudge: as for ``checked``.
    """
    given = credentials()
    token = auth.get("token") if isinstance(auth, dict) else None
    if isinstance(token, str) and token:
        # The token alone: what else came along must not decide who it is.
        given = Credentials(token, Headers(), given.peer)
    ask = partial(the_access().identify, given)
    try:
        return await checked(ask, guessing=given.bearer is not None)
    except BadCredentials:
        raise
    except Unidentified:
        raise Unidentified(UNIDENTIFIED) from None


async def _problem(error: OrchestratorError) -> dict[str, Any]:
    return await problems.document(problems.from_error(error))


async def _fail(error: OrchestratorError) -> dict[str, Any]:
    raise error

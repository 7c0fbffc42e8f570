"""The calls through which Socket.IO comes: long polls, what is posted beside them, a WebSocket."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import trio
from quart import Blueprint, Response, current_app, json, request, websocket

from api.auth.guard import origin
from api.auth.limits import household_of
from api.problems import problem
from api.socketio import engine
from api.socketio.conversation import Conversation
from api.socketio.engine import Session, Sessions, Transport
from api.socketio.packets import SEPARATOR, FrameKind, Malformed, frame, read_frame, split

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from quart.blueprints import BlueprintSetupState
    from quart_trio import QuartTrio

    from api.socketio.conversation import Listener

    Listen = Callable[[Conversation], Listener]

NAME = "socketio"
PATH = "/socket.io/"
PROTOCOL = "4"
# How long a client may take to go over to a WebSocket that it has opened.
UPGRADE_S = 10.0


def blueprint(listen: Listen) -> Blueprint:
    """Return the calls; an application has them once.

    Args:
        listen: says what the events of a client mean; called once for each.
    """
    made = Blueprint(NAME, __name__)

    @made.get(PATH)
    async def poll() -> Response:
        """Open a session, or wait for what there is to say in one."""
        if refused := _bad_handshake("polling"):
            return refused
        if "sid" not in request.args:
            return _text([_greeting(await _open(listen), ["websocket"])])
        session = _sessions().get(request.args["sid"])
        return _unknown() if session is None else await _polled(session)

    @made.post(PATH)
    async def post() -> Response:
        """Take what a client says in a session."""
        if refused := _bad_handshake("polling"):
            return refused
        session = _sessions().get(request.args.get("sid", ""))
        return _unknown() if session is None else await _posted(session)

    @made.websocket(PATH)
    async def connect() -> Response | None:
        """Go on with a session over a WebSocket, or open one there."""
        if refused := _bad_handshake("websocket"):
            return refused
        if "sid" not in websocket.args:
            await _serve(await _open(listen))
            return None
        session = _sessions().get(websocket.args["sid"])
        return _unknown() if session is None else await _upgrade(session)

    made.record_once(_install)
    return made


def _install(state: BlueprintSetupState) -> None:
    streams = state.app.extensions["quiesce.streams"]
    state.app.extensions["quiesce.socketio"] = Sessions(lambda: streams.closing)


def _sessions() -> Sessions:
    sessions: Sessions = current_app.extensions["quiesce.socketio"]
    return sessions


async def _open(listen: Listen) -> Session:
    """Return a new session that is there.

    Raises:
        TooManySessions: too many were opened from that address.
    """
    sessions = _sessions()
    session = sessions.open(household_of(origin()))
    # Its own errors it keeps to itself, so it ends nothing beside it.
    nursery = cast("QuartTrio", current_app).nursery
    await nursery.start(session.run, Conversation(session, sessions, listen))
    return session


def _greeting(session: Session, upgrades: list[str]) -> str:
    facts = {
        "sid": session.sid,
        "upgrades": upgrades,
        "pingInterval": round(engine.PING_INTERVAL_S * 1000),
        "pingTimeout": round(engine.PING_TIMEOUT_S * 1000),
        "maxPayload": engine.MAX_PAYLOAD,
    }
    return frame(FrameKind.OPEN, json.dumps(facts))


# Long polls


async def _polled(session: Session) -> Response:
    try:
        return _text(await session.poll())
    except Malformed as error:
        return _malformed(error)


async def _posted(session: Session) -> Response:
    payload: bytes = await request.get_data(as_text=False)  # type: ignore[assignment]
    try:
        if session.transport is Transport.WEBSOCKET:
            raise Malformed("this session has gone over to a WebSocket")
        _hear(session, _texts_of(session, payload))
    except Malformed as error:
        return _malformed(error)
    return _text(["ok"])


def _texts_of(session: Session, payload: bytes) -> Iterable[str]:
    try:
        if len(payload) > engine.MAX_PAYLOAD:
            raise Malformed(f"a payload may have {engine.MAX_PAYLOAD} bytes")
        return split(payload)
    except Malformed as error:
        session.end(engine.POLICY, str(error))
        raise


def _hear(session: Session, texts: Iterable[str | bytes | None]) -> None:
    for text in texts:
        if not session.ended.is_set():
            session.hear(text)


# The WebSocket


async def _upgrade(session: Session) -> Response | None:
    try:
        session.probe()
    except Malformed as error:
        return _malformed(error)
    why = f"a WebSocket of a session is taken within {UPGRADE_S:g} s"
    try:
        await websocket.accept()
        with trio.move_on_after(UPGRADE_S):
            await _probe(session)
    except Malformed as error:
        why = str(error)
    finally:
        session.stay()
    if session.transport is Transport.WEBSOCKET:
        await _carry(session)
    else:
        await websocket.close(engine.POLICY, why)
    return None


async def _probe(session: Session) -> None:
    """Wait until the client has seen that the WebSocket works, and goes over to it.

    Raises:
        Malformed: it says something else; the session goes on with polls.
    """
    if read_frame(await websocket.receive()) != (FrameKind.PING, "probe"):
        raise Malformed("a WebSocket of a session begins with the packet 2probe")
    await websocket.send(frame(FrameKind.PONG, "probe"))
    if read_frame(await websocket.receive()).kind is not FrameKind.UPGRADE:
        raise Malformed("after 3probe comes the packet 5")
    session.go_over()


async def _serve(session: Session) -> None:
    session.go_over()
    try:
        await websocket.accept()
        await websocket.send(_greeting(session, []))
    except BaseException:
        session.end(engine.GOING_AWAY, "the connection is gone")
        raise
    await _carry(session)


async def _carry(session: Session) -> None:
    """Carry frames both ways until the session has ended; it ends with its connection."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_listen, session)
            async for text in session.waiting:
                await websocket.send(text)
            nursery.cancel_scope.cancel(reason="the session is over")
    finally:
        session.end(engine.GOING_AWAY, "the connection is gone")
    await websocket.close(*session.ending)


async def _listen(session: Session) -> None:
    while not session.ended.is_set():
        try:
            _hear(session, [await websocket.receive()])
        except Malformed:
            return  # the session has ended, and its ending says why


# Refusals


def _bad_handshake(transport: str) -> Response | None:
    arguments: Mapping[str, str] = (websocket if transport == "websocket" else request).args
    if arguments.get("EIO") != PROTOCOL:
        why = f"only version {PROTOCOL} of Engine.IO is spoken here; pass EIO={PROTOCOL}"
        return problem(400, "bad-handshake", why, code=5)
    if arguments.get("transport") != transport:
        why = f"this is the transport {transport!r}; pass transport={transport}"
        return problem(400, "bad-handshake", why, code=0)
    return None


def _unknown() -> Response:
    why = "there is no such session (any more); open one with a GET without `sid`"
    return problem(400, "unknown-session", why, code=1)


def _malformed(error: Malformed) -> Response:
    return problem(400, "malformed-packet", str(error), code=3)


def _text(frames: list[str]) -> Response:
    return Response(SEPARATOR.join(frames), content_type="text/plain; charset=UTF-8")

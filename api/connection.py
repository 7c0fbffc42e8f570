"""The guarded connection: what one client does is never felt by anybody else.

Hypercorn's own ``TCPServer`` lets clients do six things that a server of runs cannot afford. All
were measured with hypercorn 0.18 and quart-trio 0.12, and the tests of this module
repeat them, so that a release that no longer needs one of the guards is noticed.

A. *One packet ends the server.* An error in the protocol code leaves ``TCPServer.run``, enters
   the nursery of all connections, and cancels whatever stands beside the server. A WebSocket
   upgrade with one byte behind it is enough, without any token (pgjones/hypercorn#225, open since
   2024). Here no error leaves ``run``: it is counted, logged, and ends its own connection.

B. *One client that stops reading makes a shutdown wait for ever.* Bytes are sent in a shield, so
   that no message is torn, but the shield has no bound: graceful time, response timeouts and
   cancellation from outside are all ignored (pgjones/hypercorn#106 is the nearest report). Here
   the shield is bounded by the client's progress, and a client that makes none is cut.

C. *The end of a response cancels its own bookkeeping.* Hypercorn tells the application
   ``http.disconnect`` while it finishes a response; quart-trio then cancels the request's nursery,
   and the rest of hypercorn's work, which runs in that nursery, is lost: the idle timer never
   starts again, idle connections hold a shutdown back for the whole graceful time, and after a
   response that came before its request's body the next request on that connection hangs (no
   report upstream). Here that bookkeeping runs in a bounded shield. The application's own ``send``
   stays unshielded: under HTTP/2 it may wait for a client that is gone.

D. *A WebSocket outlives its peer, or its handler.* Hypercorn sends pings and never looks for their
   answers, so that a peer that vanished is kept for ever; and after a handler has ended, twenty
   more messages of the peer block the connection's reading and closing alike. Here a peer of whom
   nothing is heard is dropped, and what comes when nobody listens any more is thrown away. Nor is
   anything compressed: that would cost 300 KB a connection, and let a small message become large.

E. *A client that has left keeps its socket.* The timer of idle connections runs in the nursery that
   the connection waits for, so that whoever leaves between two requests is held, with a file and
   two tasks, for as long as a client that is there may be idle. Here the timer ends with the
   reading.

F. *Who sends what cannot be read is told nothing.* Hypercorn answers with a status and no body.
   Here that answer is a problem document like every other, and says what is wrong.

G. *A WebSocket's peer that breaks the rules stays, or hears nothing.* Of a message that is too
   large hypercorn keeps all that comes, without a bound, and the connection with it; and whoever
   sends what is no frame, or text that is no UTF-8, is left without a word. Here both are told why
   by a close code, and are gone.

There is no public hook for any of this, so ``install`` replaces module globals of hypercorn, and
hypercorn is pinned to 0.18.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

import h11
import hypercorn.protocol
import hypercorn.protocol.h2
import hypercorn.protocol.h11
import hypercorn.trio.run
import trio
from hypercorn.events import RawData, Updated
from hypercorn.protocol.events import Body, Data, Request, StreamClosed
from hypercorn.protocol.ws_stream import FrameTooLargeError, WSStream
from hypercorn.trio.tcp_server import TCPServer
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Message, Ping
from wsproto.frame_protocol import CloseReason

from api.auth.headers import OF_OTHERS
from api.problems import DOCUMENT, members_of_all
from orchestrator.cleanup import bounded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.events import Event
    from hypercorn.protocol.events import Event as StreamEvent
    from hypercorn.typing import ASGISendEvent

_log = logging.getLogger("quiesce.server")

_EXTENSIONS = b"sec-websocket-extensions"
# Of why a request cannot be read so much is said.
SAID_CHARS = 200


class Connection(TCPServer):
    """One client's connection. Whatever goes wrong in it ends it, and nothing else.

    Attributes:
        SEND_STALL_S: a client that has accepted nothing for so many seconds is cut. Also what a
            message that is being sent when the server shuts down may still take.
        SLICE_BYTES: what counts as progress. As much as Trio lets wait unsent in the kernel.
        failures: connections of this process that an error has ended.
    """

    SEND_STALL_S: ClassVar[float] = 3.0
    SLICE_BYTES: ClassVar[int] = 2**14
    failures: ClassVar[int] = 0

    _has_left = False

    async def run(self) -> None:
        """Serve the client until it leaves or is cut. Its socket is closed by Trio's listener.

        Raises:
            BaseException: only what is not an ``Exception``, such as ``trio.Cancelled``.
        """
        try:
            with trio.CancelScope() as self._life:
                await super().run()
        except* Exception as errors:
            _note_failure(errors)

    async def protocol_send(self, event: Event) -> None:
        """Do what the protocol asks for: send bytes, close, or mind the idle timer."""
        if isinstance(event, RawData):
            if event.data:
                await self._send(event.data)
        else:
            with bounded(self.SEND_STALL_S):
                if not (self._has_left and isinstance(event, Updated)):
                    await super().protocol_send(event)

    async def _read_data(self) -> None:
        await super()._read_data()
        # Before the wait: a request that ends meanwhile must not start the timer again.
        self._has_left = True
        await self.idle_task.stop()

    async def _send(self, data: bytes) -> None:
        # Below this line a cancellation waits. Neither of the two gives a turn of the loop away, of
        # which each answer would take several.
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self.send_lock.acquire()
        try:
            await self._send_whole(data)
        finally:
            self.send_lock.release()

    async def _send_whole(self, data: bytes) -> None:
        # All of the bytes go out, or the connection ends: nothing could follow a torn message.
        try:
            with bounded(self.SEND_STALL_S) as patience:
                for start in range(0, len(data), self.SLICE_BYTES):
                    await self.stream.send_all(data[start : start + self.SLICE_BYTES])
                    # In a shutdown progress buys no more time: the client could read for hours.
                    if not self.context.terminated.is_set():
                        patience.deadline = trio.current_time() + self.SEND_STALL_S
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._life.cancel(reason="the client is gone")
        if patience.cancelled_caught:
            self._life.cancel(reason="the client accepted nothing in time")


class Http1(hypercorn.protocol.h11.H11Protocol):
    """HTTP/1.1, where a request that cannot be read is refused in words."""

    async def _send_error_response(self, status_code: int) -> None:
        # Called where the error is being handled, and not told of it.
        why = str(sys.exc_info()[1])[:SAID_CHARS]
        problem = members_of_all(
            status_code, "unreadable-request", f"it is no request of HTTP/1.1: {why}"
        )
        body = json.dumps(problem).encode()
        said = {"content-type": DOCUMENT, "content-length": len(body), "connection": "close"}
        headers = [
            *((name.encode(), str(value).encode()) for name, value in (*said.items(), *OF_OTHERS)),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class Socket(WSStream):
    """One WebSocket, alone on its connection or beside others.

    Attributes:
        SILENCE_S: a peer is dropped that has said nothing for so many seconds. Every client answers
            a ping by itself, so a living one says something every ``websocket_ping_interval``.
    """

    SILENCE_S: ClassVar[float] = 45.0

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._heard_at = trio.current_time()
        self._gone = trio.Event()
        self._refused = False
        self._nobody_listens = False
        self._putting = trio.CancelScope()

    async def handle(self, event: StreamEvent) -> None:
        """Take what the peer sends."""
        if isinstance(event, StreamClosed):
            self._gone.set()
        if self._nobody_listens:
            self.closed = self.closed or isinstance(event, StreamClosed)
            return
        self._heard_at = trio.current_time()
        if isinstance(event, Body | Data) and not self.handshake.accepted:
            await self._refuse()
        elif isinstance(event, Request):
            headers = [each for each in event.headers if each[0].lower() != _EXTENSIONS]
            await super().handle(replace(event, headers=headers))
            if self.app_put is not None:
                self.app_put = partial(self._put, self.app_put)
        else:
            await super().handle(event)

    async def _refuse(self) -> None:
        """Answer a peer that talks before it was accepted, and let it go."""
        # Before the answer: the handler must not overtake it, and accept the peer.
        self._refused = True
        await self._send_error_response(HTTPStatus.BAD_REQUEST)
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _put(
        self, put: Callable[[dict[str, Any]], Awaitable[None]], message: dict[str, Any]
    ) -> None:
        # One packet holds many messages, so the handler may have ended since it was looked at.
        if not self._nobody_listens:
            with trio.CancelScope() as self._putting:
                await put(message)

    async def app_send(self, message: ASGISendEvent | None) -> None:
        """Send what the handler says; None once it has ended."""
        if message is None:
            self._nobody_listens = True
            self._putting.cancel(reason="the handler has ended")
        if not self._refused:
            await super().app_send(message)

    async def _handle_events(self) -> None:
        for event in self.connection.events():
            if isinstance(event, CloseConnection):
                # Its own, which is answered; else why what it has sent cannot be read.
                own = self.connection.state is ConnectionState.REMOTE_CLOSING
                await self._part(event.response() if own else event)
            elif isinstance(event, Ping):
                await self._send_wsproto_event(event.response())
            elif isinstance(event, Message):
                try:
                    self.buffer.extend(event)
                except FrameTooLargeError:
                    await self._part(CloseConnection(CloseReason.MESSAGE_TOO_BIG))
                    return
                if event.message_finished and self.app_put is not None:
                    await self.app_put(self.buffer.to_message())
                    self.buffer.clear()

    async def _part(self, last: CloseConnection) -> None:
        await self._send_wsproto_event(last)
        await self.send(StreamClosed(stream_id=self.stream_id))

    async def _send_pings(self) -> None:
        interval_s = self.config.websocket_ping_interval or inf
        while not self._gone.is_set():
            if trio.current_time() - self._heard_at >= self.SILENCE_S:
                why = "nothing was heard of you"
                await self._part(CloseConnection(CloseReason.POLICY_VIOLATION, why))
                return
            await self._send_wsproto_event(Ping())
            with trio.move_on_after(interval_s):
                await self._gone.wait()


def install() -> None:
    """Make hypercorn use these classes in this process. May be called many times."""
    hypercorn.trio.run.TCPServer = Connection  # type: ignore[attr-defined]  # no public hook
    hypercorn.protocol.H11Protocol = Http1  # type: ignore[attr-defined]  # no public hook
    for protocol in (hypercorn.protocol.h11, hypercorn.protocol.h2):
        protocol.WSStream = Socket  # type: ignore[attr-defined]  # no public hook


def _note_failure(errors: ExceptionGroup[Exception]) -> None:
    Connection.failures += 1
    _log.debug("a connection was ended by an error", exc_info=errors)
    # At 1, 2, 4, 8, …: a hostile client must not be able to fill the log.
    if Connection.failures.bit_count() == 1:
        _log.warning(
            "%d connection(s) so far were ended by an error; the latest: %.300r",
            Connection.failures,
            errors,
        )

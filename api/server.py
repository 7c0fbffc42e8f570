"""Serving the application on one address until it is time to close."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config, Sockets
from hypercorn.trio.run import worker_serve

from api.connection import install
from api.failures import Failures
from orchestrator import InvalidInput, OrchestratorError

if TYPE_CHECKING:
    import ssl

    from hypercorn.typing import (
        ASGIFramework,
        ASGIReceiveCallable,
        ASGISendCallable,
        ASGISendEvent,
        Scope,
    )
    from quart_trio import QuartTrio

Address = tuple[str, int]

KEEP_ALIVE_S = 75.0
# Streams end by themselves when the server closes, so this is for ordinary requests in flight.
GRACEFUL_S = 1.0
BACKLOG = 1000
HANDSHAKE_S = 10.0
MAX_HEADER_BYTES = 32 * 1024
# Of WebSockets: how often a peer must show that it lives, and what it may say at once.
PING_S = 15.0
MAX_MESSAGE_BYTES = 64 * 1024


class CannotListen(OrchestratorError):
    """The server cannot listen on that address."""

    def __init__(self, host: str, port: int, why: str) -> None:
        self.host = host
        self.port = port
        super().__init__(
            f"cannot listen on {host} port {port}: {why};"
            " end what uses that port, or choose another one (0 picks one that is free)"
        )


async def serve(
    app: QuartTrio,
    *,
    host: str,
    port: int,
    closing: trio.Event,
    loopback_only: bool = True,
    keep_alive_s: float = KEEP_ALIVE_S,
    tls: ssl.SSLContext | None = None,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve ``app`` until ``closing`` is set. To be run with ``nursery.start``.

    Hands out the bound ``(host, port)`` once the application has started and clients can connect.
    After ``closing`` is set nobody can connect any more, idle connections are closed at once,
    requests in flight have ``GRACEFUL_S``, and a client that does not take what it is sent has
    ``Connection.SEND_STALL_S`` on top. Cancellation gives requests no time at all.

    Args:
        host: an address of this machine, ``0.0.0.0`` or ``::`` for all of them, or ``localhost``
            (``127.0.0.1``).
        port: 0 to 65535; 0 picks one that is free.
        loopback_only: refuse other addresses than those in ``127.0.0.0/8`` and ``::1``.
        keep_alive_s: an idle connection is closed after so many seconds.
        tls: for every connection; None to serve in the clear.

    Raises:
        InvalidInput: ``host`` is no address, or none that is allowed; ``port`` is not a port.
        CannotListen: somebody else has the port, or we may not have it.
    """
    with _listen(host, port, loopback_only=loopback_only) as listener:
        address = cast("Address", listener.getsockname()[:2])
        install()
        try:
            await worker_serve(
                ASGIWrapper(_announcing(app, address, task_status)),
                _config(keep_alive_s, tls),
                sockets=Sockets([listener], [], []) if tls else Sockets([], [listener], []),
                shutdown_trigger=closing.wait,
            )
        except BaseExceptionGroup as group:
            raise _only(group) from None


def _listen(host: str, port: int, *, loopback_only: bool) -> socket.socket:
    """Listen here rather than in hypercorn, whose nurseries would wrap the error twice."""
    problems = []
    host = "127.0.0.1" if host == "localhost" else host
    if wrong := _wrong_with(host, loopback_only=loopback_only):
        problems.append(("host", wrong))
    if not 0 <= port <= 65535:
        problems.append(("port", f"{port} is not a port; use 0 to 65535"))
    if problems:
        raise InvalidInput(problems)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CannotListen(host, port, os.strerror(error.errno or 0)) from error


def _wrong_with(host: str, *, loopback_only: bool) -> str:
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        return f"{host!r} is not an address; use 127.0.0.1, ::1 or localhost, or 0.0.0.0 for all"
    if loopback_only and not is_loopback:
        remedy = "use 127.0.0.1, ::1 or localhost, or say with --tokens who may use the server"
        return f"{host!r} is not loopback; {remedy}"
    return ""


class _Config(Config):
    """Hypercorn's, with a TLS context of our own."""

    tls: ssl.SSLContext | None = None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self.tls


def _config(keep_alive_s: float, tls: ssl.SSLContext | None) -> Config:
    config = _Config()
    config.tls = tls
    config.ssl_handshake_timeout = HANDSHAKE_S
    config.accesslog = None
    config.errorlog = logging.getLogger("quiesce.server")
    config.include_server_header = False
    config.keep_alive_timeout = keep_alive_s
    config.websocket_ping_interval = PING_S
    config.websocket_max_message_size = MAX_MESSAGE_BYTES
    config.graceful_timeout = GRACEFUL_S
    config.h11_max_incomplete_size = MAX_HEADER_BYTES
    return config


def _announcing(
    app: QuartTrio, address: Address, task_status: trio.TaskStatus[Address]
) -> ASGIFramework:
    """Announce the address when the application has started, and keep what fails to itself.

    Hypercorn itself reports that it has started even if the application has failed to. And it
    would log a traceback for each error, of which a client can cause as many as it likes.
    """
    failures = Failures("a request")

    async def asgi(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        async def announce(event: ASGISendEvent) -> None:
            await send(event)
            if event["type"] == "lifespan.startup.complete":
                task_status.started(address)

        if scope["type"] == "lifespan":
            await app(scope, receive, announce)
            return
        if not _is_target(scope["path"]):
            # Of which there is none, like any other that is unknown.
            scope["path"] = f"/{scope['path']}"
        try:
            await app(scope, receive, send)
        except* Exception as errors:
            failures.note(errors)

    return asgi


def _is_target(path: str) -> bool:
    try:
        urlsplit(path)
    except ValueError:
        return False
    return True


def _only(error: BaseException) -> BaseException:
    """Return the one exception inside groups of one, or the group if it holds several."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error

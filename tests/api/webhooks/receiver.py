"""Whoever is told: a server on loopback that does what a test wants."""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import trio
from standardwebhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "whsec_" + "c2VjcmV0" * 4  # 24 bytes


@dataclass
class Receiver:
    """A receiver of webhooks, and what it was sent.

    Attributes:
        answers: the statuses of its next answers; 200 from then on. None hangs until ``let``.
        got: headers and body of each request.
    """

    url: str = ""
    answers: list[int | None] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    let: threading.Event = field(default_factory=threading.Event)

    def take(self, headers: dict[str, str], body: bytes) -> int:
        self.got.append((headers, body))
        status = self.answers.pop(0) if self.answers else 200
        if status is None:
            self.let.wait(30)
            return 200
        return status

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]

    def verify(self, secret: str = SECRET) -> None:
        """Check every signature, as a receiver does."""
        for headers, body in self.got:
            Webhook(secret).verify(body, headers)

    async def until(self, number: int) -> None:
        """Wait until so many requests have come."""
        while len(self.got) < number:
            await trio.sleep(0.01)


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    """Receive webhooks for the time of the body."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = receiver.take({**headers, "path": self.path}, body)
            self.send_response(status)
            for name, value in receiver.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            with suppress(ConnectionError):  # the client was not patient
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield receiver
        finally:
            receiver.let.set()
            server.shutdown()


@dataclass
class Mailbox:
    """An SMTP server, and what it was sent.

    Attributes:
        refusals: what it says to the next messages, instead of taking them. None hangs.
        unknown: what it says to the next message for an address, instead of taking it.
        farewell: what it says when a client takes its leave.
        to: the addresses of each message in ``got``.
    """

    port: int = 0
    refusals: list[bytes | None] = field(default_factory=list)
    unknown: dict[bytes, list[bytes]] = field(default_factory=dict)
    farewell: bytes = b"221 bye"
    got: list[str] = field(default_factory=list)
    to: list[list[bytes]] = field(default_factory=list)
    let: threading.Event = field(default_factory=threading.Event)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Take mail for the time of the body: as much of SMTP as it takes."""
    box = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def say(self, line: bytes) -> None:
            self.wfile.write(line + b"\r\n")

        def handle(self) -> None:
            self.say(b"220 test")
            self.to: list[bytes] = []
            while line := self.rfile.readline():
                verb = line.split()[0].upper() if line.split() else b""
                if verb == b"DATA":
                    self.take()
                elif verb == b"RCPT":
                    self.accept(line.partition(b"<")[2].partition(b">")[0])
                elif verb == b"QUIT":
                    self.say(box.farewell)
                    return
                else:
                    self.say(b"250 ok")

        def accept(self, address: bytes) -> None:
            if refusals := box.unknown.get(address):
                self.say(refusals.pop(0))
            else:
                self.to.append(address)
                self.say(b"250 ok")

        def take(self) -> None:
            refusal = box.refusals.pop(0) if box.refusals else b""
            if refusal is None:
                box.let.wait(30)
                return
            if refusal:
                self.say(refusal)
                return
            self.say(b"354 go on")
            lines: list[bytes] = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line)
            box.got.append(b"".join(lines).decode())
            box.to.append(self.to)
            self.say(b"250 taken")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        box.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield box
        finally:
            box.let.set()
            server.shutdown()

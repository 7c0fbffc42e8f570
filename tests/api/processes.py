"""Real ``quiesce`` processes, and a website for them that counts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from click.testing import CliRunner

from api.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

QUIESCE = str(Path(sys.executable).with_name("quiesce"))
# No test may hang: a process that lives longer than this is killed, and its test fails. One that
# serves many tests may live longer.
LIFETIME_S = 120.0


def invoke(*arguments: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it said."""
    result = CliRunner(env={"COLUMNS": "120"}).invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


class Process:
    """A real ``quiesce`` process, read line by line."""

    def __init__(
        self, *arguments: str, cwd: Path, stdin: Any, stdout: Any, lifetime_s: float
    ) -> None:
        environment = {**os.environ, "COLUMNS": "100"}
        self.popen = subprocess.Popen(
            [QUIESCE, *arguments],
            cwd=cwd,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said = ""
        self._guard = threading.Timer(lifetime_s, self.popen.kill)
        self._guard.start()

    def until(self, text: str) -> str:
        """Read up to a line with the text, and return that line."""
        for line in self._stdout:
            self.said += line
            if text in line:
                return line
        raise AssertionError(f"never said {text!r}, but:\n{self.said}")

    def signal(self, number: int = signal.SIGINT) -> None:
        self.popen.send_signal(number)

    def end(self) -> int:
        """Read all that is left, and return the exit code."""
        self.said += self._stdout.read()
        return self.popen.wait()

    def close(self) -> None:
        self._guard.cancel()
        self.popen.kill()
        self.popen.wait()
        if self.popen.stdout is not None:
            self.popen.stdout.close()

    @property
    def _stdout(self) -> IO[str]:
        assert self.popen.stdout is not None
        return self.popen.stdout


@contextmanager
def quiesce(
    *arguments: str,
    cwd: Path,
    stdin: Any = subprocess.DEVNULL,
    stdout: Any = subprocess.PIPE,
    lifetime_s: float = LIFETIME_S,
) -> Iterator[Process]:
    """Run the command in a process of its own, for the time of the body."""
    process = Process(*arguments, cwd=cwd, stdin=stdin, stdout=stdout, lifetime_s=lifetime_s)
    try:
        yield process
    finally:
        process.close()


class Site:
    """The other end of the wire: it counts, and answers when it is told to.

    Attributes:
        asked: the paths that were asked for.
        said: the body of each request, as bytes.
        left: how many clients went away before they had their answer.
        open: a connection goes up by one when it comes, and down when the client has closed it.
        answer: the head's other lines and the body of what is answered.
    """

    def __init__(self, answer: bytes = b"Content-Length: 2\r\n\r\nok") -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.said: list[bytes] = []
        self.left = 0
        self.open = 0
        self.answers = threading.Semaphore(0)
        self.changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def wait_for(self, what: str, number: int) -> None:
        """Wait until that attribute (or its length) has reached the number."""

        def reached() -> bool:
            value = getattr(self, what)
            return bool((value if isinstance(value, int) else len(value)) == number)

        with self.changed:
            assert self.changed.wait_for(reached, LIFETIME_S), f"{what} is {getattr(self, what)}"

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._count(open=1)
        with client, suppress(OSError):
            while request := read_request(client):
                body = request.partition(b"\r\n\r\n")[2]
                self._count(asked=[request.split()[1].decode()], said=[body])
                if not self._answer(client):
                    break
        self._count(open=-1)

    def _answer(self, client: socket.socket) -> bool:
        """Wait until an answer is wanted; False if the client went away before."""
        client.settimeout(0.01)
        while not self.answers.acquire(blocking=False):
            try:
                gone = client.recv(1, socket.MSG_PEEK) == b""
            except TimeoutError:
                continue
            except OSError:
                gone = True
            if gone:
                self._count(left=1)
                return False
        client.settimeout(None)
        client.sendall(b"HTTP/1.1 200 OK\r\n" + self.answer)
        return True

    def _count(self, **more: Any) -> None:
        # Every connection has a thread, so that to read and to write must be one step.
        with self.changed:
            for name, value in more.items():
                setattr(self, name, getattr(self, name) + value)
            self.changed.notify_all()


def read_request(client: socket.socket) -> bytes:
    """Read one HTTP request with its body; empty if the client has closed instead."""
    read = b""
    while chunk := client.recv(65536):
        read += chunk
        head, found, body = read.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head.lower())
        if found and len(body) >= int(length[1] if length else 0):
            return read
    return b""


def read_until(terminal: int, text: str) -> str:
    """Read what is written to a terminal up to the text, or to the end if there is none."""
    said = b""
    while not text or text.encode() not in said:
        try:
            said += os.read(terminal, 65536)
        except OSError:  # the process is gone, and the terminal with it
            assert not text, said
            break
    return said.decode()

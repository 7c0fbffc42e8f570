"""The stock clients of Socket.IO, for Node and for Python, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
NODE = HERE / "node"
MISSING = (
    "NO NODE: the stock client of Socket.IO was not tried; install it with `apt install nodejs npm`"
    " and `npm ci --prefix tests/dialects/node`"
)
LIFETIME_S = 120.0
BOUND_S = 30.0


class Kind(NamedTuple):
    """Which client, and over what; empty for what it does by itself."""

    language: str
    transport: str

    def __str__(self) -> str:
        return f"{self.language}-{self.transport or 'default'}"


KINDS = [Kind(language, t) for language in ("node", "python") for t in ("", "polling", "websocket")]


def node_with_client() -> str:
    """Return Node, which has the client; without it the test is skipped, but not in CI."""
    node = shutil.which("node")
    if node is None or not (NODE / "node_modules" / "socket.io-client").is_dir():
        if not os.environ.get("CI"):
            pytest.skip(MISSING)
        raise AssertionError(MISSING)
    return node


def command(kind: Kind, url: str) -> list[str]:
    """Return the command that runs the client."""
    if kind.language == "python":
        return [sys.executable, str(HERE / "client.py"), url, kind.transport]
    return [node_with_client(), str(NODE / "client.js"), url, kind.transport]


class Client:
    """One client, and all that it has said: the name of each event with its arguments."""

    def __init__(self, kind: Kind, url: str) -> None:
        self.said: list[list[Any]] = []
        self._changed = threading.Condition()
        self.popen = subprocess.Popen(
            command(kind, url), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._guard = threading.Timer(LIFETIME_S, self.popen.kill)
        self._guard.start()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def emit(self, name: str, progress_id: str) -> None:
        """Emit an event about a run."""
        stdin: IO[str] | None = self.popen.stdin
        assert stdin is not None
        stdin.write(json.dumps([name, {"progress_id": progress_id}]) + "\n")
        stdin.flush()

    def ask(self, name: str, progress_id: str) -> Any:
        """Emit an event and return what it is answered."""
        before = len(self.named("answer"))
        self.emit(name, progress_id)
        return self.wait("answer", before + 1)[-1]

    def named(self, name: str) -> list[Any]:
        """Return what the events of that name have said so far."""
        return [said[1] if len(said) > 1 else None for said in list(self.said) if said[0] == name]

    def wait(self, name: str, count: int = 1) -> list[Any]:
        """Wait until an event of that name has come so often, and return what they said."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.named(name)) >= count, BOUND_S)
        assert came, f"{name} has not come {count} times: {self.said}"
        return self.named(name)

    def news(self) -> list[str]:
        """Return the names of the events that tell of runs, in their order."""
        return [said[0] for said in list(self.said) if said[0].startswith("crawl")]

    def close(self) -> None:
        """End the client."""
        self._guard.cancel()
        self.popen.kill()
        self.popen.wait()
        self._reader.join()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._changed:
                self.said.append(json.loads(line))
                self._changed.notify_all()


@contextmanager
def connected(kind: Kind, url: str) -> Iterator[Client]:
    """A client that has connected, and has gone over to a WebSocket if it does so."""
    client = Client(kind, url)
    try:
        client.wait("connect")
        ends = time.monotonic() + BOUND_S
        while kind.transport != "polling" and "websocket" not in client.named("transport"):
            assert time.monotonic() < ends, client.said
            time.sleep(0.02)  # another process: there is no event to wait for
        yield client
    finally:
        client.close()

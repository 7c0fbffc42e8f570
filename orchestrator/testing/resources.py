"""What an agent opens, and whether it was closed."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

import httpx
import trio

from orchestrator.testing.leaks import patiently
from orchestrator.testing.places import ORCHESTRATOR, calling_place
from orchestrator.testing.report import Fault, Finding
from orchestrator.testing.watching import replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator.testing.places import Place

# What has to be closed, and how to see that it was not.
_RESOURCES: dict[type, Callable[[Any], bool]] = {
    httpx.AsyncClient: lambda client: not client.is_closed,
    httpx.Client: lambda client: not client.is_closed,
    trio.SocketStream: lambda stream: stream.socket.fileno() != -1,
    trio.SocketListener: lambda listener: listener.socket.fileno() != -1,
    socket.socket: lambda sock: sock.fileno() != -1,
    trio.Process: lambda process: process.poll() is None,
    subprocess.Popen: lambda process: process.poll() is None,
}


def _resources() -> dict[type, Callable[[Any], bool]]:
    """The same with the clients of the newer httpx, if somebody has imported it."""
    newer = sys.modules.get("httpx2")
    clients = [newer.AsyncClient, newer.Client] if newer is not None else []
    return _RESOURCES | dict.fromkeys(clients, _RESOURCES[httpx.AsyncClient])


@dataclass(slots=True)
class _Made:
    kind: type
    thing: Any
    place: Place


class Resources:
    """The closable things that runs have made. Holds them, so that no luck with the garbage
    collector closes one."""

    def __init__(self) -> None:
        self._made: list[_Made] = []

    def note(self, kind: type, thing: Any) -> None:
        """Note that the calling code makes something, unless the orchestrator makes it for
        itself."""
        place = calling_place(past=ORCHESTRATOR)
        if place is not None:
            self._made.append(_Made(kind, thing, place))

    def left_open(self) -> list[Finding]:
        """Return what is not closed; close its socket, and end its process."""
        left = [made for made in self._made if _resources()[made.kind](made.thing)]
        self.forget()
        for made in left:
            if isinstance(made.thing, socket.socket):
                made.thing.close()
            elif isinstance(made.thing, trio.Process | subprocess.Popen):
                made.thing.kill()
                _reap(made.thing)
        return [
            Finding(Fault.LEFT_OPEN, f"a {_name(made.kind)} that was made here", made.place)
            for made in left
        ]

    def forget(self) -> None:
        """Let go of everything."""
        self._made.clear()


def _reap(process: trio.Process | subprocess.Popen[Any]) -> None:
    """Wait for its end, so that the garbage collector has nothing to say of it."""
    patiently(lambda: [process] if process.poll() is None else [])


@contextmanager
def noting(resources: Resources, is_ours: Callable[[], bool]) -> Iterator[None]:
    """Note what is made in the body by code for which ``is_ours`` is true."""
    with ExitStack() as stack:
        for kind in _resources():
            stack.enter_context(replaced(kind, "__init__", _noting(kind, resources, is_ours)))
        yield


def _noting(kind: Any, resources: Resources, is_ours: Callable[[], bool]) -> Callable[..., None]:
    make = kind.__init__

    @wraps(make)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        make(self, *args, **kwargs)
        if is_ours():
            resources.note(kind, self)

    return __init__


def _name(kind: type) -> str:
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"

"""Reading server-sent events: whole events out of pieces, and patience with a lost connection."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator import Event, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# How long a connection that was once made is tried again, and how often.
PATIENCE_S = 30.0
RETRY_S = 0.5


class Frame(NamedTuple):
    """One thing that an event stream says.

    Attributes:
        name: the type of an event, ``snapshot``, ``reset``, or empty.
        data: JSON; empty if there is nothing but a sign of life.
    """

    name: str
    data: bytes

    @property
    def event(self) -> Event | None:
        """The event; None if it is none: a snapshot is not one of the run."""
        if not self.data or self.name in ("snapshot", "reset"):
            return None
        return event_of(json.loads(self.data))


class FrameReader:
    """Puts the frames of a ``text/event-stream`` together, however it comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._name = ""

    def feed(self, chunk: bytes) -> Iterator[Frame]:
        """Yield the frames that are whole now."""
        # Not as ``str.splitlines`` does: JSON may hold U+2028 and its like.
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line in (b"", b"\r"):
                yield Frame(self._name, b"\n".join(self._data))
                self._data.clear()
                self._name = ""
            else:
                self._take(line.removesuffix(b"\r"))

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            self._name = line[6:].strip().decode(errors="replace")


def read_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events of a ``text/event-stream``, however it comes in pieces."""
    reader = FrameReader()
    for chunk in chunks:
        for frame in reader.feed(chunk):
            if (event := frame.event) is not None:
                yield event


def event_of(said: dict[str, Any]) -> Event:
    """Return an event that a server has told."""
    return Event(**{name: said[name] for name in Event.__dataclass_fields__})


def ending_of(event: Event) -> RunStatus | None:
    """Return how a run ended by this event; None if it goes on."""
    family, _, status = event.type.partition(".")
    if family == "run" and status in list(RunStatus) and RunStatus(status).is_terminal:
        return RunStatus(status)
    return None


class Loss:
    """A lost connection, borne for a while if there ever was one.

    Args:
        on_lost: called when a connection is lost.
    """

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._connected = False
        self._since: float | None = None

    def made_good(self) -> None:
        """Note that there is a connection."""
        self._connected = True
        self._since = None

    def bear(self, error: Exception) -> None:
        """Note that there is none, and sleep until it is time to try again.

        Raises:
            Exception: the error itself, if it has lasted too long or there never was one.
        """
        if not self._connected:
            raise error
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._on_lost()
        if now - self._since > PATIENCE_S:
            raise error
        time.sleep(RETRY_S)

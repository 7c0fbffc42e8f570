"""Reading server-sent events: whole events out of pieces, and patience with a lost connection."""

from __future__ import annotations

import json
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from api.transport import UNLIKE, CallRefused
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


def events_in(frames: Iterable[Frame], url: str) -> list[Event]:
    """Return the events among some frames that came from there.

    Raises:
        CallRefused: one of them is none of ours.
    """
    try:
        return [event for frame in frames if (event := frame.event) is not None]
    except UNLIKE:
        raise CallRefused(HTTPStatus.OK, {}, url) from None


def event_of(said: dict[str, Any]) -> Event:
    """Return an event that a server has told."""
    return Event(**{name: said[name] for name in Event.__dataclass_fields__})


class Following:
    """Where a reader of a run's feed stands, over all its connections.

    Attributes:
        after: the number of the last event that was taken.
        ended: whether the run's own final event was taken.
        over: whether the run was over when a stream had ended without that; then the next stream
            says all that there is.
    """

    def __init__(self, run_id: str, after: int) -> None:
        self.run_id = run_id
        self.after = after
        self.ended = False
        self.over = False

    def fresh(self, events: Iterable[Event]) -> Iterator[Event]:
        """Yield those of the events that were not taken yet, up to the run's final one."""
        for event in events:
            if event.seq > self.after:
                self.after = event.seq
                yield event
            if event.run_id == self.run_id and ending_of(event):
                self.ended = True
                return


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

    def bear(self, error: Exception) -> float:
        """Note that there is none, and return the seconds after which to try again.

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
        return RETRY_S

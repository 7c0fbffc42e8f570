"""Reading server-sent events: whole events out of pieces, and patience with a lost connection."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from orchestrator import Event, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

# How long a connection that was once made is tried again, and how often.
PATIENCE_S = 30.0
RETRY_S = 0.5


def read_events(chunks: Iterable[bytes]) -> Iterator[Event]:
    """Yield the events of a ``text/event-stream``, however it comes in pieces."""
    data: list[bytes] = []
    kind = b""
    for line in _lines(chunks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif line.startswith(b"event:"):
            kind = line[6:].strip()
        elif not line:
            # The snapshot at the end is no event of the run.
            if data and kind != b"snapshot":
                said = json.loads(b"\n".join(data))
                yield Event(**{name: said[name] for name in Event.__dataclass_fields__})
            data.clear()
            kind = b""


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield whole lines. Not as ``str.splitlines`` does: JSON may hold U+2028 and its like."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")


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

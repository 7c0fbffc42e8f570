"""Who watches which run, so that one that is started for its watchers stops without them."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

import trio

from orchestrator import RunEnded, StopSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from orchestrator import Run

# What a watcher that lost its connection has to come back.
RECONNECT_S = 5.0


@dataclass(slots=True)
class _Seats:
    """The watchers of one run; ``stay`` calls off the stop that the last one has left behind."""

    taken: int = 0
    stay: Callable[[], None] | None = None


class Audience:
    """The watchers of the runs that want to stop without any (``on_disconnect="stop"``).

    Nothing here is a checkpoint.
    """

    def __init__(self) -> None:
        self._is_closed = False
        self._seats: dict[str, _Seats] = {}

    def close(self) -> None:
        """Take note that all watchers leave since the server does, which stops nothing."""
        self._is_closed = True

    def expect(self, run: Run | None) -> None:
        """Give somebody who has asked to watch a run as long as one who comes back.

        They may be gone before they begin to. To be called in the step in which they ask, if they
        may watch; may be called many times.
        """
        if not _wants_watchers(run):
            return
        seats = self._seats.setdefault(run.id, _Seats())
        if not seats.taken and seats.stay is None:
            self._left(run, seats)
        self._tidy(run, seats)

    @contextmanager
    def watching(self, run: Run | None) -> Iterator[None]:
        """Watch a run during the body. Whoever is thrown out of it has lost its connection."""
        if not _wants_watchers(run):
            yield
            return
        seats = self._seats.setdefault(run.id, _Seats())
        seats.taken += 1
        if seats.stay is not None:
            seats.stay()
            seats.stay = None
        try:
            yield
        except BaseException:
            if seats.taken == 1:
                self._left(run, seats)
            raise
        finally:
            seats.taken -= 1
            self._tidy(run, seats)

    def _tidy(self, run: Run, seats: _Seats) -> None:
        if not seats.taken and seats.stay is None:
            self._seats.pop(run.id, None)

    def _left(self, run: Run, seats: _Seats) -> None:
        if self._is_closed or run.record.status.is_terminal:
            return

        def stop() -> None:
            self._seats.pop(run.id, None)
            with suppress(RunEnded):
                run.request_stop(
                    source=StopSource.DISCONNECT,
                    reason=f"nobody has watched it for {RECONNECT_S:g} s",
                )

        timer = run.timer(stop)
        seats.stay = timer.unset
        timer.set(trio.current_time() + RECONNECT_S)


def _wants_watchers(run: Run | None) -> TypeGuard[Run]:
    return run is not None and run.record.options.on_disconnect == "stop"

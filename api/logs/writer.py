"""Writing lines in a thread, so that nobody waits for whoever reads the log."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

# Lines that wait to be written. A reader that stalls for longer loses lines, and is told so.
ROOM = 10_000
# How long what is left may take when the process ends.
CLOSE_S = 1.0


class Writer(logging.Handler):
    """Formats where the line is logged, and writes it in a thread of its own.

    A reader that stalls (a pager, a full pipe) would otherwise hold up the loop, and with it every
    run and every stop.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(ROOM)
        self._lost = 0
        self._thread = threading.Thread(target=self._write, name="quiesce log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record. Never waits."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._lost += 1
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what is left, in bounded time. May be called twice."""
        super().close()
        if self._thread.is_alive():
            try:
                self._lines.put(None, timeout=CLOSE_S)
            except queue.Full:
                return
            self._thread.join(CLOSE_S)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(f"{self._notice_of_loss()}{line}\n")
                if self._lines.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                self._lost += 1  # nobody reads any more, or not now

    def _notice_of_loss(self) -> str:
        lost, self._lost = self._lost, 0
        if not lost:
            return ""
        text = "lines of the log were lost, since nobody read them"
        record = logging.LogRecord("quiesce.log", logging.WARNING, "", 0, text, (), None)
        record.lost = lost
        return f"{self.format(record)}\n"

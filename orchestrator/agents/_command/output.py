"""What a command says: its lines are told, and those that mean something are acted on."""

from __future__ import annotations

import codecs
import fcntl
import os
from collections import deque
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.agents._command.meaning import act_on, may_mean, meaning_of
from orchestrator.worker.output import LINE, Output

if TYPE_CHECKING:
    from orchestrator.context import Context
    from orchestrator.worker.output import Pace

# A line that may be a JSON object is kept together up to here, since it may carry a file.
JSON_LINE = 16 << 20
# Others have their turn after so many bytes.
CHUNK = 1 << 14

# What may be told of a command at once.
BURST = 100_000

# So many characters are kept of each stream's end.
TAIL = 8_192
TAIL_PARTS = 200


class CommandOutput(Output):
    """One of a command's streams.

    Attributes:
        has_partial: a line set the run's partial result.
    """

    def __init__(self, ctx: Context, pace: Pace, level: str, *, has_meaning: bool) -> None:
        super().__init__(ctx.log, pace, level)
        self._ctx = ctx
        self._has_meaning = has_meaning
        self._tail: deque[str] = deque(maxlen=TAIL_PARTS)
        self.has_partial = False

    @property
    def tail(self) -> str:
        """The end of what was said, without lines that had a meaning."""
        return "".join(self._tail).removesuffix("\n")[-TAIL:]

    @property
    def _limit(self) -> int:
        may_have_meaning = self._has_meaning and self._parts[:1] and self._parts[0][0] == "{"
        return JSON_LINE if may_have_meaning else LINE

    def _matters(self, text: str) -> bool:
        return self._has_meaning and may_mean(text)

    async def _tell(self, line: str) -> None:
        meaning = meaning_of(line) if self._has_meaning else None
        if meaning is None or not await act_on(self._ctx, meaning):
            await self._tell_pieces(line)
            self._tail.append("\n")
            return
        self.has_partial |= meaning.says("partial")
        if meaning.says("log"):
            await self._tell_piece(meaning.log, meaning.level)

    async def _tell_pieces(self, line: str) -> None:
        self._tail.append(line[-TAIL:])
        await super()._tell_pieces(line)

    def _skip(self, text: str) -> None:
        super()._skip(text)
        ended = text.rpartition("\n")[0]
        self._tail.append(f"{ended[-TAIL:]}\n")


class Reader:
    """Reads a pipe to its end, or for some time beyond the exit of who wrote to it."""

    def __init__(self, stream: object, output: CommandOutput) -> None:
        assert isinstance(stream, trio.lowlevel.FdStream)
        self._fd = stream.fileno()
        self._output = output
        self._until = inf
        self._waiting: trio.CancelScope | None = None
        # What may be read after ``until``: as much as the pipe can have held by then.
        self._left = fcntl.fcntl(self._fd, fcntl.F_GETPIPE_SZ)

    async def read(self) -> None:
        """Read, and tell, until the pipe is closed or the time is up."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while chunk := await self._chunk():
            await self._output.take(decoder.decode(chunk))
        await self._output.take(decoder.decode(b"", final=True))
        await self._output.end()

    def finish_by(self, until: float) -> None:
        """Read until then at the longest, on Trio's clock, and what is in the pipe then.

        The one at the other end has exited, so whatever it wrote is read. Not a checkpoint.
        """
        self._until = until
        if self._waiting is not None:
            self._waiting.deadline = until

    async def _chunk(self) -> bytes:
        # A pipe that is always full must not keep everybody else waiting.
        await trio.lowlevel.checkpoint()
        while True:
            if trio.current_time() >= self._until and self._left <= 0:
                return b""
            try:
                chunk = os.read(self._fd, CHUNK)
            except BlockingIOError:
                with trio.CancelScope(deadline=self._until) as self._waiting:
                    await trio.lowlevel.wait_readable(self._fd)
                if self._waiting.cancelled_caught:
                    return b""
                continue
            if trio.current_time() >= self._until:
                self._left -= len(chunk)
            return chunk

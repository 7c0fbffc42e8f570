"""What a command says, line by line, at a pace that others can bear."""

from __future__ import annotations

import codecs
import fcntl
import os
from collections import deque
from math import inf
from typing import TYPE_CHECKING

import trio

from orchestrator.agents._command.meaning import act_on, may_mean, meaning_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.context import Context

# A line beyond so many characters is told in pieces.
LINE = 8_192
# A line that may be a JSON object is kept together up to here, since it may carry a file.
JSON_LINE = 16 << 20
# Others have their turn after so many bytes.
CHUNK = 1 << 14

# What may be told of a command at once, and what comes to it in a second. A line costs 1, and 1
# more for each ``PER_COST`` characters; so what waits in memory and fills the store is bounded.
BURST = 100_000
PER_SECOND = 100
PER_COST = 256
# Once everything is used up, so much is gathered first: gaps are told, and those cost too.
PAUSE_UNTIL = 1_000

# So many characters are kept of each stream's end.
TAIL = 8_192
TAIL_PARTS = 200


class Pace:
    """How much may still be told: a bucket that fills slowly, and is large to begin with."""

    def __init__(self) -> None:
        self._left = float(BURST)
        self._filled = trio.current_time()
        self._pausing = False

    def is_spent(self) -> bool:
        """Return whether nothing may be told at present. Not a checkpoint."""
        now = trio.current_time()
        self._left = min(BURST, self._left + (now - self._filled) * PER_SECOND)
        self._filled = now
        self._pausing = self._left < (PAUSE_UNTIL if self._pausing else 1)
        return self._pausing

    def spend(self, line: str) -> None:
        """A line is told."""
        self._left -= 1 + len(line) // PER_COST


class Output:
    """One of a command's streams.

    Attributes:
        lines: how many there were, the last one also if no newline ends it.
        left_out: how many of them were not told, as they came too fast.
        has_partial: a line set the run's partial result.
    """

    def __init__(self, ctx: Context, pace: Pace, level: str, *, has_meaning: bool) -> None:
        self._ctx = ctx
        self._pace = pace
        self._level = level
        self._has_meaning = has_meaning
        self._parts: list[str] = []
        self._size = 0
        self._gap = 0
        self._tail: deque[str] = deque(maxlen=TAIL_PARTS)
        self.lines = 0
        self.left_out = 0
        self.has_partial = False

    @property
    def tail(self) -> str:
        """The end of what was said, without lines that had a meaning."""
        return "".join(self._tail).removesuffix("\n")[-TAIL:]

    async def take(self, text: str) -> None:
        """Take what came next, and tell the lines that it ends."""
        if "\n" in text and self._pace.is_spent():
            text = "".join((*self._parts, text))
            self._drop()
            if not (self._has_meaning and may_mean(text)):
                self._skip(text)
                return
        *ended, rest = text.split("\n")
        for part in ended:
            self._keep(part)
            self.lines += 1
            line = "".join(self._parts)
            self._drop()
            await self._tell(line.removesuffix("\r"))
        self._keep(rest)
        if self._size > self._limit:
            await self._tell_beginning()

    async def end(self) -> None:
        """Tell what no newline ended, and what was left out last."""
        if self._size:
            await self.take("\n")
        await self._tell_gap()

    @property
    def _limit(self) -> int:
        may_have_meaning = self._has_meaning and self._parts[:1] and self._parts[0][0] == "{"
        return JSON_LINE if may_have_meaning else LINE

    def _keep(self, part: str) -> None:
        if part:
            self._parts.append(part)
            self._size += len(part)

    def _drop(self) -> None:
        self._parts = []
        self._size = 0

    async def _tell_beginning(self) -> None:
        """Tell pieces of a line that is too long to wait for its end."""
        line = "".join(self._parts)
        # Something stays, so that its newline does not seem to end an empty line.
        whole = (len(line) - 1) // LINE * LINE
        self._drop()
        self._keep(line[whole:])
        await self._tell_pieces(line[:whole])

    async def _tell(self, line: str) -> None:
        meaning = meaning_of(line) if self._has_meaning else None
        if meaning is None or not await act_on(self._ctx, meaning):
            await self._tell_pieces(line)
            self._tail.append("\n")
            return
        self.has_partial |= meaning.says("partial")
        if meaning.says("log"):
            await self._say(meaning.log, meaning.level)

    async def _tell_pieces(self, line: str) -> None:
        for piece in _pieces(line):
            self._tail.append(piece)
            await self._say(piece, self._level)

    async def _say(self, line: str, level: str) -> None:
        if self._pace.is_spent():
            self._gap += 1
            self.left_out += 1
            return
        await self._tell_gap()
        self._pace.spend(line)
        await self._ctx.log(line, level)

    async def _tell_gap(self) -> None:
        if self._gap:
            gap, self._gap = self._gap, 0
            await self._ctx.log(f"{gap} lines were left out here: they came too fast", "warning")

    def _skip(self, text: str) -> None:
        """Leave out all lines that the text ends, at once."""
        ended, _, rest = text.rpartition("\n")
        count = ended.count("\n") + 1
        self.lines += count
        self.left_out += count
        self._gap += count
        self._tail.append(f"{ended[-TAIL:]}\n")
        self._keep(rest)


class Reader:
    """Reads a pipe to its end, or for some time beyond the exit of who wrote to it."""

    def __init__(self, stream: object, output: Output) -> None:
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


def _pieces(line: str) -> Iterator[str]:
    for first in range(0, max(1, len(line)), LINE):
        yield line[first : first + LINE]

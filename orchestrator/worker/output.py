"""What a process prints, line by line, at a pace that others can bear."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

# A line beyond so many characters is told in pieces.
LINE = 8_192

# Lines after which others have their turn. Those that are left out wait for nothing.
TURN = 256

# What comes to a pace in a second. A line costs 1, and 1 more for each ``PER_COST`` characters;
# so what waits in memory and fills the store is bounded.
PER_SECOND = 100
PER_COST = 256
# Once everything is used up, so much is gathered first: gaps are told, and those cost too.
PAUSE_UNTIL = 1_000
# So much may still be told once there is a stop.
LAST = 1_000


class Pace:
    """How much may still be told: a bucket that fills slowly, and is large to begin with."""

    def __init__(self, burst: int) -> None:
        self._burst = burst
        self._left = float(burst)
        self._filled = trio.current_time()
        self._pausing = False

    def is_spent(self) -> bool:
        """Return whether nothing may be told at present. Not a checkpoint."""
        now = trio.current_time()
        self._left = min(self._burst, self._left + (now - self._filled) * PER_SECOND)
        self._filled = now
        self._pausing = self._left < (PAUSE_UNTIL if self._pausing else 1)
        return self._pausing

    def hurry(self) -> None:
        """From now on only little more may be told: there is a stop, which waits for it."""
        self._burst = min(self._burst, LAST)
        self._left = min(self._left, self._burst)

    def spend(self, line: str) -> None:
        """A line is told."""
        self._left -= 1 + len(line) // PER_COST


class Output:
    """One stream of what a process prints.

    Attributes:
        lines: how many there were, the last one also if no newline ends it.
        left_out: how many of them were not told, as they came too fast.
    """

    def __init__(self, say: Callable[[str, str], Awaitable[None]], pace: Pace, level: str) -> None:
        """Tell lines by ``say(line, level)``, of this level, as far as the pace allows."""
        self._say = say
        self._pace = pace
        self._level = level
        self._parts: list[str] = []
        self._size = 0
        self._gap = 0
        self.lines = 0
        self.left_out = 0

    async def take(self, text: str) -> None:
        """Take what came next, and tell the lines that it ends."""
        if "\n" in text and self._pace.is_spent():
            text = "".join((*self._parts, text))
            self._drop()
            if not self._matters(text):
                self._skip(text)
                return
        *ended, rest = text.split("\n")
        for part in ended:
            self._keep(part)
            self.lines += 1
            line = "".join(self._parts)
            self._drop()
            await self._tell(line.removesuffix("\r"))
            if self.lines % TURN == 0:
                await trio.lowlevel.checkpoint()
        self._keep(rest)
        if self._size > self._limit:
            await self._tell_beginning()

    async def end(self) -> None:
        """Tell what no newline ended, and what was left out last."""
        if self._size:
            await self.take("\n")
        await self._tell_gap()

    # What there is to know of the lines is for subclasses to say.

    @property
    def _limit(self) -> int:
        """So many characters of a line are waited for."""
        return LINE

    def _matters(self, text: str) -> bool:
        """Whether lines of a text must be looked at although nothing may be told."""
        return False

    async def _tell(self, line: str) -> None:
        """Tell one whole line."""
        await self._tell_pieces(line)

    async def _tell_pieces(self, line: str) -> None:
        for piece in _pieces(line):
            await self._tell_piece(piece, self._level)

    async def _tell_piece(self, piece: str, level: str) -> None:
        if self._pace.is_spent():
            self._gap += 1
            self.left_out += 1
            return
        await self._tell_gap()
        self._pace.spend(piece)
        await self._say(piece, level)

    def _skip(self, text: str) -> None:
        """Leave out all lines that the text ends, at once."""
        ended, _, rest = text.rpartition("\n")
        count = ended.count("\n") + 1
        self.lines += count
        self.left_out += count
        self._gap += count
        self._keep(rest)

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

    async def _tell_gap(self) -> None:
        if self._gap:
            gap, self._gap = self._gap, 0
            await self._say(f"{gap} lines were left out here: they came too fast", "warning")


def _pieces(line: str) -> Iterator[str]:
    for first in range(0, max(1, len(line)), LINE):
        yield line[first : first + LINE]

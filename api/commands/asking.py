"""A run's questions, put to the person at the keyboard."""

from __future__ import annotations

import os
import sys
import termios
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

import trio

from api.commands.values import read_answer
from api.sse import ending_of
from api.terminal import asked_by, question_block
from orchestrator import NobodyAsks, OrchestratorError, RunEnded, UnknownRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from api.commands.target import Target
    from api.terminal import Screen
    from orchestrator import Event, Question

# A terminal hands over a line at a time, and none is longer.
LINE_BYTES = 4096

_Key = tuple[str, str]


class Desk:
    """Where questions wait for the person at the keyboard, one after the other."""

    def __init__(self, target: Target, screen: Screen) -> None:
        self._target = target
        self._screen = screen
        self._open: dict[_Key, Question] = {}
        self._changed = trio.Event()
        # The question that is being put, and what ends that.
        self._put: tuple[_Key, trio.CancelScope] | None = None

    def note(self, event: Event) -> None:
        """Take in what has happened. Not a checkpoint."""
        if event.type == "run.asked":
            question = asked_by(event)
            self._open[event.run_id, question.id] = question
            self._changed.set()
        elif event.type == "run.answered":
            self._withdraw((event.run_id, event.data["question_id"]))
        elif event.type == "run.stopping" or ending_of(event) is not None:
            for key in [key for key in self._open if key[0] == event.run_id]:
                self._withdraw(key)

    async def serve(self) -> None:
        """Put each question until it is answered or withdrawn, or the keyboard is given up."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            while self._open:
                key, question = next(iter(self._open.items()))
                if not sys.stdin.isatty() or not await self._ask(key, question):
                    self._screen.say(self._target.how_to_answer(key[0]))
                self._open.pop(key, None)

    def _withdraw(self, key: _Key) -> None:
        self._open.pop(key, None)
        if self._put is not None and self._put[0] == key:
            self._put[1].cancel(reason="nobody asks any more")

    async def _ask(self, key: _Key, question: Question) -> bool:
        """Put one question; False if the person at the keyboard does not want to answer."""
        # What was typed before the question was seen is no answer to it.
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        with trio.move_on_after(_left_s(question)) as scope:
            self._put = (key, scope)
            with self._screen.asking(question_block(question)) as ask_again:
                return await self._take_answer(key, question, ask_again)
        return True

    async def _take_answer(
        self, key: _Key, question: Question, ask_again: Callable[[str], None]
    ) -> bool:
        while (line := await read_line()) is not None:
            if not line:
                ask_again("")
                continue
            try:
                await self._target.answer(*key, read_answer(line, question.schema))
            except (NobodyAsks, RunEnded, UnknownRun):
                return True
            except OrchestratorError as error:
                ask_again(str(error))
            else:
                return True
        return False


async def read_line() -> str | None:
    """Return the next line of a terminal; None at its end, which is Ctrl-D. A checkpoint."""
    await trio.lowlevel.wait_readable(sys.stdin.fileno())
    data = os.read(sys.stdin.fileno(), LINE_BYTES)
    return data.decode(errors="replace").strip() if data else None


def _left_s(question: Question) -> float:
    if question.until_at is None:
        return inf
    return max((datetime.fromisoformat(question.until_at) - datetime.now(UTC)).total_seconds(), 0)

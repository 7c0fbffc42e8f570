"""Questions of a run to people.

A question is durable before it is shown, and its answer before it is acknowledged or returned.
Its id depends on what is asked only, so a run that starts again finds the answers that it had.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from math import inf
from typing import TYPE_CHECKING, Any

import trio

from orchestrator.errors import InvalidInput, NobodyAsks, NotAnswered, check_text
from orchestrator.events import RunAnswered, RunAsked, RunWithdrawn
from orchestrator.faults import as_said, is_number
from orchestrator.model import Question
from orchestrator.options import LONGEST_S
from orchestrator.part import Part
from orchestrator.sections import current_section, forbid_inside_operation
from orchestrator.shapes import Shape
from orchestrator.steps import step_around

if TYPE_CHECKING:
    from orchestrator.model import Json
    from orchestrator.ports import RunPort


class _Open:
    """A question that waits."""

    __slots__ = ("answered", "question", "section", "shape", "value")

    def __init__(self, question: Question, shape: Shape) -> None:
        self.question = question
        self.shape = shape
        # That it is asked in, which may hold a stop back.
        self.section = current_section()
        self.answered = trio.Event()
        self.value: Any = None


class Questions(Part["RunPort"]):
    """What one run asks."""

    __slots__ = ("_asked", "_open")

    def __init__(self, run: RunPort) -> None:
        super().__init__(run)
        self._asked: defaultdict[str, int] = defaultdict(int)
        self._open: dict[str, _Open] = {}

    async def ask(self, question: str, wanted: Any, within_s: float | None) -> Any:
        """Ask and wait for the answer; see ``Context.ask``."""
        check_text("question", question)
        if within_s is not None and not (is_number(within_s) and 0 < within_s <= LONGEST_S):
            why = f"{as_said(within_s)} is not a positive number of seconds, ten years at most"
            raise InvalidInput([("within_s", why)])
        shape = Shape(wanted)
        forbid_inside_operation("a question")
        await self._run.gate.admit("ask", question)
        asked = self._open_question(question, shape, within_s)
        name = f"ask:{asked.question.id}"
        known, answer = await self._run.steps.recall(self._run, name)
        if known:
            return shape.read(answer, "answer")
        return await self._wait(asked, within_s)

    def answer(self, question_id: str, answer: Json, answered_by: str) -> None:
        """Take an answer; see ``Run.answer``. Not a checkpoint."""
        asked = self._open.get(question_id)
        # A stop withdraws it at once, and not only when the code that asks has its turn.
        if asked is None or (self._run.gate.closed and not (asked.section and asked.section.open)):
            raise NobodyAsks(self._run.id, question_id)
        asked.value = asked.shape.read(answer, "answer")
        del self._open[question_id]
        self._run.ledger.save(
            self._run.steps.record(self._run, f"ask:{question_id}", answer),
            payload=RunAnswered(question_id, answer, answered_by),
            urgent=True,
            waiting_for=self._oldest(),
        )
        self._run.note_activity()
        asked.answered.set()

    def _open_question(self, question: str, shape: Shape, within_s: float | None) -> _Open:
        said = json.dumps([question, shape.schema, step_around(self._run.path)], sort_keys=True)
        self._asked[said] += 1
        digest = hashlib.sha256(f"{self._asked[said]} {said}".encode()).hexdigest()[:12]
        return _Open(
            Question(
                id=digest,
                question=question,
                schema=shape.schema,
                asked_at=self._run.now(0),
                until_at=None if within_s is None else self._run.now(within_s),
            ),
            shape,
        )

    async def _wait(self, asked: _Open, within_s: float | None) -> Any:
        question = asked.question
        self._open[question.id] = asked
        self._run.ledger.save(
            payload=RunAsked(question.id, question.question, question.schema, question.until_at),
            urgent=True,
            waiting_for=self._oldest(),
        )
        # A step that let this through has nothing more to start.
        self._run.parked()
        try:
            with trio.move_on_after(inf if within_s is None else within_s):
                await asked.answered.wait()
        finally:
            if self._open.pop(question.id, None) is not None:
                gone = RunWithdrawn(question.id)
                self._run.ledger.save(payload=gone, urgent=True, waiting_for=self._oldest())
        if not asked.answered.is_set():
            assert within_s is not None
            raise NotAnswered(question.question, within_s)
        await self._run.journal.stored(self._run.ticket)
        await self._run.gate.park()
        return asked.value

    def _oldest(self) -> Question | None:
        return next((asked.question for asked in self._open.values()), None)
